"""Adaptive selection: EntiGraph writes next about the relations whose statements the student knows worst.

In round k, the student is a model trained on the texts of round k - 1. Its losses on the statements of the documents
(`evaluation=statement_loss`) order what is written next; the texts of earlier rounds come first, in the same order, so
that they are answered from the response cache. The pipeline makes and names the artifacts of the earlier rounds
(pipeline/loading.py).
"""

import random
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import inf
from pathlib import Path
from statistics import fmean

from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, ScoredStatement
from entigraph.storage.texts import read_texts
from entigraph.synthesis.augmenters.relation_order import Relation, all_indices, mentioned_indices, sort_relations
from entigraph.synthesis.document_parts import source_id
from entigraph.synthesis.generation import part_of_text
from entigraph.text.writing_systems import split_statements

DEFAULT_ROUNDS = 4
LOSSES = "statements-statement_loss.jsonl"


@dataclass(frozen=True)
class StudentFeedback:
    """`losses`: nats per byte of each statement, by document and text. `written`: the relations that have a text, by
    document or part and size, in the order of writing.
    """

    losses: Mapping[str, Mapping[str, float]]
    written: Mapping[tuple[str, int], Sequence[Relation]]


def read_feedback(evaluation: Path, synthesis: Path) -> StudentFeedback:
    """Reads the losses in the evaluation of the last round's student, and the texts on which it was trained."""
    losses: dict[str, dict[str, float]] = {}
    for statement in read_jsonl(evaluation / LOSSES, ScoredStatement):
        if statement.nats is not None:
            per_byte = statement.nats / len(statement.text.encode())
            losses.setdefault(statement.document_id, {})[statement.text] = per_byte
    written: dict[tuple[str, int], list[Relation]] = {}
    for text in read_texts(synthesis):
        written.setdefault((part_of_text(text), len(text.about)), []).append(tuple(text.about))
    return StudentFeedback(losses, written)


def worst_known_next(
    document: Document, entities: Sequence[str], size: int, seed: int, feedback: StudentFeedback, target: float | None
) -> Iterator[Relation]:
    """Yields the relations that have a text, then the others by decreasing loss, without those at or below `target`.

    A triple's loss is the mean over its three pairs.
    """
    written = feedback.written.get((document.id, size), ())
    yield from written
    pairs = estimate_pair_losses(document, entities, feedback.losses.get(source_id(document), {}))
    keys = (-fmean(pairs[pair] for pair in combinations(ids, 2)) for ids in all_indices(len(entities), size))
    rng = random.Random(f"adaptive/{size}/{seed}/{document.id}")
    below = inf if target is None else -target
    known = set(written)
    for relation in sort_relations(array("d", keys), entities, size, rng, below):
        if relation not in known:
            yield relation


def estimate_pair_losses(
    document: Document, entities: Sequence[str], losses: Mapping[str, float]
) -> dict[tuple[int, ...], float]:
    """Returns the loss of each pair: the mean over the statements that name both entities.

    If there is none, it is the mean of the two entities' losses, which are means over the statements that name them; an
    entity that no statement names has the mean loss of the document.
    """
    by_names = [
        (mentioned_indices(entities, text), losses[text]) for text in split_statements(document.text) if text in losses
    ]
    overall = fmean(loss for _, loss in by_names) if by_names else 0.0
    together: dict[tuple[int, ...], list[float]] = {}
    alone: dict[int, list[float]] = {}
    for names, loss in by_names:
        for pair in combinations(names, 2):
            together.setdefault(pair, []).append(loss)
        for name in names:
            alone.setdefault(name, []).append(loss)
    entity = [fmean(alone.get(index, [overall])) for index in range(len(entities))]
    return {
        pair: fmean(together[pair]) if pair in together else fmean(entity[index] for index in pair)
        for pair in combinations(range(len(entities)), 2)
    }
