"""The Modelfile with which Ollama imports a trained model."""

from pathlib import Path

from entigraph.chat.conversation import QUESTION_PROMPT
from entigraph.chat.model_selection import SelectedModel
from entigraph.errors import ConfigError
from entigraph.storage.artifact import read_json

FILE = "Modelfile"
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Qwen2ForCausalLM",
                 "Qwen3ForCausalLM", "Phi3ForCausalLM")  # fmt: skip


def render_modelfile(model: SelectedModel) -> str:
    """Returns the Modelfile. A model without a chat template receives questions in the prompt of the evaluations.

    Raises ConfigError for a model that Ollama cannot import from safetensors.
    """
    folder = Path(model.path).expanduser().resolve()
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{model.name} is not a folder on this machine; Ollama imports local folders")
    config = read_json(folder / "config.json")
    architecture = next(iter(config.get("architectures") or ["an unknown architecture"]))
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"{model.name} is a {architecture}; Ollama imports {', '.join(ARCHITECTURES)}")
    lines = [f"FROM {folder}"]
    if not has_chat_template(folder):  # Ollama recognizes the templates of known chat models
        before, after = QUESTION_PROMPT.split("{question}")
        lines += [f'TEMPLATE """{before}{{{{ .Prompt }}}}{after}"""', f'PARAMETER stop "{before.strip()}"']
    lines.append("PARAMETER temperature 0")
    return "\n".join(lines) + "\n"


def has_chat_template(folder: Path) -> bool:
    settings = folder / "tokenizer_config.json"
    known = settings.exists() and read_json(settings).get("chat_template")
    return bool(known) or (folder / "chat_template.jinja").exists()
