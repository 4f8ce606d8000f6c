"""Estimates the requests and tokens of a synthesis before the first request, less what the response cache answers.

Derived from the augmenter: its tasks are counted per document and kind, and one task of each is rendered. If the
augmenter defines `count_tasks`, millions of tasks take no time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from math import ceil

from entigraph.config.schema import Synthesis
from entigraph.llm.base import Request
from entigraph.llm.caching import CachedAnswers
from entigraph.llm.response_cache import AnswerTotals
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.base import Augmenter, BadAnswer, Steps, WritingTask
from entigraph.synthesis.document_parts import add_summaries, source_id
from entigraph.synthesis.even_start import first_round, max_consecutive, spread
from entigraph.synthesis.exchanges import answer_problem, clean_answer, resample
from entigraph.text.writing_systems import estimate_tokens

# Entities per document while they are unknown: in the paper's Fig. 7(b) most documents have between 10 and 50.
FEW_ENTITIES, MANY_ENTITIES = 10, 50
GRAPH_ANSWER_TOKENS = 500
EXAMPLE_ENTITIES = 5
EXAMPLE_TASKS_PER_DOCUMENT = 50
EXAMPLES_COUNTED = 50  # answers counted by both tokenizers
MAX_ENUMERATED_TASKS = 1_000_000
MAX_ENUMERATED_ROUNDS = 50_000  # tasks of endless augmenters; larger numbers are extrapolated
MAX_STEPS = 10
TaskKey = tuple[str, str]  # id of the document or part, and kind


@dataclass
class DocumentEstimate:
    """What one document or part will take.

    `tasks` counts texts to write, or groups of texts. `cached_tokens` are the prompt tokens that a server with a prefix
    cache has just read. `free` counts answers in the response cache. `entities` is None if the number is unknown or not
    needed.
    """

    document: str
    entities: int | None = None
    tasks: int = 0
    requests: int = 0
    free: int = 0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    completion_tokens: float = 0.0


@dataclass(frozen=True)
class SynthesisEstimate:
    """`unknown_graphs` counts the documents and parts whose entities are assumed. `assumed_length`: no answer is known,
    so the length of answers is assumed too. `tokens_per_request` are tokens of the writer, `budget_tokens_per_request`
    those of the tokenizer that counts the token budget.
    """

    documents: Sequence[DocumentEstimate]
    tokens_per_request: float
    seconds_per_request: float | None
    unknown_graphs: int
    assumed_length: bool
    budget_tokens_per_request: float = 0.0

    def total(self, name: str) -> float:
        return float(sum(getattr(document, name) for document in self.documents))


@dataclass(frozen=True)
class RequestExample:
    """One request of an example task, and the known answers to the same request of its siblings.

    `for_list`: the answer is a list of which each task takes an item, and no text.
    """

    request: Request
    answered: AnswerTotals
    for_list: bool = False


@dataclass
class TaskCount:
    """The number of tasks of a kind about a document, and of the lists with which they begin (0: with none)."""

    tasks: int = 0
    lists: int = 0


Examples = Mapping[TaskKey, Sequence[RequestExample]]


def estimate(
    augmenter: Augmenter,
    documents: Sequence[Document],
    token_budget: int | None,
    expected_tokens: int,
    entities: int,
    known: CachedAnswers,
    count_tokens: Callable[[str], int] | None = None,
    rules: Synthesis | None = None,
) -> SynthesisEstimate:
    """Assumes `entities` for documents whose graph is unknown, and `expected_tokens` per text until answers are known.

    The token budget is counted by `count_tokens`, if given; the writer counts by its own tokenizer. `rules` say how
    failed entity lists are retried.
    """
    parts = [part for document in documents for part in augmenter.split(document)]
    estimates = {part.id: DocumentEstimate(part.id) for part in parts}
    graphs, unknown = estimate_graphs(augmenter, parts, known, estimates, rules or Synthesis())
    parts = list(add_summaries(parts, graphs))
    tasks = example_tasks(augmenter, parts, needs_graphs=bool(graphs or unknown))
    examples = {key: render_example(augmenter, task, known) for key, task in tasks.items()}
    answered = [example.answered for example in chain(*examples.values()) if example.answered.answers]
    texts_per_task = max((len(task.about) for task in tasks.values()), default=1)
    known_length = longest_answer(examples)
    tokens_per_request = known_length or float(expected_tokens * texts_per_task)
    ratio = tokenizer_ratio(examples, known, count_tokens) if count_tokens else 1.0
    wanted = ceil(token_budget / (tokens_per_request * ratio)) if token_budget is not None else None
    graphs |= {name: placeholder_graph(name, entities) for name in unknown}
    for key, count in count_tasks(augmenter, parts, graphs, wanted).items():
        estimates[key[0]].tasks += count.tasks
        for example in examples.get(key, ()):
            number = count.lists if example.for_list else count.tasks
            add_requests(estimates[key[0]], example, number, tokens_per_request, augmenter.requests_in_a_row)
    seconds = sum(totals.seconds for totals in answered)
    return SynthesisEstimate(
        list(estimates.values()),
        tokens_per_request,
        seconds / sum(totals.answers for totals in answered) if seconds else None,
        len(unknown),
        known_length is None,
        tokens_per_request * ratio,
    )


def estimate_graphs(
    augmenter: Augmenter,
    parts: Iterable[Document],
    known: CachedAnswers,
    estimates: Mapping[str, DocumentEstimate],
    rules: Synthesis,
) -> tuple[dict[str, EntityGraph], list[str]]:
    """Returns the known graphs and the ids of the unknown ones, and adds their requests to the estimates."""
    graphs: dict[str, EntityGraph] = {}
    unknown: list[str] = []
    for part in parts:
        if augmenter.graph(part) is None:
            continue
        estimate = estimates[part.id]
        missing, graph = replay_attempts(augmenter, part, known, estimate, rules)
        if missing is not None:
            unknown.append(part.id)
            estimate.requests += 1
            estimate.prompt_tokens += prompt_length(missing)
            estimate.completion_tokens += GRAPH_ANSWER_TOKENS
            continue
        estimate.entities = len(graph.entities) if graph else 0
        if graph:
            graphs[part.id] = graph
    return graphs, unknown


def replay_attempts(
    augmenter: Augmenter, part: Document, known: CachedAnswers, estimate: DocumentEstimate, rules: Synthesis
) -> tuple[Request | None, EntityGraph | None]:
    """Returns the first request without a known answer, and the graph of the first attempt with a usable one."""
    for attempt in range(rules.graph_retries + 1):
        steps = augmenter.graph(part)
        assert steps is not None
        missing, graph = replay_answers(steps, known, estimate, attempt, rules.detect_refusals)
        if missing or graph:
            return missing, graph
    return None, None


def replay_answers(
    steps: Steps[EntityGraph], known: CachedAnswers, estimate: DocumentEstimate, attempt: int, detect_refusals: bool
) -> tuple[Request | None, EntityGraph | None]:
    """Returns the first request without a known answer, and the graph if there is no such request and it is usable."""
    request = resample(next(steps), attempt)
    try:
        while (answer := known.answer(request)) is not None:
            estimate.free += 1
            completion = clean_answer(answer)
            if answer_problem(completion, use_truncated=False, detect_refusals=detect_refusals):
                return None, None
            request = resample(steps.send(completion.text), attempt)
    except StopIteration as end:
        return None, end.value
    except BadAnswer:
        return None, None
    return request, None


def example_tasks(augmenter: Augmenter, parts: Sequence[Document], needs_graphs: bool) -> Mapping[TaskKey, WritingTask]:
    """Returns the first task of each kind about each document or part."""
    graphs = {part.id: placeholder_graph(part.id, EXAMPLE_ENTITIES) for part in parts} if needs_graphs else {}
    examples: dict[TaskKey, WritingTask] = {}
    for task in islice(augmenter.tasks(parts, graphs, 0), EXAMPLE_TASKS_PER_DOCUMENT * len(parts)):
        examples.setdefault(task_key(task), task)
    return examples


def render_example(augmenter: Augmenter, task: WritingTask, known: CachedAnswers) -> Sequence[RequestExample]:
    """Returns the requests of a task, as far as its steps go on with empty answers."""
    steps = augmenter.write(task)
    requests = [next(steps)]
    while len(requests) < MAX_STEPS:
        try:
            requests.append(steps.send(""))
        except Exception:  # the end of the steps, or whatever code that parses an answer raises for an empty one
            break
    steps.close()
    return [
        RequestExample(request, known.siblings(request), for_list=task.list_number is not None and step == 0)
        for step, request in enumerate(requests)
    ]


def longest_answer(examples: Examples) -> float | None:
    """Returns the mean length of the known answers to the step with the longest ones: that step writes the texts."""
    tokens, answers = Counter[int](), Counter[int]()
    for steps in examples.values():
        for step, example in enumerate(steps):
            if example.for_list:
                continue
            tokens[step] += example.answered.completion_tokens
            answers[step] += example.answered.answers
    return max((tokens[step] / answers[step] for step in answers if answers[step]), default=None)


def tokenizer_ratio(examples: Examples, known: CachedAnswers, count_tokens: Callable[[str], int]) -> float:
    """Returns how many of our tokens one of the writer's tokens is, by some of its answers."""
    answered = (example for example in chain(*examples.values()) if example.answered.answers)
    samples = (known.examples(example.request, 2) for example in islice(answered, EXAMPLES_COUNTED))
    completions = list(chain(*samples))
    writer_tokens = sum(completion.usage.completion_tokens for completion in completions)
    return sum(count_tokens(completion.text) for completion in completions) / writer_tokens if writer_tokens else 1.0


