"""Identifies the code of a component from outside EntiGraph, so that a changed component gets an artifact of its own.

A module of the user's enters by its source and that of the modules it imports, as far as those are the user's too. The
imports are read from the source, not from what happens to be loaded. An installed distribution enters by name and
version. EntiGraph's code does not enter: `storage.artifact.FORMAT_VERSIONS` changes when a stage writes something else.
Files that user code reads and modules that it imports by a computed name are not tracked.

A module counts as it was when this process first asked, because that is the code that the process runs: an edited file
counts after a restart or `importlib.reload`.
"""

import ast
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from entigraph.errors import ArtifactError, ConfigError
from entigraph.storage.fingerprints import checksum

OWN_PACKAGE = "entigraph"
INSTALLED_FOLDERS = frozenset({"site-packages", "dist-packages"})


class Source(NamedTuple):
    """A source file as it was when its module was `loaded`: the module's specification, which `reload` replaces."""

    file: Path
    loaded: Any
    digest: str
    imports: Sequence[str]


SOURCES: dict[str, Source] = {}  # by module name


def identify_code(target: Callable[..., Any], path: str = "") -> dict[str, str]:
    """Returns digests of source files and versions of distributions by module name; empty for EntiGraph's own code.

    Of a class, the base classes count too. `path` is the import path of the target: its module counts even if it made
    the target by calling something of another module. Raises ConfigError where a class has neither a source file nor a
    `version`.
    """
    module = module_of(path)
    identity: dict[str, str] = identify_module(target, module) if module and is_tracked(module) else {}
    for definition in definitions(target):
        module = definition.__module__
        if is_tracked(module) and module not in identity:
            identity |= identify_module(definition, module)
    return dict(sorted(identity.items()))


def definitions(target: Callable[..., Any]) -> Iterator[Any]:
    """Yields the function of a target, or the class (also of a class method) with its base classes."""
    target = inspect.unwrap(target)
    while isinstance(target, partial):
        target = inspect.unwrap(target.func)
    owner = getattr(target, "__self__", None)
    if not isinstance(target, type) and hasattr(target, "__module__"):
        yield target
    for kind in (target, owner, type(target)):
        if isinstance(kind, type):
            yield from kind.__mro__


def module_of(path: str) -> str | None:
    """Returns the imported module that an import path begins with; None for what a script or a notebook defines."""
    parts = path.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    module = next((name for name in names if name in sys.modules), None)
    return None if module == "__main__" else module


def is_tracked(module: str) -> bool:
    top = module.partition(".")[0]
    return top != OWN_PACKAGE and top not in sys.stdlib_module_names or module == "__main__"


def identify_module(definition: Any, module: str) -> dict[str, str]:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or not Path(file).is_file() or not file.endswith(".py"):
        if file and is_installed(Path(file)):
            return identify_distribution(module)
        version = getattr(definition, "version", None)
        name = f"{module}.{getattr(definition, '__qualname__', type(definition).__qualname__)}"
        if version is None:
            raise ConfigError(
                f"{name} has no source file, so changes to it cannot be seen; "
                "give it an attribute `version` and change that with the code"
            )
        return {name: str(version)}
    if is_installed(Path(file)):
        return identify_distribution(module)
    return {name: read_source(name, path).digest for name, path in imported_sources(module, Path(file)).items()}


def read_source(module: str, file: Path) -> Source:
    loaded = sys.modules.get(module)
    loaded = getattr(loaded, "__spec__", None) or loaded
    known = SOURCES.get(module)
    if known is None or loaded is None or known.loaded is not loaded or known.file != file:
        known = Source(file, loaded, checksum(file), tuple(imported_names(module, file)))
        SOURCES[module] = known
    return known


def check_code_unchanged(cache_key: Mapping[str, Any]) -> None:
    """Raises ArtifactError if a source file of a cache key has changed: another process would run other code."""
    for name, value in cache_key.items():
        if name != "code" and isinstance(value, Mapping):
            check_code_unchanged(value)
        elif name == "code" and isinstance(value, Mapping):
            for module in value.keys() & SOURCES.keys():
                source = SOURCES[module]
                if checksum(source.file) != source.digest:
                    raise ArtifactError(f"{source.file} changed after the command started; run the same command again")


def is_installed(file: Path) -> bool:
    return not INSTALLED_FOLDERS.isdisjoint(file.parts)


def identify_distribution(module: str) -> dict[str, str]:
    top = module.partition(".")[0]
    try:
        return {top: metadata.version(top)}
    except metadata.PackageNotFoundError:  # the name of a distribution may differ from its package's
        names = metadata.packages_distributions().get(top, [])
        return {name: metadata.version(name) for name in names} or {top: "unknown"}


def imported_sources(module: str, file: Path) -> dict[str, Path]:
    """Returns the source files of a module and of all of the user's modules that it imports, directly or not."""
    sources: dict[str, Path] = {}
    waiting = {module: file}
    while waiting:
        name, path = waiting.popitem()
        sources[name] = path
        for imported in read_source(name, path).imports:
            source = source_file(imported)
            if source is not None and imported not in sources:
                waiting[imported] = source
    return sources


def imported_names(module: str, file: Path) -> Iterator[str]:
    """Yields the names of modules that a source file may import, and of the packages that they and itself lie in."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    names = [package]
    for node in ast.walk(ast.parse(file.read_bytes(), str(file))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1) if parts[0])


def source_file(module: str) -> Path | None:
    """Returns the source of a module of the user's; None for any other name."""
    if not is_tracked(module) or module == "__main__":
        return None
    origin = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):  # looking up a submodule imports its parents, which must be the user's
        try:
            specification = importlib.util.find_spec(".".join(parts[:count]))
        except (ImportError, ValueError):
            return None
        if specification is None:
            return None
        origin = specification.origin if specification.has_location else None
        folders = [origin] if origin else list(specification.submodule_search_locations or ())
        if not folders or any(is_installed(Path(folder)) for folder in folders):
            return None
    return Path(origin) if origin and origin.endswith(".py") else None
