"""The arguments of `entigraph ask` and `entigraph chat`."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from entigraph.chat.conversation import QUESTION_PROMPT, PromptMode, PromptSettings
from entigraph.chat.session import DEFAULT_PASSAGES, ChatSession, open_session
from entigraph.config.arguments import add_root, parse_arguments
from entigraph.errors import ConfigError

MODEL_HELP = "a run (name or folder), a Hugging Face folder or a Hub ID; default: the newest finished run"


def ask_main(arguments: Sequence[str]) -> None:
    """Executes `entigraph ask`."""
    from entigraph.chat.terminal import ask

    options = parse_arguments(ask_parser(), arguments)
    questions = [*options.questions, *(read_questions(options.file) if options.file else ())]
    if not questions:
        raise ConfigError('no question; write entigraph ask "QUESTION", or --file with one question per line')
    ask(session_of(options), questions, options.why, options.json)


def chat_main(arguments: Sequence[str]) -> None:
    """Executes `entigraph chat`."""
    from entigraph.chat.terminal import Terminal

    terminal = Terminal(session_of(parse_arguments(chat_parser(), arguments)))
    terminal.load()
    terminal.converse()


def ask_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="entigraph ask",
        description="Asks a trained model and its base model, and prints both answers.",
    )
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help="each is answered on its own")
    parser.add_argument("--model", help=MODEL_HELP)
    parser.add_argument(
        "--file",
        type=Path,
        help="a text file with one question per line; lines that start with '# ' are comments; - is standard input",
    )
    add_model_options(parser)
    parser.add_argument("--no-base", action="store_true", help="ask only the trained model")
    parser.add_argument("--why", action="store_true", help="list what mentions the names in the first model's answer")
    parser.add_argument("--json", action="store_true", help="print one JSON object per question")
    return parser


def chat_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="entigraph chat", description="A conversation with a trained model in the terminal.")
    parser.add_argument("model", nargs="?", help=MODEL_HELP)
    add_model_options(parser)
    parser.add_argument("--with-base", action="store_true", help="also ask the base model")
    return parser


def add_model_options(parser: ArgumentParser) -> None:
    add_root(parser)
    parser.add_argument("--base", metavar="MODEL", help="the second model, if not the run's base model")
    parser.add_argument(
        "--mode",
        type=PromptMode,
        choices=list(PromptMode),
        default=PromptMode.auto,
        help="completion of --prompt, or the model's chat template (auto: chat if the model has a template)",
    )
    parser.add_argument("--prompt", default=QUESTION_PROMPT, help="template of completions (default: %(default)s)")
    parser.add_argument(
        "--open-book",
        nargs="?",
        type=int,
        const=DEFAULT_PASSAGES,
        default=0,
        metavar="N",
        help=f"put N passages of the run's documents into the prompt (BM25; without N: {DEFAULT_PASSAGES})",
    )
    parser.add_argument("--turns", type=int, help="earlier turns in the prompt (default: all in chat mode, else none)")
    parser.add_argument("--max-tokens", type=int, default=200, help="per answer (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy (default)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def session_of(options: Namespace) -> ChatSession:
    if options.open_book < 0:
        raise ConfigError(f"--open-book must be a number of passages, got {options.open_book}")
    settings = PromptSettings(
        mode=options.mode,
        prompt=options.prompt,
        turns=options.turns,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
    )
    with_base = not options.no_base if hasattr(options, "no_base") else options.with_base
    session = open_session(
        options.model,
        options.root,
        base=options.base,
        with_base=with_base,
        settings=settings,
        passages=options.open_book,
        device=options.device,
    )
    if with_base and session.base is None:
        name = session.model.name
        print(
            f"note: no base model is known for {name}; it started from random weights, or no run trained it",
            file=sys.stderr,
        )
    return session


def read_questions(file: Path) -> list[str]:
    """Returns the lines of a file without empty lines and comments, which start with "# "."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--file: cannot read {file}: {error}") from None
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and line != "#" and not line.startswith("# ")]
