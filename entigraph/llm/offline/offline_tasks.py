"""Registry of the tasks that the offline writer answers. A module adds a task with a decorator:

    @offline_task("summarize the document")
    def summarize(prompt: OfflinePrompt) -> str:
        return prompt.sentences[0]

The handler answers prompts whose task line starts with the decorator's text (ignoring case); the longest match wins.
The modules of this package are imported when the writer answers; any other module, such as the one that defines your
augmenter, registers its tasks when it is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from entigraph.errors import LLMError
from entigraph.llm.offline.offline_prompt import OfflinePrompt

Handler = Callable[[OfflinePrompt], str]


@dataclass(frozen=True)
class OfflineTask:
    """A handler. `states_facts`: `llm.errors` may falsify its answer. `needs_document`: the prompt has a document."""

    answer: Handler
    states_facts: bool
    needs_document: bool


REGISTRY: dict[str, OfflineTask] = {}


def offline_task(
    start: str, *, states_facts: bool = False, needs_document: bool = True
) -> Callable[[Handler], Handler]:
    """Registers the decorated function for tasks that start with `start`."""

    def register(handler: Handler) -> Handler:
        REGISTRY[start.lower()] = OfflineTask(handler, states_facts, needs_document)
        return handler

    return register


@cache
def import_built_in_tasks() -> None:
    package = __name__.rpartition(".")[0]
    for module in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")


def find_task(prompt: OfflinePrompt) -> OfflineTask:
    """Returns the task of a prompt. Raises LLMError if no handler matches."""
    import_built_in_tasks()
    start = max(filter(prompt.task.startswith, REGISTRY), key=len, default=None)
    if start is None or (REGISTRY[start].needs_document and "document" not in prompt.sections):
        raise LLMError(
            f"the offline writer does not know the task {prompt.task!r}; "
            f"it knows {', '.join(REGISTRY)}, each with a '### Document' section"
        )
    return REGISTRY[start]