def count_tasks(
    augmenter: Augmenter, parts: Sequence[Document], graphs: Mapping[str, EntityGraph], wanted: int | None
) -> Mapping[TaskKey, TaskCount]:
    """Counts the first `wanted` tasks (None: all) of each kind about each document or part."""
    counts = {
        part.id: augmenter.count_tasks(len(graphs[part.id].entities) if part.id in graphs else 0) for part in parts
    }
    if None in counts.values():
        limit = MAX_ENUMERATED_ROUNDS if augmenter.endless else MAX_ENUMERATED_TASKS
        limit = limit if wanted is None else min(wanted, limit)
        enumerated = enumerate_tasks(islice(tasks_in_order(augmenter, parts, graphs, wanted), limit))
        return scale_counts(enumerated, wanted / limit) if augmenter.endless and wanted else enumerated
    available: Mapping[str, Mapping[str, int]] = {name: count for name, count in counts.items() if count is not None}
    totals: dict[TaskKey, TaskCount] = {}
    for kind in dict.fromkeys(chain(*available.values())):
        shares = draw_evenly([available[name].get(kind, 0) for name in available], wanted)
        totals |= {(name, kind): TaskCount(number) for name, number in zip(available, shares, strict=True)}
        wanted = None if wanted is None else wanted - sum(shares)
    return totals


