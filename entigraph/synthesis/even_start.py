"""Orders the first tasks of an augmenter so that a small token budget is spread evenly over the documents.

Augmenters yield several consecutive tasks per document, which keeps its text in a server's prefix cache. A budget that
ends before every document has been used once would leave the last ones without a text. The first tasks are therefore
answered ahead: text length is estimated from them, and so whether the budget covers the first round. If it does, the
order of the augmenter stays as it is. If not, each document gets one text first, and only then consecutive ones.
"""

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby, islice

from entigraph.synthesis.base import WritingTask
from entigraph.synthesis.document_parts import source_id
from entigraph.synthesis.exchanges import Outcome

MAX_TASKS_PER_DOCUMENT = 32  # search limit, because an augmenter may never reach some documents
TextOutcome = Outcome[WritingTask, Sequence[str | None]]


def first_round(tasks: Iterator[WritingTask], documents: Collection[str], requests_in_a_row: int) -> list[WritingTask]:
    """Returns the tasks of the first round: up to the last consecutive task about the document reached last."""
    waiting, ahead = set(documents), list[WritingTask]()
    limit = len(waiting) * max(MAX_TASKS_PER_DOCUMENT, requests_in_a_row)
    for task in islice(tasks, limit):
        ahead.append(task)
        waiting.discard(source_id(task.document))
        if not waiting:
            break
    ahead += islice(tasks, max_consecutive(ahead) - 1 if ahead else 0)  # the rest about the last document
    return ahead


def max_consecutive(tasks: Sequence[WritingTask]) -> int:
    """Returns the largest number of consecutive tasks about one document."""
    return max(sum(1 for _ in group) for _, group in groupby(tasks, lambda task: source_id(task.document)))


def first_tasks(tasks: Iterable[WritingTask]) -> list[WritingTask]:
    """Returns the first task about each document."""
    firsts: dict[str, WritingTask] = {}
    for task in tasks:
        firsts.setdefault(source_id(task.document), task)
    return list(firsts.values())


def spread(tasks: Sequence[WritingTask], affordable: float) -> list[WritingTask]:
    """Returns the tasks in a different order: one per document, then several consecutive ones per document.

    `affordable` is the number of tasks that the token budget is expected to cover.
    """
    firsts = first_tasks(tasks)
    order, chosen = firsts, {id(task) for task in firsts}
    queues: dict[str, deque[WritingTask]] = {}
    for task in tasks:
        if id(task) not in chosen:
            queues.setdefault(source_id(task.document), deque()).append(task)
    size = max(1, int(affordable / len(firsts)) - 1)
    while any(queues.values()):
        for queue in queues.values():
            order += [queue.popleft() for _ in range(min(size, len(queue)))]
        size = 1  # the budget is expected to end in this round
    return order


@dataclass
class AnsweredAhead:
    """Outcomes of tasks that were answered before their turn, by identity of the task."""

    outcomes: dict[int, TextOutcome] = field(default_factory=dict)

    def merge(
        self, tasks: Iterable[WritingTask], run: Callable[[Iterable[WritingTask]], Generator[TextOutcome, None, None]]
    ) -> Generator[TextOutcome, None, None]:
        """Yields the outcomes in the order of the tasks; `run` answers those that were not answered ahead."""
        pending: deque[TextOutcome | None] = deque()  # None: not answered ahead

        def unanswered() -> Iterator[WritingTask]:
            for task in tasks:
                pending.append(self.outcomes.pop(id(task), None))
                if pending[-1] is None:
                    yield task

        with closing(run(unanswered())) as outcomes:
            for outcome in outcomes:
                while pending and (ahead := pending.popleft()) is not None:
                    yield ahead
                yield outcome
        yield from filter(None, pending)
