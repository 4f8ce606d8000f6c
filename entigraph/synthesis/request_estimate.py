"""What a synthesis will take, before the first request: by document, less what the response cache holds already.

Arithmetic over document lengths, entity counts and what was answered before. One request a document and kind is
rendered, whatever the number of its pairs and triples, so planning tens of millions of them takes no time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import ceil
from typing import Protocol

from entigraph.llm.base import CHARACTERS_PER_TOKEN, Completion, Request
from entigraph.llm.response_cache import AnswerTotals
from entigraph.storage.schemas import Document, EntityGraph, Failure
from entigraph.synthesis.base import Augmenter
from entigraph.synthesis.document_parts import with_summaries

# Entities a document, where none are known yet: the paper's Fig. 7(b) spans 0 to 100, most between these.
FEW_ENTITIES, MANY_ENTITIES = 10, 50
ENTITY_ANSWER_TOKENS = 500
EXAMPLES = 50


class Known(Protocol):
    """What was answered before."""

    def answer(self, request: Request) -> Completion | None: ...

    def siblings(self, request: Request) -> AnswerTotals: ...

    def examples(self, request: Request, most: int) -> Sequence[Completion]: ...


@dataclass
class Share:
    """What one document, or one part of it, will take. `cached_tokens` are those of the prompts that a server with a
    prefix cache has read just before; `free` are answers that the response cache holds; `entities` None: not known yet.
    """

    document: str
    entities: int | None = None
    requests: int = 0
    free: int = 0
    prompt_tokens: float = 0.0
    cached_tokens: float = 0.0
    completion_tokens: float = 0.0


@dataclass
class Estimate:
    shares: Sequence[Share]
    tokens_a_request: float
    seconds_a_request: float | None

    def total(self, name: str) -> float:
        return float(sum(getattr(share, name) for share in self.shares))


@dataclass
class Kind:
    """One kind of request about one document."""

    request: Request
    answered: AnswerTotals


@dataclass
class Source:
    """One document or part: how much of each phase it can give, and what is known of each kind."""

    share: Share
    capacities: Sequence[float]
    kinds: Sequence[Sequence[Kind]]
    drawn: list[int] = field(default_factory=list)


def estimate(
    augmenter: Augmenter,
    documents: Sequence[Document],
    token_budget: int | None,
    expected_tokens: int,
    entities: int,
    known: Known,
    count_tokens: Callable[[str], int] | None = None,
) -> Estimate:
    """`entities` is taken for documents whose list is not cached; `expected_tokens` for the length of a text, until the
    response cache knows better. The budget is counted by `count_tokens`, the writer counts by its own tokenizer.
    """
    parts = [part for document in documents for part in augmenter.parts(document)]
    lists = {part.id: list_of(augmenter, part, known) for part in parts}
    graphs = {name: found for name, found in lists.items() if isinstance(found, EntityGraph)}
    sources = [source(augmenter, part, lists[part.id], entities, known) for part in with_summaries(parts, graphs)]
    answered = [kind.answered for found in sources for kind in chain(*found.kinds)]
    answers, tokens = sum(one.answers for one in answered), sum(one.completion_tokens for one in answered)
    per_request = expected_tokens * getattr(augmenter, "relations_per_request", 1)
    tokens_a_request = tokens / answers if answers else float(per_request)
    ours = tokens_a_request * (exchange(sources, known, count_tokens) if count_tokens else 1.0)
    wanted = ceil(token_budget / ours) if token_budget is not None else None
    draw(sources, wanted)
    in_a_row = getattr(augmenter, "requests_in_a_row", 1)
    for found in sources:
        for phase, number in enumerate(found.drawn):
            for position, kind in enumerate(found.kinds[phase]):
                asked = number // len(found.kinds[phase]) + (position < number % len(found.kinds[phase]))
                add(found.share, kind, asked, tokens_a_request, in_a_row)
    seconds = sum(one.seconds for one in answered)
    return Estimate([found.share for found in sources], tokens_a_request, seconds / answers if seconds else None)


def exchange(sources: Sequence[Source], known: Known, count_tokens: Callable[[str], int]) -> float:
    """How many of our tokens one of the writer's is, by some of its answers."""
    answered = [kind for found in sources for kind in chain(*found.kinds) if kind.answered.answers]
    shown = [one for kind in answered[:EXAMPLES] for one in known.examples(kind.request, 2)]
    theirs = sum(one.usage.completion_tokens for one in shown)
    return sum(count_tokens(one.text) for one in shown) / theirs if theirs else 1.0


def list_of(augmenter: Augmenter, document: Document, known: Known) -> EntityGraph | Failure | None:
    """The entities of a document, as they were answered; None where they were not asked for yet."""
    request = augmenter.graph_request(document)
    answer = known.answer(request) if request else None
    return augmenter.graph(document, answer) if answer else None


def source(
    augmenter: Augmenter, document: Document, listed: EntityGraph | Failure | None, entities: int, known: Known
) -> Source:
    share = Share(document.id)
    request = augmenter.graph_request(document)
    if listed is not None:
        share.free += 1
        share.entities = entities = len(listed.entities) if isinstance(listed, EntityGraph) else 0
    elif request is not None:
        share.requests += 1
        share.prompt_tokens += length(request.system + request.user)
        share.completion_tokens += ENTITY_ANSWER_TOKENS
    phases = augmenter.phases(entities)
    examples = [[augmenter.request(augmenter.example(document, kind)) for kind in phase.kinds] for phase in phases]
    return Source(
        share,
        [float("inf") if phase.requests is None else phase.requests for phase in phases],
        [[Kind(each, known.siblings(each)) for each in kinds] for kinds in examples],
    )


def draw(sources: Sequence[Source], wanted: int | None) -> None:
    """How many requests of each phase fall on each document: in rounds, one phase after another."""
    phases = max((len(found.capacities) for found in sources), default=0)
    for phase in range(phases):
        capacities = [found.capacities[phase] for found in sources]
        drawn = evenly(capacities, wanted)
        for found, number in zip(sources, drawn, strict=True):
            found.drawn.append(number)
        wanted = None if wanted is None else wanted - sum(drawn)


def evenly(capacities: Sequence[float], wanted: int | None) -> list[int]:
    """`wanted` in all, the same from each as far as it has so many."""
    if wanted is None or wanted >= sum(capacities):
        return [int(capacity) for capacity in capacities]
    drawn, left = [0] * len(capacities), wanted
    order = sorted(range(len(capacities)), key=capacities.__getitem__)
    for position, index in enumerate(order):
        drawn[index] = int(min(capacities[index], ceil(left / (len(order) - position))))
        left -= drawn[index]
    return drawn


def add(share: Share, kind: Kind, asked: int, tokens: float, in_a_row: int) -> None:
    free = min(asked, kind.answered.answers)
    share.free += free
    share.requests += asked - free
    prompt = length(kind.request.system + kind.request.user)
    if kind.answered.answers:
        prompt = kind.answered.prompt_tokens / kind.answered.answers
    share.prompt_tokens += (asked - free) * prompt
    share.cached_tokens += (asked - free) * length(kind.request.shared_prefix) * (1 - 1 / in_a_row)
    share.completion_tokens += (asked - free) * tokens


def length(text: str) -> float:
    return len(text) / CHARACTERS_PER_TOKEN
