"""Documents by their size, their entities and their synthetic tokens (paper Fig. 7)."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from entigraph.analysis.examinations import SyntheticCorpus
from entigraph.analysis.paper import published
from entigraph.analysis.paper.tables import write_table
from entigraph.reporting.figures import GRAY, label, prepare, save, short, style
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import EntityGraph, source_document_id

TITLES = {
    "source_tokens": "Tokens of a document",
    "entities": "Entities of a document",
    "synthetic_tokens": "Synthetic tokens of a document",
}
COLUMNS = {"corpus": "", "of each document": "", "documents": ",", "mean": ",.0f", "least": ",.0f", "median": ",.0f",
           "most": ",.0f"}  # fmt: skip
BINS = 20
LINES = ("-", "--", "-.", ":")


def examine(corpora: Sequence[SyntheticCorpus], out: Path) -> list[str]:
    """Writes histograms.json, .csv, .md, .png and .svg; returns what to tell."""
    counted = {corpus.name: dict(counts(corpus)) for corpus in corpora}
    augmenters = {corpus.name: corpus.augmenter for corpus in corpora}
    note = next(filter(None, (corpus.label for corpus in corpora)), None)
    draw(counted, augmenters, note, out)
    write_json(out / "histograms.json", {"label": note, "corpora": counted})
    rows = [(name, kind.replace("_", " "), *summary(list(found.values()))) for name, kinds in counted.items()
            for kind, found in kinds.items()]  # fmt: skip
    rows += [
        (f"paper ({published.HISTOGRAMS_SECTION})", kind.replace("_", " "), published.HISTOGRAM_DOCUMENTS, known.mean,
         None, None, None)
        for kind, known in published.HISTOGRAMS.items()
    ]  # fmt: skip
    printed = "the paper prints no bar as a number; its means are those of its totals (§2.2, §3)"
    return [*write_table(out, "histograms", COLUMNS, rows), printed, *([f"note: {note}"] if note else [])]


def counts(corpus: SyntheticCorpus) -> Iterator[tuple[str, dict[str, int]]]:
    """By document. A document that got no text counts 0; without graphs there are no entities to count."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(corpus.tokenizer / "tokenizer.json"))
    source = {each.id: len(tokenizer.encode(each.text, add_special_tokens=False).ids) for each in corpus.documents()}
    yield "source_tokens", source
    file = corpus.folder / "graphs.jsonl"
    if graphs := list(read_jsonl(file, EntityGraph)) if file.exists() else []:
        entities: dict[str, set[str]] = {name: set() for name in source}
        for graph in graphs:
            entities[source_document_id(graph.document_id, source)].update(name.casefold() for name in graph.entities)
        yield "entities", {name: len(found) for name, found in entities.items()}
    tokens = Counter(dict.fromkeys(source, 0))
    for text in corpus.texts():
        tokens[text.document_id] += text.tokens
    yield "synthetic_tokens", dict(tokens)


def summary(values: Sequence[int]) -> tuple[float, ...]:
    found = np.array(values)
    return len(found), float(found.mean()), float(found.min()), float(np.median(found)), float(found.max())


def draw(
    counted: Mapping[str, Mapping[str, Mapping[str, int]]], augmenters: Mapping[str, str], note: Any, out: Path
) -> None:
    """The corpora of one augmenter together, those of other seeds for one."""
    prepare()
    figure, panels = plt.subplots(1, 3, figsize=(10.4, 3.5), layout="constrained")
    for axes, (kind, title) in zip(panels, TITLES.items(), strict=True):
        values: dict[str, list[int]] = {}
        for name, kinds in counted.items():
            if kind in kinds:
                values.setdefault(augmenters[name], []).extend(kinds[kind].values())
        histogram(axes, values)
        axes.set_title(title, fontsize=9)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        low, high = published.HISTOGRAMS[kind].axis
        axes.set_xlabel(f"paper's axis: {short(low)} to {short(high)}", fontsize=7.5, color=GRAY)
    panels[0].set_ylabel("documents")
    figure.suptitle("Documents by size, entities and synthetic tokens (paper Fig. 7)", fontsize=10)
    if note:
        figure.supxlabel(note, fontsize=8, color=GRAY)
    save(figure, out, "histograms")


def histogram(axes: Axes, values: Mapping[str, Sequence[int]]) -> None:
    """Outlines, each of its own line style, and a thin line of the same style at the mean."""
    counts = [count for found in values.values() for count in found] or [0]
    width = -(-(max(counts) - min(counts) + 1) // BINS)
    edges = np.arange(min(counts), max(counts) + width + 1, width) - 0.5
    for number, (name, found) in enumerate(values.items()):
        color, _ = style(name, number)
        line = LINES[number % len(LINES)]
        told = f"{label(name)}, mean {np.mean(found):,.0f}"
        axes.hist(found, edges.tolist(), histtype="step", color=color, linestyle=line, linewidth=1.4, label=told)
        axes.axvline(float(np.mean(found)), color=color, linestyle=line, linewidth=0.8)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.25 + 0.08 * len(values))  # room for the legend
    if values:
        axes.legend(framealpha=0.9, edgecolor="none", fontsize=7.5, loc="upper left")
