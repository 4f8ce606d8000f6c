"""Which texts are trained on: those within the token budget, and only those about some of the documents."""

import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from entigraph.errors import DataError
from entigraph.storage.texts import row_groups, token_counts
from entigraph.tokenization.packing import TokenLayout, draw_texts, layout_blocks, layout_stream

MAX_LISTED = 10


@dataclass(frozen=True)
class DocumentSelection:
    """The `documents` to train on, by id. No text may show one that is `excluded`."""

    documents: Collection[str]
    excluded: Collection[str] = ()

    def counts(self, other_texts: int) -> dict[str, Any]:
        """Returns what the manifest states, with the number of texts about other documents."""
        return {"documents": sorted(self.documents), "texts_about_other_documents": other_texts}


@dataclass(frozen=True)
class TextSelection:
    """The longest prefix of whole texts within `budget` tokens (None: all), in an order seeded by `seed`.

    `repeat`: if all texts are selected and the budget is not reached, they are repeated (raw documents have nothing
    more to give). `block_length`: each text lies within one block of this many tokens; a longer one is dropped (skip)
    or truncated (cut). `validation_fraction` of each document's texts are held out, the same texts for every budget.
    `documents`: only the texts about these.
    """

    budget: int | None
    repeat: bool
    seed: int
    block_length: int | None = None
    too_long: str = "skip"
    validation_fraction: float = 0.0
    documents: DocumentSelection | None = None

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> "TextSelection":
        """Returns what a finished tokens artifact selected."""
        documents = manifest["counts"].get("documents")
        values = {field.name: manifest["cache_key"].get(field.name, field.default) for field in fields(cls)}
        return cls(**values | {"documents": DocumentSelection(documents) if documents else None})

    def fitting(self, counts: NDArray[np.int64], texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns those of the texts that are not skipped."""
        if self.block_length is None or self.too_long == "truncate":
            return texts
        return texts[counts[texts] <= self.block_length]

    def draw(self, counts: NDArray[np.int64], texts: NDArray[np.int64]) -> TokenLayout:
        """Returns the positions of those of the texts that are within the budget."""
        order = draw_texts(self.lengths(counts, texts), self.budget, self.repeat, self.seed)
        return self.layout(counts, texts[order])

    def layout(self, counts: NDArray[np.int64], texts: NDArray[np.int64]) -> TokenLayout:
        lengths = self.lengths(counts, texts)
        return layout_blocks(texts, lengths, self.block_length) if self.block_length else layout_stream(texts, lengths)

    def lengths(self, counts: NDArray[np.int64], texts: NDArray[np.int64]) -> NDArray[np.int64]:
        return counts[texts].clip(max=self.block_length) if self.block_length else counts[texts]

    def select(self, synthesis: Path) -> NDArray[np.bool_]:
        """Returns for each text, in the order of generation, whether it is selected."""
        counts = token_counts(synthesis)
        candidates = self.fitting(counts, texts_about(synthesis, self.documents))
        training, _ = split_texts(synthesis, candidates, self.validation_fraction, self.seed)
        selected = np.zeros(len(counts), dtype=np.bool_)
        selected[self.draw(counts, training).texts] = True
        return selected


def texts_about(synthesis: Path, selection: DocumentSelection | None) -> NDArray[np.int64]:
    """Returns the numbers of the texts about the selected documents, in the order of generation.

    Raises DataError if one of them was written with an excluded document in its prompt, or if there is none.
    """
    groups = row_groups(synthesis)
    if selection is None:
        return np.arange(sum(group.count for group in groups))
    numbers: list[int] = []
    showing: Counter[str] = Counter()
    for group in groups:
        rows = zip(group.column("document_id"), group.column("context"), strict=True)
        for number, (document, context) in enumerate(rows, group.first):
            if document in selection.documents:
                numbers.append(number)
                showing[document] += not set(context).isdisjoint(selection.excluded)
    raise_if_shown(+showing, selection.excluded, synthesis)
    if not numbers:
        raise DataError(f"{synthesis} has no text about {', '.join(sorted(selection.documents)[:MAX_LISTED])}")
    return np.array(numbers, dtype=np.int64)


def raise_if_shown(showing: Counter[str], excluded: Collection[str], synthesis: Path) -> None:
    """Raises DataError if texts about other documents were written with an excluded one in their prompts."""
    if not showing:
        return
    listed = ", ".join(f"{name} ({count:,})" for name, count in showing.most_common(MAX_LISTED))
    more = f" and {len(showing) - MAX_LISTED:,} more" if len(showing) > MAX_LISTED else ""
    raise DataError(
        f"tokens.exclude_documents={', '.join(sorted(excluded))}: {showing.total():,} texts about others in "
        f"{synthesis.name} were written from prompts that include these: {listed}{more}. Exclude those documents "
        "too, or remove the documents from the corpus instead, so that texts are written without them"
    )


def split_texts(
    synthesis: Path, texts: NDArray[np.int64], fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the texts to train on and those held out: of each document the same share, drawn by seed and document.

    A document's only text is never held out, because the questions ask about every document.
    """
    if not fraction:
        return texts, texts[:0]
    by_document: dict[str, list[int]] = {}
    eligible = set(texts.tolist())
    for group in row_groups(synthesis):
        for number, document in enumerate(group.column("document_id"), group.first):
            if number in eligible:
                by_document.setdefault(document, []).append(number)
    held_out: list[int] = []
    for document, numbers in by_document.items():
        count = min(round(fraction * len(numbers)), len(numbers) - 1)
        held_out += random.Random(f"validation/{seed}/{document}").sample(numbers, count)
    chosen = np.array(sorted(held_out), dtype=np.int64)
    return np.setdiff1d(texts, chosen), chosen
