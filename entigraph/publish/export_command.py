"""`entigraph export`: a Modelfile for Ollama, or question-answer texts for other training tools."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from entigraph.chat.model_selection import select_model
from entigraph.config.arguments import add_root, parse_arguments
from entigraph.errors import ConfigError
from entigraph.publish.ollama import FILE, render_modelfile
from entigraph.publish.published_files import find_folder
from entigraph.publish.qa_formats import QAFormat, export_pairs
from entigraph.storage.data_losses import count_of


def export_main(arguments: Sequence[str]) -> None:
    """Executes `entigraph export`."""
    options = parse_arguments(export_parser(), arguments)
    if options.target == "ollama":
        export_modelfile(options.name, options.root, options.out or Path(FILE))
        return
    kind = QAFormat(options.target)
    synthesis = find_folder(options.name, options.root.resolve() / "synthesis")
    file = check_new(options.out or Path(f"{synthesis.name}-{kind}.jsonl"))
    pairs, texts, without = export_pairs(synthesis, file, kind)
    print(
        f"{file}: {count_of(pairs, 'question-answer pair')} of {count_of(texts, 'text')}"
        + (f"; left out {count_of(without, 'text')} without a pair" if without else "")
    )


def export_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="entigraph export",
        description="Writes a Modelfile with which Ollama imports a trained model, or the question-answer pairs of "
        "augmenter=qa, summaries or knowledge_instruct as chat messages, Alpaca or ShareGPT records (JSON Lines).",
    )
    parser.add_argument("target", choices=("ollama", *(kind.value for kind in QAFormat)), help="the format")
    parser.add_argument("name", help="a run or model folder for ollama, else a synthesis")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file to write, which must not exist yet")
    add_root(parser)
    return parser


def export_modelfile(name: str, root: Path, out: Path) -> None:
    text = render_modelfile(select_model(name, root))
    check_new(out).write_text(text, encoding="utf-8")
    print(f"{out}: import the model with ollama create NAME -f {out}")


def check_new(file: Path) -> Path:
    """Returns the file. Raises ConfigError if it exists or its folder does not."""
    if file.exists():
        raise ConfigError(f"--out: {file} exists; name another file")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--out: {file.absolute().parent} does not exist")
    return file
