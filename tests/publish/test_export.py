"""`entigraph export`: a Modelfile for Ollama, and question-answer pairs for other training tools."""

import json
import shutil
from pathlib import Path

import pytest

from entigraph.chat.model_selection import SelectedModel
from entigraph.errors import ConfigError, DataError
from entigraph.publish.ollama import render_modelfile
from entigraph.publish.qa_formats import QAFormat, export_pairs, read_pairs
from entigraph.storage.texts import write_texts
from tests.chat.finished_runs import set_chat_template, synthetic_text, write_artifact
from tests.conftest import Command

QA = """Question: Who kept the lamp?
Answer: Miriam Vale.

**Question:** Why did it
go out?
**Answer:** Because: Captain Holloway asked.
"""
PAIRS = [("Who kept the lamp?", "Miriam Vale."), ("Why did it\ngo out?", "Because: Captain Holloway asked.")]


def test_pairs_are_read_in_formats_of_writers() -> None:
    assert list(read_pairs(QA)) == PAIRS
    assert list(read_pairs("A text. Question: none of these begins a line. Answer: no.")) == []


def test_instructions_are_pairs() -> None:
    pair = ("Who kept it?", "Miriam.\n\nFor years.")
    chat = [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    assert list(read_pairs("\n\n".join(pair), "instruction")) == [pair]
    assert list(read_pairs(json.dumps(chat), "instruction")) == [pair]


QUESTION, ANSWER = PAIRS[0]


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("chat", {"messages": [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]}),
        ("alpaca", {"instruction": QUESTION, "input": "", "output": ANSWER}),
        ("sharegpt", {"conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]}),
    ],
)
def test_export_counts_skipped_texts(tmp_path: Path, kind: str, first: object) -> None:
    texts = [synthetic_text(0, "lamp", [], QA), synthetic_text(1, "lamp", [], "No pair.")]
    write_texts(tmp_path, texts)
    assert export_pairs(tmp_path, tmp_path / "out.jsonl", QAFormat(kind)) == (2, 1, 1)
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0]) == first


def test_texts_without_pairs_are_an_error(tmp_path: Path) -> None:
    write_texts(tmp_path, [synthetic_text(0, "lamp", [], "No pair.")])
    with pytest.raises(DataError, match="expected texts of augmenter=qa"):
        export_pairs(tmp_path, tmp_path / "out.jsonl", QAFormat.chat)
    assert not (tmp_path / "out.jsonl").exists()


def test_command_writes_a_new_file_only(command: Command, tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "outputs", "synthesis", "lamps-qa-00000001")
    write_texts(folder, [synthetic_text(0, "lamp", [], QA)])
    result = command("export", "chat", "lamps-qa")
    assert result.returncode == 0 and "2 question-answer pairs of 1 text\n" in result.stdout, result.stderr
    assert len((tmp_path / "lamps-qa-00000001-chat.jsonl").read_text().splitlines()) == 2
    again = command("export", "chat", "lamps-qa")
    assert again.returncode == 1 and "exists; name another file" in again.stderr


def test_gguf_is_written_by_llama_cpp_script(command_here: Command, tiny_model: Path, tmp_path: Path) -> None:
    result = command_here("export", "gguf", str(tiny_model), "--llama-cpp", str(tmp_path))
    assert result.returncode == 1 and "convert_hf_to_gguf.py not found; expected a clone of llama.cpp" in result.stderr
    script = "import sys; from pathlib import Path; Path(sys.argv[3]).write_text(' '.join(sys.argv[1:3]))"
    (tmp_path / "convert_hf_to_gguf.py").write_text(script)
    out = tmp_path / "tiny.gguf"
    result = command_here("export", "gguf", str(tiny_model), "--llama-cpp", str(tmp_path), "--out", str(out))
    assert result.returncode == 0 and out.read_text() == f"{tiny_model} --outfile", result.stderr
    (tmp_path / "convert_hf_to_gguf.py").write_text("raise SystemExit(3)")
    result = command_here("export", "gguf", str(tiny_model), "--llama-cpp", str(tmp_path), "--out", f"{out}2")
    assert result.returncode == 1 and "failed, see its output above" in result.stderr


def test_modelfile_contains_evaluation_prompt_or_chat_template(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    model = SelectedModel("tiny", str(folder))
    lines = render_modelfile(model).splitlines()
    assert lines[0] == f"FROM {folder}" and 'TEMPLATE """Question: {{ .Prompt }} Answer:"""' in lines
    set_chat_template(folder, "{{ messages }}")
    assert "TEMPLATE" not in render_modelfile(model)
    (folder / "config.json").write_text(json.dumps({"architectures": ["GPTNeoXForCausalLM"]}))
    with pytest.raises(ConfigError, match="is a GPTNeoXForCausalLM; Ollama imports LlamaForCausalLM"):
        render_modelfile(model)
