"""Writes a few texts of each kind about the first documents, with the requests that a synthesis would send for them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from entigraph.llm.base import LLM, Request, Usage
from entigraph.storage.schemas import Document
from entigraph.synthesis.base import Augmenter, WritingTask
from entigraph.synthesis.document_parts import add_summaries
from entigraph.synthesis.exchanges import run_exchanges

TASKS_SEARCHED = 20_000  # per augmenter, to find tasks of each kind


@dataclass
class SampleText:
    """A text of a preview, or the reason why there is none, with the requests that led to it.

    `usage` ignores the cache; a list shared by several texts is counted once per text.
    """

    augmenter: str
    task: WritingTask
    requests: Sequence[Request]
    usage: Usage
    texts: Sequence[str] = ()
    reason: str = ""


def write_samples(
    augmenter: Augmenter, documents: Sequence[Document], llm: LLM, *, texts: int, seed: int
) -> Iterator[SampleText]:
    """Yields up to `texts` texts of each kind. Requests entity lists of all documents where needed."""
    for sub_augmenter, _ in augmenter.divide(None):
        parts = [part for document in documents for part in sub_augmenter.split(document)]
        outcomes = list(run_exchanges(llm, parts, sub_augmenter.graph, attempt=0, on_answer=lambda *_: None))
        graphs = {outcome.subject.id: outcome.result for outcome in outcomes if outcome.result is not None}
        parts_with_summaries = list(add_summaries(parts, graphs)) if graphs else parts
        tasks = select_tasks(sub_augmenter.tasks(parts_with_summaries, graphs, seed), texts)
        for outcome in run_exchanges(llm, tasks, sub_augmenter.write, attempt=0, on_answer=lambda *_: None):
            usage = sum((completion.usage for completion in outcome.completions), start=Usage())
            written = [text for text in outcome.result or () if text]
            yield SampleText(sub_augmenter.name, outcome.subject, outcome.requests, usage, written, outcome.reason)


def select_tasks(tasks: Iterator[WritingTask], texts: int) -> list[WritingTask]:
    """Returns the first tasks of each kind, by kind."""
    selected: dict[str, list[WritingTask]] = {}
    searched = Counter[str]()
    for task in islice(tasks, TASKS_SEARCHED):
        searched[task.kind] += 1
        if searched[task.kind] <= texts:
            selected.setdefault(task.kind, []).append(task)
    return [task for kind in selected.values() for task in kind]
