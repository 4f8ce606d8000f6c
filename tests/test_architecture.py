"""Rules for the structure and the vocabulary of the package that no linter checks."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml
from hydra.utils import get_object

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "entigraph"
# One per package, by design: the protocol of a package, a pipeline stage, and what Python itself prescribes.
SHARED_MODULE_NAMES = {"base", "stage", "__init__", "__main__"}
CONFIG_FILES = sorted([*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("experiments/**/*.yaml")])
# Words of an earlier vocabulary, which readers of the field do not know.
BANNED_WORDS = {
    *("artefact", "seal", "sealed", "volatile", "journal", "journaled", "whoever", "nobody", "whose"),
    *("told", "foretell", "foretells", "foretold", "mend", "mended", "anew", "alike", "beside", "reask", "lows"),
}


@cache
def modules() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}


def test_modules_have_no_import_cycles() -> None:
    # The graph includes imports inside functions and under TYPE_CHECKING.
    graph = grimp.build_graph("entigraph", exclude_type_checking_imports=False, cache_dir=None)
    assert len(graph.modules) > 100
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_module_names_are_unique() -> None:
    paths = defaultdict(list)
    for path in modules():
        if path.stem not in SHARED_MODULE_NAMES:
            paths[path.stem].append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in paths.items() if len(files) > 1}


def test_public_class_names_are_unique() -> None:
    paths = defaultdict(list)
    for path, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                paths[node.name].append(str(path.relative_to(ROOT)))
    assert not {name: files for name, files in paths.items() if len(files) > 1}


def test_settings_live_with_what_they_configure() -> None:
    assert not [path for path in modules() if re.search(r"settings|utils|helpers|misc", path.stem)]


@pytest.mark.parametrize("file", CONFIG_FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_config_targets_exist(file: Path) -> None:
    for target in targets(yaml.safe_load(file.read_text(encoding="utf-8"))):
        assert callable(get_object(target)), target


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)
    elif isinstance(node, list):
        for value in node:
            yield from targets(value)


def test_identifiers_avoid_private_vocabulary() -> None:
    violations = {
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path, tree in modules().items()
        for name, line in identifiers(tree)
        if BANNED_WORDS.intersection(words(name))
    }
    assert not violations, "\n".join(sorted(violations))


def identifiers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yields every name that the module defines, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield (node.id if isinstance(node, ast.Name) else node.attr), node.lineno


def words(name: str) -> list[str]:
    """Splits snake_case and CamelCase into lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
