"""Pages of the documentation site that are generated from other files; a MkDocs hook.

The home page is README.md, the experiments are experiments/README.md, the configuration reference lists every key of
`conf/` with its default and its comment, and the command-line reference is what `--help` prints.
"""

import re
from argparse import HelpFormatter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONF = ROOT / "conf"
API = """# API reference

::: entigraph.api
    options:
      members: [compose, plan, run, Plan, Result, Study]
"""


def on_files(files: Any, *, config: Any) -> Any:
    from mkdocs.structure.files import File

    pages = {
        "index.md": site_links((ROOT / "README.md").read_text(encoding="utf-8"), "docs/"),
        "experiments.md": site_links((ROOT / "experiments" / "README.md").read_text(encoding="utf-8"), "../docs/"),
        "configuration.md": render_configuration(),
        "cli.md": render_commands(),
        "api.md": API,
    }
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return site_links(markdown, "")


def site_links(markdown: str, docs: str) -> str:
    """Returns a page of the repository with links for the site."""
    markdown = re.sub(rf"(\]\(){re.escape(docs)}", r"\1", markdown)
    markdown = re.sub(r"\]\((?:\.\./)?experiments/README\.md", "](experiments.md", markdown)
    markdown = re.sub(r"\]\((?:\.\./)?README\.md", "](index.md", markdown)
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)*(?:CITATION\.cff|LICENSE)\)", r"`\1`", markdown)


def render_commands() -> str:
    """Returns the reference of the command line, in Markdown."""
    from omegaconf import OmegaConf

    from entigraph.chat.chat_command import ask_parser, chat_parser
    from entigraph.publish.export_command import export_parser
    from entigraph.publish.publish_command import publish_parser
    from entigraph.ui.ui_command import ui_parser

    help_texts = OmegaConf.load(CONF / "config.yaml").hydra.help
    lines = ["# Command line", "", "What `entigraph --help` prints:", "", "```text", help_texts.header.rstrip(), "```"]
    for parser in (ask_parser(), chat_parser(), ui_parser(), publish_parser(), export_parser()):
        parser.formatter_class = partial(HelpFormatter, width=110)
        lines += ["", f"## {parser.prog}", "", "```text", parser.format_help().rstrip(), "```"]
    return "\n".join(lines) + "\n"


def render_configuration() -> str:
    """Returns the reference of all config groups and keys, in Markdown."""
    groups = {
        folder.relative_to(CONF).as_posix(): folder
        for folder in sorted(CONF.rglob("*"))
        if folder.is_dir() and "hydra" not in folder.relative_to(CONF).parts
    }
    lines = [
        "# Configuration",
        "",
        "Every option of every config group, with its keys, defaults and comments. `GROUP=OPTION` selects an option,",
        "`GROUP.KEY=VALUE` sets a key, and `+GROUP.KEY=VALUE` adds one that is not listed.",
        "",
        "| group | options |",
        "|---|---|",
    ]
    for group, folder in groups.items():
        options = " ".join(
            f"[`{option.stem}`](#{anchor(group, option.stem)})" for option in sorted(folder.glob("*.yaml"))
        )
        lines.append(f"| [`{group}`](#{anchor(group)}) | {options} |")
    lines += ["", "## Root", "", *render_option(CONF / "config.yaml")]
    for group, folder in groups.items():
        lines += ["", f"## {group} {{ #{anchor(group)} }}"]
        for option in sorted(folder.glob("*.yaml")):
            lines += [
                "",
                f"### {group}={option.stem} {{ #{anchor(group, option.stem)} }}",
                "",
                *render_option(option),
            ]
    return "\n".join(lines) + "\n"


def anchor(group: str, option: str = "") -> str:
    return group.replace("/", "-") + option


def render_option(file: Path) -> Iterator[str]:
    """Yields the comment at the head of an option's file, and its content without that comment."""
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    head = [line for line in lines[: first_key(lines)] if line.startswith("#")]
    yield from (line.removeprefix("# ").replace("<", "&lt;") for line in head)
    body = lines[first_key(lines) :]
    if file.name == "config.yaml":
        body = [line for line in body[: next(i for i, line in enumerate(body) if line == "hydra:")]]
    yield from ("", "```yaml", *body, "```")


def first_key(lines: list[str]) -> int:
    return next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
