"""N-gram overlap of synthetic texts with their source documents (paper App. A.2, Table 4).

For each document, the n-grams of its texts that are in the document's set of n-grams are counted; the counts are summed
over documents and divided by the texts' tokens. An n-gram lies within one text. Memory holds the n-grams of the
documents alone, whatever the size of the corpus.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.examinations import SyntheticCorpus
from entigraph.analysis.paper import published
from entigraph.analysis.paper.tables import write_table
from entigraph.analysis.settings import Overlap
from entigraph.analysis.study_runs import ORDER
from entigraph.storage.artifact import write_json
from entigraph.storage.schemas import SyntheticText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Hashes = NDArray[np.uint64]
TEXTS_AT_ONCE = 256
ALL_KINDS = "all"
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no product with it loses anything


@dataclass
class Tally:
    """Tokens and shared n-grams of some texts, by document, so that the error over documents can be told."""

    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shared: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    texts: int = 0

    def add(self, document: str, tokens: int, shared: NDArray[np.int64]) -> None:
        self.texts += 1
        self.tokens[document] += tokens
        self.shared[document] = self.shared.get(document, 0) + shared

    def told(self, sizes: Sequence[int]) -> dict[str, Any]:
        """Shares by size, each with its standard error: that of a ratio of sums over documents."""
        tokens = np.array([self.tokens[document] for document in self.shared], dtype=float)
        shared = np.array(list(self.shared.values()), dtype=float)
        total, count = tokens.sum(), len(tokens)
        shares = shared.sum(axis=0) / total
        spread = ((shared - tokens[:, None] * shares) ** 2).sum(axis=0)
        errors = np.sqrt(spread) * sqrt(count / (count - 1)) / total if count > 1 else None
        return {
            "texts": self.texts,
            "documents": count,
            "tokens": int(total),
            "overlap": dict(zip(map(str, sizes), shares.tolist(), strict=True)),
            "stderr": dict(zip(map(str, sizes), errors.tolist(), strict=True)) if errors is not None else None,
        }


def examine(settings: Overlap, corpora: Sequence[SyntheticCorpus], out: Path) -> list[str]:
    """Writes overlap.json, .csv, .md, .png and .svg; returns what to tell."""
    from entigraph.analysis.overlap.overlap_figure import overlap_figure

    tallies: dict[tuple[str, str], Tally] = defaultdict(Tally)
    for corpus in corpora:
        measure(settings, corpus, tallies)
    result = {
        "corpora": [corpus.name for corpus in corpora],
        "label": next(filter(None, (corpus.label for corpus in corpora)), None),
        "sizes": settings.sizes,
        "rows": [
            {"augmenter": augmenter, "kind": kind, **tallies[augmenter, kind].told(settings.sizes)}
            for augmenter, kind in sorted(tallies, key=place)
        ],
        "paper": {"section": published.OVERLAP_SECTION, **published.OVERLAP},
    }
    write_json(out / "overlap.json", result)
    overlap_figure(result, out)
    return told(result, out)


def place(key: tuple[str, str]) -> tuple[int, str, bool, str]:
    augmenter, kind = key
    return (-ORDER.index(augmenter) if augmenter in ORDER else 1, augmenter, kind != ALL_KINDS, kind)


def measure(settings: Overlap, corpus: SyntheticCorpus, tallies: Mapping[tuple[str, str], Tally]) -> None:
    from tokenizers import Tokenizer

    file = settings.tokenizer_file if settings.tokenizer else corpus.tokenizer / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    sources = source_hashes(settings, corpus, tokenizer)
    about_them = (text for text in corpus.texts() if text.document_id in sources)
    while group := list(islice(about_them, TEXTS_AT_ONCE)):
        for text, ids in zip(group, encoded(tokenizer, group), strict=True):
            own = sources[text.document_id]
            shared = np.array([count_in(hashes(ids, size), own[size]) for size in settings.sizes])
            for kind in (ALL_KINDS, text.kind):
                tallies[corpus.augmenter, kind].add(f"{corpus.name}/{text.document_id}", len(ids), shared)


def source_hashes(settings: Overlap, corpus: SyntheticCorpus, tokenizer: "Tokenizer") -> dict[str, dict[int, Hashes]]:
    """By document and size: the n-grams of each drawn document, sorted."""
    names = sorted(document.id for document in corpus.documents())
    if settings.documents is not None and settings.documents < len(names):
        names = random.Random(f"overlap/{settings.seed}").sample(names, settings.documents)
    drawn, sources = set(names), {}
    for document in corpus.documents():
        if document.id in drawn:
            ids = np.array(tokenizer.encode(document.text, add_special_tokens=False).ids, dtype=np.uint64)
            sources[document.id] = {size: np.unique(hashes(ids, size)) for size in settings.sizes}
    return sources


def encoded(tokenizer: "Tokenizer", texts: Sequence[SyntheticText]) -> list[Hashes]:
    batch = tokenizer.encode_batch([text.text for text in texts], add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.uint64) for encoding in batch]


def hashes(ids: Hashes, size: int) -> Hashes:
    """One 64-bit number for each n-gram: two different ones are alike once in 10^19 pairs."""
    if len(ids) < size:
        return np.empty(0, dtype=np.uint64)
    scattered = mixed(ids + np.uint64(1))
    windows = np.zeros(len(ids) - size + 1, dtype=np.uint64)
    for offset in range(size):
        windows = mixed(windows * MULTIPLIER + scattered[offset : offset + len(windows)])
    return windows


def mixed(values: Hashes) -> Hashes:
    """splitmix64's finaliser (Steele et al. 2014): each bit of the input decides each bit of the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def count_in(windows: Hashes, known: Hashes) -> int:
    """How many of `windows` stand in `known`, which is sorted."""
    if not len(windows) or not len(known):
        return 0
    places = np.minimum(np.searchsorted(known, windows), len(known) - 1)
    return int((known[places] == windows).sum())


def told(result: Mapping[str, Any], out: Path) -> list[str]:
    """Also as overlap.csv and overlap.md."""
    sizes = result["sizes"]
    columns = {"texts of": "", "texts": ",", "documents": ",", **{f"n={size}": ".2%" for size in sizes}}
    rows = [
        (
            row["augmenter"] if row["kind"] == ALL_KINDS else f"  {row['kind']}",
            row["texts"],
            row["documents"],
            *(row["overlap"][str(size)] for size in sizes),
        )
        for row in result["rows"]
    ]
    rows += [
        (f"paper, {name}", None, published.OVERLAP_DOCUMENTS, *map(known.get, sizes))
        for name, known in published.OVERLAP.items()
    ]
    return [
        "share of synthetic tokens that begin an n-gram of their source document",
        *write_table(out, "overlap", columns, rows),
        f"the paper's: {published.PAPER}, {published.OVERLAP_SECTION}; other documents, another writer",
        *([f"note: {result['label']}"] if result["label"] else []),
    ]
