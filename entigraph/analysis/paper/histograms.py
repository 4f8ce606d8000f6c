"""Histograms over documents."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.paper import published
from entigraph.analysis.written_corpus import WrittenCorpus, corpus_folders, first_disclaimer, load_corpora
from entigraph.reporting import figures
from entigraph.reporting.figures import GRAY, Axes
from entigraph.reporting.tables import write_table
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import EntityGraph, source_document_id

TITLES = {
    "source_tokens": "Tokens per document",
    "entities": "Entities per document",
    "synthetic_tokens": "Synthetic tokens per document",
}
COLUMNS = {"corpus": "", "per document": "", "documents": ",", "mean": ",.0f", "min": ",.0f", "median": ",.0f",
           "max": ",.0f"}  # fmt: skip
BINS = 20
LINES = ("-", "--", "-.", ":")

Counts = Mapping[str, Mapping[str, int]]  # measure -> document id -> value


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Histograms of document length, entities and synthetic tokens per document (paper Fig. 7)."""

    name: ClassVar[str] = "histograms"

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return corpus_folders(context)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes histograms.json, .csv, .md, .png and .svg."""
        return write_histograms(load_corpora(context), out)


def write_histograms(corpora: Sequence[WrittenCorpus], out: Path) -> list[str]:
    counts = {corpus.name: counts_per_document(corpus) for corpus in corpora}
    disclaimer = first_disclaimer(corpora)
    draw_histograms([(corpus.augmenter, counts[corpus.name]) for corpus in corpora], disclaimer, out)
    write_json(out / "histograms.json", {"label": disclaimer, "corpora": counts})
    rows = [
        (name, measure.replace("_", " "), *summarize(list(values.values())))
        for name, measures in counts.items()
        for measure, values in measures.items()
    ]
    rows += [
        (f"paper ({published.HISTOGRAMS_SECTION})", measure.replace("_", " "), published.HISTOGRAM_DOCUMENTS,
         panel.mean, None, None, None)
        for measure, panel in published.HISTOGRAMS.items()
    ]  # fmt: skip
    table = write_table(out, "histograms", COLUMNS, rows)
    source = "the paper gives no bar heights; its means are computed from its totals (§2.2, §3)"
    return [*table, source, *([f"note: {disclaimer}"] if disclaimer else [])]


def counts_per_document(corpus: WrittenCorpus) -> dict[str, dict[str, int]]:
    """Returns each measure's value per document: 0 for a document without texts; no `entities` without graphs."""
    tokenizer = corpus.load_tokenizer()
    source = {
        document.id: len(tokenizer.encode(document.text, add_special_tokens=False).ids)
        for document in corpus.documents()
    }
    counts = {"source_tokens": source}
    file = corpus.folder / "graphs.jsonl"
    if graphs := list(read_jsonl(file, EntityGraph)) if file.exists() else []:
        entities: dict[str, set[str]] = {name: set() for name in source}
        for graph in graphs:
            entities[source_document_id(graph.document_id, source)].update(name.casefold() for name in graph.entities)
        counts["entities"] = {name: len(names) for name, names in entities.items()}
    tokens = Counter(dict.fromkeys(source, 0))
    for text in corpus.texts():
        tokens[text.document_id] += text.tokens
    return {**counts, "synthetic_tokens": dict(tokens)}


def summarize(values: Sequence[int]) -> tuple[float, ...]:
    array = np.array(values)
    return len(array), float(array.mean()), float(array.min()), float(np.median(array)), float(array.max())


def draw_histograms(counts: Sequence[tuple[str, Counts]], note: str | None, out: Path) -> None:
    """Draws one histogram per augmenter, pooled over its corpora (seeds). `counts` holds (augmenter, counts) pairs."""
    from matplotlib.ticker import MaxNLocator

    figure, (panels,) = figures.create_figure(1, 3, figsize=(10.4, 3.5))
    for axes, (measure, title) in zip(panels, TITLES.items(), strict=True):
        values: dict[str, list[int]] = {}
        for augmenter, measures in counts:
            if measure in measures:
                values.setdefault(augmenter, []).extend(measures[measure].values())
        draw_outlines(axes, values)
        axes.set_title(title, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        figures.format_count_axis(axes)
        figures.add_grid(axes, "y")
        low, high = published.HISTOGRAMS[measure].axis
        axes.set_xlabel(
            f"paper's axis: {figures.abbreviate(low)} to {figures.abbreviate(high)}", fontsize=7.5, color=GRAY
        )
    panels[0].set_ylabel("documents")
    figure.suptitle("Length, entities and synthetic tokens per document (paper Fig. 7)", fontsize=10)
    figures.save_figure(figure, out, "histograms", note)


def draw_outlines(axes: Axes, values: Mapping[str, Sequence[int]]) -> None:
    """Draws one outline per augmenter, each in its own line style, with a thin vertical line at its mean."""
    from matplotlib.ticker import MaxNLocator

    counts = [count for numbers in values.values() for count in numbers] or [0]
    width = -(-(max(counts) - min(counts) + 1) // BINS)
    edges = np.arange(min(counts), max(counts) + width + 1, width) - 0.5
    for index, (name, numbers) in enumerate(values.items()):
        color, _ = figures.series_style(name, index)
        line, average = LINES[index % len(LINES)], float(np.mean(numbers))
        label = f"{figures.display_name(name)}, mean {average:,.0f}"
        axes.hist(numbers, edges.tolist(), histtype="step", color=color, linestyle=line, linewidth=1.4, label=label)
        axes.axvline(average, color=color, linestyle=line, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.25 + 0.08 * len(values))  # room for the legend
    if values:
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=7.5, loc="upper left")
