"""Measures which pairs of entities the texts of a study cover, and the curve that this predicts.

The source graph joins two entities of a document that it mentions together; as the toy model's source graph, its µ(k)
gives the predicted share of known pairs by rounds. A text about k entities counts as k(k-1) rounds, one per ordered
pair. The prediction is compared with the pairs that the prompts request and those that the texts mention together.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.document_bootstrap import Vector
from entigraph.analysis.study_runs import StudyRun, accuracy_label, run_folders, short_disclaimer, summarize_base_model
from entigraph.analysis.theory.knowledge_growth import Booleans, Growth, Integers, measure_growth, shortest_path_trees
from entigraph.config.fields import check_minimums
from entigraph.errors import DataError
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, ORANGE, PURPLE, SKY, Axes
from entigraph.storage.artifact import read_manifest, write_json
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, source_document_id
from entigraph.storage.texts import read_texts

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
MIN_RANGE = 0.02  # smaller ranges of a share say nothing about accuracy


MEASURES = {
    "predicted": "toy model on the source graph",
    "requested": "pairs requested in prompts",
    "stated": "pairs mentioned together",
}
LINE_STYLES = {"predicted": (ORANGE, "-", 4.0), "requested": (SKY, "-", 2.0), "stated": (PURPLE, "--", 1.0)}


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Pairs of entities that a study's texts cover, and the curve that this predicts, with the measured one.

    Two entities are mentioned together if `window` successive sentences name both. Shares are means over `draws` orders
    of the texts; of a larger corpus only the first `texts` are read.
    """

    name: ClassVar[str] = "coverage"
    window: int = 1
    draws: int = 5
    texts: int = 200_000

    def __post_init__(self) -> None:
        check_minimums(self, "analysis.", window=1, draws=1, texts=1)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.required_runs)

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes coverage.json, .png and .svg."""
        rows = measure_runs(context.runs, self)
        rows.sort(key=lambda row: (row["augmenter"], row["synthetic_tokens"], row["seed"]))
        base = summarize_base_model(context.runs)
        base_accuracy = base["accuracy"] if base else None
        result = {
            "label": short_disclaimer(context.runs),
            "accuracy_label": accuracy_label(context.runs[0]),
            "base": base_accuracy,
            "window": self.window,
            "rows": rows,
            "maps": fit_accuracy(rows, base_accuracy),
        }
        write_json(out / "coverage.json", result)
        draw_coverage(result, out)
        return coverage_lines(result)


@dataclass(frozen=True)
class EntityIndex:
    """Finds the entities of one document in a text, case-insensitively."""

    entities: Sequence[str]

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {entity.casefold(): number for number, entity in enumerate(self.entities)}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.numbers, key=len, reverse=True)
        return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")

    def pairs_together(self, text: str, window: int) -> set[tuple[int, int]]:
        """Returns the unordered pairs that `window` successive sentences mention."""
        mentions = [
            {self.numbers[name] for name in self.pattern.findall(sentence)}
            for sentence in SENTENCE_END.split(text.casefold())
        ]
        pairs: set[tuple[int, int]] = set()
        for start in range(max(1, len(mentions) - window + 1)):
            pairs |= set(combinations(sorted(set().union(*mentions[start : start + window])), 2))
        return pairs

    def requested_pairs(self, about: Sequence[str]) -> set[tuple[int, int]]:
        known = sorted(self.numbers[name.casefold()] for name in about if name.casefold() in self.numbers)
        return set(combinations(known, 2))


@dataclass(frozen=True)
class SourceGraph:
    """The entities of one document and the pairs that it mentions together."""

    index: EntityIndex
    stated: Booleans

    @cached_property
    def growth(self) -> Growth:
        return measure_growth(shortest_path_trees(self.stated))

    @property
    def pairs(self) -> int:
        return len(self.stated) * (len(self.stated) - 1)


@dataclass(frozen=True)
class CorpusCoverage:
    """The texts of one synthesis: the tokens of each, and which pairs each covers, by both measures.

    Pairs are numbered through the documents' V x V matrices, one after another. `rounds` are the toy model's, by
    document.
    """

    sources: Sequence[SourceGraph]
    tokens: Vector
    requested: Integers  # (incidences, 2): text, pair
    stated: Integers
    rounds: Vector

    @property
    def has_requested_pairs(self) -> bool:
        return len(self.requested) > 0

    @property
    def pairs(self) -> int:
        return sum(source.pairs for source in self.sources)

    def predicted(self, tokens: Vector) -> Vector:
        """Returns the toy model's share of known pairs, over the pairs of all documents."""
        known = [
            source.pairs * source.growth.accuracy(tokens * rounds / self.tokens.sum())
            for source, rounds in zip(self.sources, self.rounds, strict=True)
        ]
        return np.asarray(np.sum(known, axis=0) / self.pairs)

    def covered(self, incidences: Integers, tokens: Vector, draws: int, seed: int) -> Vector:
        """Returns the share of pairs that the source or the first `tokens` of the corpus cover, mean over orders."""
        stated = np.concatenate([source.stated.ravel() for source in self.sources])
        shares = []
        for draw in range(draws):
            order = np.random.default_rng([seed, draw]).permutation(len(self.tokens))
            end = np.empty(len(self.tokens))
            end[order] = np.cumsum(self.tokens[order])
            first = np.full(len(stated), np.inf)
            np.minimum.at(first, incidences[:, 1], end[incidences[:, 0]])
            first[stated] = 0
            shares.append(np.searchsorted(np.sort(first), tokens, side="right") / self.pairs)
        return np.asarray(np.mean(shares, axis=0))


