"""Natural English text without a download: docstrings of Python's standard library and of NumPy."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)
SHORTEST_PARAGRAPH = 120  # characters
CODE = re.compile(r"[={}\\|<>_]")


def texts(characters: int) -> list[str]:
    """Returns texts of the given length, cut from paragraphs that are each used once."""
    prose = "\n".join(dict.fromkeys(paragraphs()))
    return [prose[start : start + characters] for start in range(0, len(prose) - characters + 1, characters)]


def paragraphs() -> Iterator[str]:
    for file in sources():
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, DOCUMENTED):
                for lines in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                    paragraph = " ".join(lines.split())
                    complete = paragraph[:1].isupper() and paragraph.endswith(".")
                    if complete and len(paragraph) > SHORTEST_PARAGRAPH and not CODE.search(paragraph):
                        yield paragraph


def sources() -> Iterator[Path]:
    import numpy

    standard = Path(sysconfig.get_path("stdlib"))
    for root in (standard, Path(numpy.__path__[0])):
        for file in sorted(root.rglob("*.py")):
            inside = file.relative_to(root).parts
            if not {"test", "tests", "idlelib", "lib2to3", "site-packages"} & set(inside):
                yield file
