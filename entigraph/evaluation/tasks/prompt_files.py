"""The files in evaluation/tasks/prompts: few-shot examples that precede a question."""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable


def examples_file(name: str) -> Traversable:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt")


@cache
def read_examples(name: str) -> str:
    """Returns the few-shot examples of a prompt file."""
    return examples_file(name).read_text(encoding="utf-8").strip()
