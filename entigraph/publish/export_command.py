"""`entigraph export`: a Modelfile for Ollama, a GGUF file, or question-answer texts for other training tools."""

import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from entigraph.chat.model_selection import select_model
from entigraph.config.arguments import add_root, parse_arguments
from entigraph.errors import ConfigError, EntigraphError
from entigraph.publish.ollama import FILE, render_modelfile
from entigraph.publish.published_files import find_folder
from entigraph.publish.qa_formats import QAFormat, export_pairs
from entigraph.storage.data_losses import count_of

GGUF_SCRIPT = "convert_hf_to_gguf.py"


def export_main(arguments: Sequence[str]) -> None:
    """Executes `entigraph export`."""
    options = parse_arguments(export_parser(), arguments)
    if options.target == "ollama":
        export_modelfile(options.name, options.root, options.out or Path(FILE))
        return
    if options.target == "gguf":
        export_gguf(options.name, options.root, options.out, options.llama_cpp)
        return
    kind = QAFormat(options.target)
    synthesis = find_folder(options.name, options.root.resolve() / "synthesis")
    file = check_new(options.out or Path(f"{synthesis.name}-{kind}.jsonl"))
    num_pairs, num_texts, num_without = export_pairs(synthesis, file, kind)
    print(
        f"{file}: {count_of(num_pairs, 'question-answer pair')} of {count_of(num_texts, 'text')}"
        + (f"; skipped {count_of(num_without, 'text')} without a pair" if num_without else "")
    )


def export_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="entigraph export",
        description="Writes a Modelfile with which Ollama imports a trained model, a GGUF file of it, or the "
        "question-answer pairs of augmenter=qa, summaries or knowledge_instruct as chat messages, Alpaca or ShareGPT "
        "records (JSON Lines).",
    )
    parser.add_argument("target", choices=("ollama", "gguf", *(kind.value for kind in QAFormat)), help="the format")
    parser.add_argument("name", help="a run or model folder for ollama and gguf, else a synthesis")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write, which must not exist yet")
    parser.add_argument("--llama-cpp", type=Path, metavar="FOLDER", help=f"a clone of llama.cpp with {GGUF_SCRIPT}")
    add_root(parser)
    return parser


def export_modelfile(name: str, root: Path, out: Path) -> None:
    text = render_modelfile(select_model(name, root))
    check_new(out).write_text(text, encoding="utf-8")
    print(f"{out}: import the model with ollama create NAME -f {out}")


def export_gguf(name: str, root: Path, out: Path | None, llama_cpp: Path | None) -> None:
    """Runs llama.cpp's script. Raises ConfigError if it is not there, EntigraphError if it fails."""
    model = select_model(name, root)
    script = (llama_cpp or Path()) / GGUF_SCRIPT
    if llama_cpp is None or not script.is_file():
        raise ConfigError(f"--llama-cpp: {script} not found; expected a clone of llama.cpp, which converts models")
    file = check_new(out or Path(f"{model.name}.gguf"))
    if subprocess.run([sys.executable, str(script), model.path, "--outfile", str(file)]).returncode:
        raise EntigraphError(f"{script} failed, see its output above; it also needs the packages of llama.cpp")
    print(f"{file}: run it with llama-cli -m {file}")


def check_new(file: Path) -> Path:
    """Returns the file. Raises ConfigError if it exists or its folder does not."""
    if file.exists():
        raise ConfigError(f"--out: {file} exists; name another file")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--out: {file.absolute().parent} does not exist")
    return file