def tasks_in_order(
    augmenter: Augmenter, parts: Sequence[Document], graphs: Mapping[str, EntityGraph], wanted: int | None
) -> Iterator[WritingTask]:
    """Yields the tasks in the order of generation, which spreads a small budget evenly over the documents."""
    tasks = iter(augmenter.tasks(parts, graphs, 0))
    if wanted is not None:
        ahead = first_round(tasks, {source_id(part) for part in parts}, augmenter.requests_in_a_row)
        if wanted < len(ahead) and max_consecutive(ahead) > 1:
            ahead = spread(ahead, wanted)
        yield from ahead
    yield from tasks


def scale_counts(counts: Mapping[TaskKey, TaskCount], factor: float) -> Mapping[TaskKey, TaskCount]:
    if factor <= 1:
        return counts
    return {key: TaskCount(ceil(count.tasks * factor), ceil(count.lists * factor)) for key, count in counts.items()}


def enumerate_tasks(tasks: Iterable[WritingTask]) -> Mapping[TaskKey, TaskCount]:
    counts: dict[TaskKey, TaskCount] = defaultdict(TaskCount)
    lists: set[tuple[TaskKey, int]] = set()
    for task in tasks:
        key = task_key(task)
        counts[key].tasks += 1
        if task.list_number is not None and (key, task.list_number) not in lists:
            lists.add((key, task.list_number))
            counts[key].lists += 1
    return counts


def draw_evenly(capacities: Sequence[int], wanted: int | None) -> list[int]:
    """Returns how many of `wanted` fall on each: the same number, up to its capacity."""
    if wanted is None or wanted >= sum(capacities):
        return list(capacities)
    shares, left = [0] * len(capacities), wanted
    smallest_first = sorted(range(len(capacities)), key=capacities.__getitem__)
    for position, index in enumerate(smallest_first):
        shares[index] = min(capacities[index], ceil(left / (len(capacities) - position)))
        left -= shares[index]
    return shares


def add_requests(
    estimate: DocumentEstimate, example: RequestExample, number: int, completion_tokens: float, in_a_row: int
) -> None:
    answered = example.answered.answers
    free = min(number, answered)
    sent = number - free
    prompt_tokens = example.answered.prompt_tokens / answered if answered else prompt_length(example.request)
    estimate.free += free
    estimate.requests += sent
    estimate.prompt_tokens += sent * prompt_tokens
    estimate.cached_tokens += sent * estimate_tokens(example.request.shared_prefix) * (1 - 1 / in_a_row)
    estimate.completion_tokens += sent * completion_tokens


def placeholder_graph(name: str, entities: int) -> EntityGraph:
    return EntityGraph(document_id=name, summary="", entities=[f"an entity {number}" for number in range(entities)])


def task_key(task: WritingTask) -> TaskKey:
    return task.document.id, task.kind


def prompt_length(request: Request) -> float:
    return estimate_tokens(request.system) + estimate_tokens(request.user)