def load_source_graphs(runs: Sequence[StudyRun], settings: Coverage) -> dict[str, SourceGraph]:
    """Returns source graphs by document id. Raises DataError if no run of these documents has an entity graph."""
    for run in runs:
        file = run.folder("synthesis") / "graphs.jsonl"
        graphs = list(read_jsonl(file, EntityGraph)) if file.exists() else []
        if graphs:
            documents = {
                document.id: document for document in read_jsonl(run.folder("corpus") / "documents.jsonl", Document)
            }
            entities: dict[str, list[str]] = defaultdict(list)
            for graph in graphs:
                entities[source_document_id(graph.document_id, documents)] += graph.entities
            return {name: build_source_graph(documents[name], names, settings) for name, names in entities.items()}
    raise DataError(
        f"{runs[0].entry['corpus']}: no run of these documents has an entity graph; add augmenter=entigraph"
    )


def build_source_graph(document: Document, entities: Sequence[str], settings: Coverage) -> SourceGraph:
    index = EntityIndex(list(dict.fromkeys(entity.casefold() for entity in entities)))
    stated = np.zeros((len(index.entities),) * 2, dtype=bool)
    for one, other in index.pairs_together(f"{document.title}. {document.text}", settings.window):
        stated[one, other] = stated[other, one] = True
    return SourceGraph(index, stated)


def load_coverage(run: StudyRun, sources: Mapping[str, SourceGraph], settings: Coverage) -> CorpusCoverage:
    offsets = np.concatenate([[0], np.cumsum([len(source.stated) ** 2 for source in sources.values()])])
    offset_by_document = {document: (number, int(offsets[number])) for number, document in enumerate(sources)}
    tokens: list[int] = []
    incidences: dict[str, list[tuple[int, int]]] = {"requested": [], "stated": []}
    rounds = np.zeros(len(sources))
    for text in islice(read_texts(run.folder("synthesis")), settings.texts):
        if text.document_id not in sources:
            continue
        source, (number, offset) = sources[text.document_id], offset_by_document[text.document_id]
        requested = source.index.requested_pairs(text.about)
        rounds[number] += 2 * len(requested)
        for kind, pairs in (
            ("requested", requested),
            ("stated", source.index.pairs_together(text.text, settings.window)),
        ):
            for one, other in pairs:
                ordered = (one * len(source.stated) + other, other * len(source.stated) + one)
                incidences[kind] += [(len(tokens), offset + pair) for pair in ordered]
        tokens.append(text.tokens)
    requested_pairs, stated_pairs = (np.array(pairs, dtype=np.int64).reshape(-1, 2) for pairs in incidences.values())
    return CorpusCoverage(list(sources.values()), np.array(tokens, dtype=float), requested_pairs, stated_pairs, rounds)


