"""The documentation agrees with the files it refers to."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType

import pytest
from omegaconf import DictConfig

from entigraph.cli import TOOLS
from entigraph.config.overrides import normalize_overrides
from entigraph.config.schema import Command
from tests.conftest import study_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(<!-- not run -->\n)?```([a-z]*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHER_COMMAND = re.compile(
    r"^((git|export|python3?|pip|wandb|llama-server|ollama|vllm|ssh|source|cd) |\.venv/|.*entigraph\.run\()",
    re.MULTILINE,
)
LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")


def heading_anchors(page: Path) -> set[str]:
    """Anchors as GitHub derives them from headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", "experiments/README.md", "docs/getting-started.md"])
def test_page_states_published_results(page: str) -> None:
    embed = load(ROOT / "docs" / "results" / "embed.py")
    results, text = embed.RESULTS.read_text(encoding="utf-8"), (ROOT / page).read_text(encoding="utf-8")
    assert (embed.summarize(results) if page == "README.md" else results) in text, "run `make results`"
    assert embed.embed(results, text) == text


def load(file: Path) -> ModuleType:
    """Imports a program that is not part of a package."""
    specification = importlib.util.spec_from_file_location(file.stem, file)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in heading_anchors(linked), f"{page.name}: {target}#{anchor}"


def test_every_experiment_is_documented() -> None:
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    names = [str(file.relative_to(ROOT / "experiments").with_suffix("")) for file in ROOT.glob("experiments/**/*.yaml")]
    assert names and not [name for name in names if f"`{name}" not in text]


def test_site_builds_without_warnings_and_lists_every_option(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    configuration = (tmp_path / "configuration" / "index.html").read_text(encoding="utf-8")
    options = [file for file in ROOT.glob("conf/*/*.yaml") if file.parent.name != "hydra"]
    assert options
    assert not [file for file in options if f'id="{file.parent.name}{file.stem}"' not in configuration]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def documented_commands() -> Iterator[tuple[str, list[str]]]:
    """Yields the name of a page and the arguments of each complete `entigraph` command in its code blocks."""
    for page, arguments in code_block_commands():
        if arguments[0] not in TOOLS:
            yield page, arguments


def code_block_commands() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        if page.name == "extending.md":  # tests/extending runs these
            continue
        for block in re.findall(r"^```\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s\s+#.*", "", line)
                if re.match(r"entigraph ([a-z]+( |$)|stage=)", command) and not command.endswith(("...", "…")):
                    yield page.name, shlex.split(command)[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_no_test_reads_are_marked(page: Path) -> None:
    """Other commands of code blocks are composed or parsed by the tests below, and Python is run."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for mark, _, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        assert mark or not OTHER_COMMAND.search(block), f"{page.name}: add <!-- not run --> above {block}"
        assert {*re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)} <= {*targets}


def test_documented_python_runs(smoke: Path) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    runnable = [block for mark, kind, block in blocks if kind == "python" and not mark]
    assert len(runnable) == 2
    for block in runnable:
        exec(block.replace("outputs/studies/scaling-fictional-1a2b3c4d", str(study_of(smoke))), {})


def test_documented_tools_have_these_options() -> None:
    commands = [arguments for _, arguments in code_block_commands() if arguments[0] in TOOLS]
    assert {name for name, *_ in commands} == {*TOOLS}
    for name, *arguments in commands:
        module, function = TOOLS[name].split(":")
        parser: ArgumentParser = resolve_name(f"{module}:{function.replace('_main', '_parser')}")()
        parser.parse_args(arguments)


@pytest.mark.parametrize(("page", "arguments"), list(documented_commands()), ids=str)
def test_documented_command_composes(page: str, arguments: list[str], composed: Callable[..., DictConfig]) -> None:
    is_sweep = "-m" in arguments
    overrides = [word for word in arguments if word != "-m" and word not in list(Command)]
    if is_sweep:
        overrides = [word if "[" in word else word.partition(",")[0] for word in overrides]
    assert composed(*normalize_overrides(overrides))
