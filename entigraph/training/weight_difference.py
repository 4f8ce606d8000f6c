"""Adds what instruction tuning changed to a trained base model: its weights plus (instruct − base).

The sum is computed in fp64, so that a model whose training changed nothing becomes the instruct model exactly.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from entigraph.errors import ConfigError
from entigraph.huggingface.model_folders import pretrained_source
from entigraph.huggingface.models import build_meta_model, list_names, load_config, load_model, weights_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEY = "model.add_difference"
CHAT_TEMPLATE = "chat_template.jinja"
MAX_CHANGE = 0.7  # change of a weight matrix / its norm; about 1.4 between unrelated models


def check_difference(base: str, instruct: str) -> None:
    """Raises ConfigError unless `instruct` is a tuned version of `base`, with weights of the same names and shapes.

    Reads names and shapes, and one weight matrix of each.
    """
    models = build_meta_model(base), load_named(build_meta_model, instruct)
    shapes, others = ({name: [*value.shape] for name, value in model.state_dict().items()} for model in models)
    missing, unexpected = shapes.keys() - others.keys(), others.keys() - shapes.keys()
    different = [
        f"{name} ({others[name]} instead of {shapes[name]})"
        for name in shapes.keys() & others.keys()
        if shapes[name] != others[name]
    ]
    groups = {"missing": missing, "unexpected": unexpected, "of a different shape": different}
    problems = "; ".join(f"{kind}: {list_names(names)}" for kind, names in groups.items() if names)
    if problems:
        raise ConfigError(
            f"{KEY}: {instruct} does not have the weights of model.path={base}: {problems}; {advice(base)}"
        )
    change = relative_change(base, instruct)
    if change is not None and change > MAX_CHANGE:
        raise ConfigError(
            f"{KEY}: {instruct} was tuned from a base model other than model.path={base}: a weight matrix differs by "
            f"{change:.0%} of its norm, more than {MAX_CHANGE:.0%}; {advice(base)}"
        )


def advice(base: str) -> str:
    return f"set it to a model that was tuned from {base}, such as its Instruct version"


def relative_change(base: str, instruct: str) -> float | None:
    """Returns by how much of its norm a weight matrix differs; None without safetensors on both sides."""
    from safetensors import safe_open

    folders = [weights_folder(path) for path in (base, instruct)]
    files_by_name: list[dict[str, Path]] = []
    for folder in folders:
        names: dict[str, Path] = {}
        for file in sorted(folder.glob("*.safetensors")) if folder else ():
            with safe_open(str(file), "pt") as tensors:
                names |= {name: file for name in tensors.keys() if len(tensors.get_slice(name).get_shape()) == 2}  # noqa: SIM118
        files_by_name.append(names)
    shared = sorted(files_by_name[0].keys() & files_by_name[1].keys())
    if not shared:
        return None
    values = []
    for names in files_by_name:
        with safe_open(str(names[shared[0]]), "pt") as tensors:
            values.append(tensors.get_tensor(shared[0]).float())
    return float((values[1] - values[0]).norm() / values[0].norm())


def add_difference(
    weights: Iterable[tuple[str, "torch.Tensor"]], base: str, instruct: str
) -> Iterator[tuple[str, "torch.Tensor"]]:
    """Yields the weights plus those of `instruct` minus those of `base`, on the CPU.

    Both models are loaded with the first weight, so not on ranks that have none.
    """
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}
    for name, value in weights:
        if not before:
            before, after = load_model(base).state_dict(), load_named(load_model, instruct).state_dict()
        if not value.is_floating_point():  # a buffer
            yield name, value
            continue
        yield name, value.detach().cpu().double() + (after[name].double() - before[name].double())


def load_named(load: "Callable[[str], PreTrainedModel]", path: str) -> "PreTrainedModel":
    """Returns a model; an error names the key."""
    try:
        return load(path)
    except ConfigError as error:
        raise ConfigError(str(error).replace("model.path", KEY, 1)) from None


def copy_conversation_files(instruct: str, folder: Path) -> None:
    """Gives an exported model the generation config and, if it has none, the chat template of the instruct model."""
    from transformers import AutoTokenizer

    load_config(instruct)[1].save_pretrained(folder)
    try:
        template = AutoTokenizer.from_pretrained(**pretrained_source(instruct)).chat_template
    except (OSError, ValueError):
        return
    if isinstance(template, str) and not (folder / CHAT_TEMPLATE).exists():
        (folder / CHAT_TEMPLATE).write_text(template, encoding="utf-8")