def measure_runs(runs: Sequence[StudyRun], settings: Coverage) -> list[dict[str, Any]]:
    """Returns one row per run: its tokens, its accuracy, and the shares of pairs by each measure."""
    by_corpus: dict[str, list[StudyRun]] = defaultdict(list)
    for run in runs:
        by_corpus[run.entry["corpus"]].append(run)
    rows = []
    for corpus_runs in by_corpus.values():
        sources = load_source_graphs(corpus_runs, settings)
        coverage: dict[str, CorpusCoverage] = {}
        for run in corpus_runs:
            folder = run.entry["synthesis"]
            if folder not in coverage:
                coverage[folder] = load_coverage(run, sources, settings)
            rows.append(build_row(run, coverage[folder], settings))
    return rows


def build_row(run: StudyRun, corpus: CorpusCoverage, settings: Coverage) -> dict[str, Any]:
    tokens = np.array([float(min(run.synthetic_tokens, corpus.tokens.sum()))])  # repeated texts cover nothing more
    stated = corpus.covered(corpus.stated, tokens, settings.draws, run.seed)
    requested = corpus.covered(corpus.requested, tokens, settings.draws, run.seed)
    growth = [source.growth for source in corpus.sources]
    return {
        "augmenter": run.augmenter,
        "seed": run.seed,
        "budget": run.budget,
        "synthetic_tokens": run.synthetic_tokens,
        "accuracy": run.score["accuracy"],
        "predicted": float(corpus.predicted(tokens)[0]) if corpus.has_requested_pairs else None,
        "requested": float(requested[0]) if corpus.has_requested_pairs else None,
        "stated": float(stated[0]),
        "texts_read": len(corpus.tokens),
        "texts": read_manifest(run.folder("synthesis"))["counts"]["texts"],
        "entities": float(np.mean([len(source.stated) for source in corpus.sources])),
        "source": float(np.mean([part.start for part in growth])),
        "limit": float(np.mean([part.limit for part in growth])),
        "mean_of_mu": mean_of_mu(growth),
    }


def mean_of_mu(parts: Sequence[Growth]) -> float:
    """Returns the mean over all learnable pairs; 0 if the source states every pair that it connects."""
    learnable = sum(part.counts.sum() for part in parts)
    return float(sum(part.counts.sum() * part.mean for part in parts) / learnable) if learnable else 0.0


def fit_accuracy(rows: Sequence[dict[str, Any]], base: float | None) -> list[dict[str, Any]]:
    """Returns a line of accuracy on each share, and on ln(tokens), for each augmenter: two fitted numbers each.

    `unfitted` is the root mean square error of the line from the base model at no pair to 1 at all pairs.
    """
    fits = []
    for augmenter in dict.fromkeys(row["augmenter"] for row in rows):
        series = [row for row in rows if row["augmenter"] == augmenter]
        accuracy = np.array([row["accuracy"] for row in series])
        predictors = {name: [row[name] for row in series] for name in MEASURES}
        predictors["ln_tokens"] = np.log([row["synthetic_tokens"] for row in series]).tolist()
        for name, values in predictors.items():
            if None in values or np.ptp(values) < MIN_RANGE or len({row["synthetic_tokens"] for row in series}) < 3:
                continue
            x = np.array(values)
            slope, intercept = np.polyfit(x, accuracy, 1)
            error = accuracy - intercept - slope * x
            fit = {
                "augmenter": augmenter,
                "measure": name,
                "intercept": float(intercept),
                "slope": float(slope),
                "rms": root_mean_square(error),
                "r2": float(1 - (error**2).sum() / ((accuracy - accuracy.mean()) ** 2).sum()),
            }
            if base is not None and name != "ln_tokens":
                fit["unfitted"] = root_mean_square(accuracy - base - (1 - base) * x)
            fits.append(fit)
    return fits


def root_mean_square(error: Vector) -> float:
    return float(np.sqrt((error**2).mean()))


