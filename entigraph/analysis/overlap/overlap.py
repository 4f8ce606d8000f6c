"""N-gram overlap of synthetic texts with their source documents (paper App. A.2, Table 4).

For each document, the n-grams of its texts that also occur in the document are counted; the counts are summed over
documents and divided by the texts' tokens. An n-gram lies within one text. Only the documents' n-grams are held in
memory, whatever the size of the corpus.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.document_bootstrap import ratio_of_sums
from entigraph.analysis.paper import published
from entigraph.analysis.study_runs import processed_first
from entigraph.analysis.written_corpus import WrittenCorpus, corpus_folders, first_disclaimer, load_corpora
from entigraph.config.fields import check_minimums, runtime_field
from entigraph.errors import ConfigError
from entigraph.reporting import figures
from entigraph.reporting.figures import DISPLAY_NAMES, GRAY, Axes
from entigraph.reporting.tables import write_table
from entigraph.storage.artifact import write_json
from entigraph.storage.fingerprints import fingerprint
from entigraph.storage.schemas import SyntheticText

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Hashes = NDArray[np.uint64]
BATCH_TEXTS = 256
ALL_KINDS = "all"
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplication is invertible


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Which n-grams of tokens of the synthetic texts occur in their source document (paper App. A.2, Table 4).

    Over `documents` sampled with `seed` (null: all), in the tokens of `tokenizer`, a folder with a tokenizer.json
    (null: that of the synthesis). The paper samples 100 documents and uses Llama 3.1's tokenizer.
    """

    name: ClassVar[str] = "overlap"
    sizes: list[int] = field(default_factory=lambda: [2, 4, 8, 16])
    documents: int | None = 100
    seed: int = 0
    tokenizer: str | None = runtime_field(None)  # enters the cache key by content

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"analysis.sizes must be different lengths of n-grams, at least 1, got {self.sizes}")
        check_minimums(self, "analysis.", documents=1)
        if self.tokenizer is not None and not self.tokenizer_file.is_file():
            raise ConfigError(
                f"analysis.tokenizer: {self.tokenizer!r} contains no tokenizer.json; set a folder with one"
            )

    @property
    def tokenizer_file(self) -> Path:
        return Path(self.tokenizer or "").expanduser() / "tokenizer.json"

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {"tokenizer": fingerprint(self.tokenizer_file) if self.tokenizer else None}

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return corpus_folders(context)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes overlap.json, .csv, .md, .png and .svg."""
        return measure_corpora(self, load_corpora(context), out)


@dataclass
class OverlapCounts:
    """Tokens and shared n-grams by document, so that the standard error over documents can be computed."""

    tokens: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shared: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    texts: int = 0

    def add(self, document: str, tokens: int, shared: NDArray[np.int64]) -> None:
        self.texts += 1
        self.tokens[document] += tokens
        self.shared[document] = self.shared.get(document, 0) + shared

    def summarize(self, sizes: Sequence[int]) -> dict[str, Any]:
        """Returns the shares by n-gram size, with the standard error of a ratio of sums over documents."""
        tokens = np.array([self.tokens[document] for document in self.shared], dtype=float)
        columns = np.array(list(self.shared.values()), dtype=float).T
        shares = {str(size): ratio_of_sums(column, tokens) for size, column in zip(sizes, columns, strict=True)}
        return {
            "texts": self.texts,
            "documents": len(tokens),
            "tokens": int(tokens.sum()),
            "overlap": {size: share for size, (share, _) in shares.items()},
            "stderr": {size: error for size, (_, error) in shares.items()} if len(tokens) > 1 else None,
        }


def measure_corpora(settings: Overlap, corpora: Sequence[WrittenCorpus], out: Path) -> list[str]:
    counts: dict[tuple[str, str], OverlapCounts] = defaultdict(OverlapCounts)
    for corpus in corpora:
        count_overlap(settings, corpus, counts)
    order = sorted(counts, key=lambda key: (processed_first(key[0]), key[1] != ALL_KINDS, key[1]))
    result = {
        "corpora": [corpus.name for corpus in corpora],
        "label": first_disclaimer(corpora),
        "sizes": settings.sizes,
        "rows": [
            {"augmenter": augmenter, "kind": kind, **counts[augmenter, kind].summarize(settings.sizes)}
            for augmenter, kind in order
        ],
        "paper": {"section": published.OVERLAP_SECTION, **published.OVERLAP},
    }
    write_json(out / "overlap.json", result)
    draw_overlap(result, out)
    return overlap_lines(result, out)


def count_overlap(settings: Overlap, corpus: WrittenCorpus, counts: Mapping[tuple[str, str], OverlapCounts]) -> None:
    from tokenizers import Tokenizer

    file = settings.tokenizer_file if settings.tokenizer else corpus.tokenizer / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.encode_special_tokens = True  # ordinary text, as in training
    sources = hash_sources(settings, corpus, tokenizer)
    texts = (text for text in corpus.texts() if text.document_id in sources)
    while batch := list(islice(texts, BATCH_TEXTS)):
        for text, ids in zip(batch, encode(tokenizer, batch), strict=True):
            source = sources[text.document_id]
            shared = np.array([count_shared(hash_ngrams(ids, size), source[size]) for size in settings.sizes])
            for kind in (ALL_KINDS, text.kind):
                counts[corpus.augmenter, kind].add(f"{corpus.name}/{text.document_id}", len(ids), shared)


def hash_sources(settings: Overlap, corpus: WrittenCorpus, tokenizer: "Tokenizer") -> dict[str, dict[int, Hashes]]:
    """Returns the sorted n-gram hashes of each sampled document, by document and size."""
    names = sorted(document.id for document in corpus.documents())
    if settings.documents is not None and settings.documents < len(names):
        names = random.Random(f"overlap/{settings.seed}").sample(names, settings.documents)
    sampled, sources = set(names), {}
    for document in corpus.documents():
        if document.id in sampled:
            ids = np.array(tokenizer.encode(document.text, add_special_tokens=False).ids, dtype=np.uint64)
            sources[document.id] = {size: np.unique(hash_ngrams(ids, size)) for size in settings.sizes}
    return sources


def encode(tokenizer: "Tokenizer", texts: Sequence[SyntheticText]) -> list[Hashes]:
    batch = tokenizer.encode_batch([text.text for text in texts], add_special_tokens=False)
    return [np.array(encoding.ids, dtype=np.uint64) for encoding in batch]


def hash_ngrams(ids: Hashes, size: int) -> Hashes:
    """Returns one 64-bit hash per n-gram; two different n-grams collide with probability about 10^-19."""
    if len(ids) < size:
        return np.empty(0, dtype=np.uint64)
    scattered = mix_bits(ids + np.uint64(1))
    windows = np.zeros(len(ids) - size + 1, dtype=np.uint64)
    for offset in range(size):
        windows = mix_bits(windows * MULTIPLIER + scattered[offset : offset + len(windows)])
    return windows


def mix_bits(values: Hashes) -> Hashes:
    """The finalizer of splitmix64 (Steele et al. 2014): each input bit affects every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def count_shared(windows: Hashes, known: Hashes) -> int:
    """Returns how many of `windows` occur in `known`, which is sorted."""
    if not len(windows) or not len(known):
        return 0
    positions = np.minimum(np.searchsorted(known, windows), len(known) - 1)
    return int((known[positions] == windows).sum())


