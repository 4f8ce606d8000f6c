"""The arguments of `entigraph ui`."""

import socket
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from entigraph.config.arguments import add_root, parse_arguments
from entigraph.errors import ConfigError
from entigraph.storage.artifact import FORMAT_VERSIONS

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 7860


def ui_main(arguments: Sequence[str]) -> None:
    """Executes `entigraph ui`."""
    options = parse_arguments(ui_parser(), arguments)
    root = options.root.resolve()
    check_root(root)
    if find_spec("gradio") is None:
        raise ConfigError("entigraph ui needs Gradio; install it with pip install 'entigraph[ui]'")
    check_port(options.host, options.port)
    from entigraph.ui.web_app import launch

    launch(root, options.host, options.port, options.device, options.open)


def ui_parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="entigraph ui",
        description="A local web app: studies, running sweeps, conversations with trained models, synthetic texts.",
    )
    add_root(parser)
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="default: %(default)s")
    parser.add_argument(
        "--host",
        default=LOOPBACK,
        help="default: %(default)s, which only this machine reaches; the app has no passwords",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the models that answer")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser


def check_root(root: Path) -> None:
    """Raises ConfigError if there is nothing to show."""
    if not any(folder.is_dir() for stage in FORMAT_VERSIONS for folder in (root / stage).glob("*")):
        raise ConfigError(f"{root} has no runs to show; run a study first, or set --root to the outputs of your runs")


def check_port(host: str, port: int) -> None:
    """Raises ConfigError if the app could not listen there."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port: cannot listen on {host}:{port} ({error}); choose another with --port") from None