def coverage_lines(result: Mapping[str, Any]) -> list[str]:
    first = result["rows"][0]
    lines = [
        f"source graphs: {first['entities']:.1f} entities per document, {100 * first['source']:.1f}% of pairs "
        f"mentioned together, {100 * first['limit']:.1f}% reachable, mean of µ {first['mean_of_mu']:.2f}",
        f"{'':12}{'tokens':>10}{'accuracy':>10}{'toy model':>11}{'requested':>11}{'mentioned':>11}",
    ]
    for row in result["rows"]:
        shares = "".join(
            f"{row[name]:>{width}.3f}" if row[name] is not None else " " * width
            for name, width in (("predicted", 11), ("requested", 11), ("stated", 11))
        )
        lines.append(f"{row['augmenter']:12}{row['synthetic_tokens']:>10,}{row['accuracy']:>10.3f}{shares}")
    unread = sum(row["texts"] > row["texts_read"] for row in result["rows"])
    if unread:
        lines.append(f"{unread} runs' corpora were not read completely (analysis.texts): their shares are too small")
    for fit in result["maps"]:
        measure = MEASURES.get(fit["measure"], "ln(tokens)")
        unfitted = f"; without fitting {fit['unfitted']:.3f}" if "unfitted" in fit else ""
        lines.append(f"{fit['augmenter']}: accuracy on {measure}: R² {fit['r2']:.3f}, error {fit['rms']:.3f}{unfitted}")
    return lines


def draw_coverage(result: Mapping[str, Any], out: Path) -> None:
    """Draws the curves that coverage predicts with the measured one, and accuracy against coverage."""
    figure, ((left, right),) = figures.create_figure(1, 2, figsize=(9.8, 4.2))
    names = list(dict.fromkeys(row["augmenter"] for row in result["rows"]))
    with_requests = [row["augmenter"] for row in result["rows"] if row["requested"] is not None]
    if with_requests:
        draw_predictions(left, result, with_requests[0])
    for index, name in enumerate(names):
        series = [row for row in result["rows"] if row["augmenter"] == name]
        figures.plot_series(right, name, index, series, "stated", "accuracy")
    right.set_xlabel("share of entity pairs mentioned together")
    right.set_title("Accuracy against coverage", fontsize=9)
    figures.format_percent_axis(right, "x", grid=False)
    for axes in (left, right):
        if result["base"] is not None:
            axes.axhline(result["base"], color=BLACK, linestyle="--", linewidth=1, label="Base model", zorder=1)
        figures.format_percent_axis(axes)
        axes.set_ylim(0, 1)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    left.set_ylabel(result["accuracy_label"])
    figures.save_figure(figure, out, "coverage", result["label"])


def draw_predictions(axes: Axes, result: Mapping[str, Any], name: str) -> None:
    series = [row for row in result["rows"] if row["augmenter"] == name]
    budgets = sorted({row["budget"] for row in series})
    tokens = [np.mean([row["synthetic_tokens"] for row in series if row["budget"] == budget]) for budget in budgets]
    label = f"{figures.display_name(name)}, measured"
    figures.plot_series(axes, name, 0, series, "synthetic_tokens", "accuracy", label=label, zorder=3)
    for fit in result["maps"]:
        if fit["augmenter"] != name or fit["measure"] not in LINE_STYLES:
            continue
        measure, base = fit["measure"], result["base"]
        share = np.array([np.mean([row[measure] for row in series if row["budget"] == budget]) for budget in budgets])
        color, line, width = LINE_STYLES[measure]
        axes.plot(
            tokens, fit["intercept"] + fit["slope"] * share, color=color, linestyle=line, linewidth=width,
            label=f"from {MEASURES[measure]}, R² {fit['r2']:.2f}",
        )  # fmt: skip
        if measure == "predicted" and base is not None:
            axes.plot(
                tokens, base + (1 - base) * share, color=color, linestyle=":",
                label="the same without fitting: base for no pairs, 1 for all",
            )  # fmt: skip
    figures.format_token_axis(axes, budgets)
    axes.set_xlabel("synthetic tokens")
    axes.set_title("What coverage predicts (two numbers fitted for each line)", fontsize=9)