def overlap_lines(result: Mapping[str, Any], out: Path) -> list[str]:
    """Writes overlap.csv and overlap.md and returns the lines to print."""
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
        (f"paper, {name}", None, published.OVERLAP_DOCUMENTS, *map(shares.get, sizes))
        for name, shares in published.OVERLAP.items()
    ]
    return [
        "share of synthetic tokens that begin an n-gram of their source document",
        *write_table(out, "overlap", columns, rows),
        f"paper: {published.PAPER}, {published.OVERLAP_SECTION}; different documents, different writer",
        *([f"note: {result['label']}"] if result["label"] else []),
    ]


def draw_overlap(result: Mapping[str, Any], out: Path) -> None:
    figure, ((left, right),) = figures.create_figure(1, 2, figsize=(9.0, 3.8))
    names = list(dict.fromkeys(row["augmenter"] for row in result["rows"]))
    for row in result["rows"]:
        is_total = row["kind"] == ALL_KINDS
        color, marker = figures.series_style(row["augmenter"], names.index(row["augmenter"]))
        left.plot(
            range(len(result["sizes"])),
            [row["overlap"][str(size)] for size in result["sizes"]],
            color=color,
            marker=marker if is_total else None,
            linewidth=1.6 if is_total else 0.7,
            linestyle="-" if is_total else ":",
            label=DISPLAY_NAMES.get(row["augmenter"], row["augmenter"]) if is_total else None,
        )
    left.plot([], [], color=GRAY, linewidth=0.7, linestyle=":", label="one kind of text")
    format_panel(left, result["sizes"], "These corpora")
    left.set_ylabel("tokens that begin an n-gram of the source")
    for index, (name, shares) in enumerate(published.OVERLAP.items()):
        color, marker = figures.series_style(name, index)
        label = DISPLAY_NAMES.get(name, name)
        right.plot(range(len(shares)), list(shares.values()), color=color, marker=marker, label=label)
    sizes = list(next(iter(published.OVERLAP.values())))
    format_panel(right, sizes, f"Paper ({published.OVERLAP_SECTION})")
    figures.save_figure(figure, out, "overlap", result["label"])


def format_panel(axes: Axes, sizes: list[int], title: str) -> None:
    axes.set_xticks(range(len(sizes)), [f"n = {size}" for size in sizes])
    axes.set_title(title, fontsize=9)
    axes.set_ylim(bottom=0)
    figures.format_percent_axis(axes)
    axes.legend(frameon=False, fontsize=8)
