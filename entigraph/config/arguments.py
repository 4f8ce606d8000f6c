"""Arguments of the commands without a configuration: ask, chat, ui, publish, export."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

ROOT_OVERRIDE = "paths.root="


def add_root(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--root",
        type=Path,
        default=Path("outputs"),
        metavar="DIR",
        help=f"the outputs of your runs; {ROOT_OVERRIDE}DIR works too (default: %(default)s)",
    )


def parse_arguments(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parses the arguments, where paths.root=DIR, as in the other commands, is --root DIR."""
    words = [
        f"--root={word.removeprefix(ROOT_OVERRIDE)}" if word.startswith(ROOT_OVERRIDE) else word for word in arguments
    ]
    return parser.parse_args(words)
