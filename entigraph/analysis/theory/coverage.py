"""From theory to a real corpus: how many pairs of entities its texts cover, and the curve that this predicts.

The source's graph joins two entities of a document that it mentions together; it is the toy model's source graph, so
its µ(k) gives the predicted share of known pairs by rounds. A text about k entities counts as k(k-1) rounds, one for
each ordered pair. Beside the prediction stands what the texts do: the pairs they were asked about, and the pairs that
they mention together.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.curve_forms import Vector
from entigraph.analysis.settings import Coverage
from entigraph.analysis.study_runs import FinishedRun, augmenters, base, label_of
from entigraph.analysis.theory.toy_model import Booleans, Growth, Integers, growth, trees
from entigraph.errors import DataError
from entigraph.storage.artifact import read_manifest, write_json
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, source_document_id
from entigraph.storage.texts import read_texts

SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
LEAST_RANGE = 0.02  # of a share: nothing can be said of accuracy on one that hardly moves


@dataclass(frozen=True)
class EntityIndex:
    """Finds the entities of one document in a text, whatever their case."""

    entities: Sequence[str]

    @cached_property
    def numbers(self) -> dict[str, int]:
        return {entity.casefold(): number for number, entity in enumerate(self.entities)}

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.numbers, key=len, reverse=True)
        return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)")

    def together(self, text: str, window: int) -> set[tuple[int, int]]:
        """Unordered pairs that `window` successive sentences mention."""
        found = [
            {self.numbers[name] for name in self.pattern.findall(sentence)}
            for sentence in SENTENCE_END.split(text.casefold())
        ]
        pairs: set[tuple[int, int]] = set()
        for start in range(max(1, len(found) - window + 1)):
            pairs |= set(combinations(sorted(set().union(*found[start : start + window])), 2))
        return pairs

    def asked(self, about: Sequence[str]) -> set[tuple[int, int]]:
        known = sorted(self.numbers[name.casefold()] for name in about if name.casefold() in self.numbers)
        return set(combinations(known, 2))


@dataclass(frozen=True)
class Source:
    """One document's entities and the pairs that it mentions together."""

    index: EntityIndex
    stated: Booleans

    @cached_property
    def growth(self) -> Growth:
        return growth(trees(self.stated))

    @property
    def pairs(self) -> int:
        return len(self.stated) * (len(self.stated) - 1)


@dataclass(frozen=True)
class Corpus:
    """The texts of one synthesis: the tokens of each, and which pairs each covers, by document and by both measures.

    A pair has a number: the documents' V x V matrices, one after another. `rounds` are the toy model's, by document.
    """

    sources: Sequence[Source]
    tokens: Vector
    asked: Integers  # (incidences, 2): text, pair
    stated: Integers
    rounds: Vector

    @property
    def has_questions(self) -> bool:
        return len(self.asked) > 0

    def predicted(self, tokens: Vector) -> Vector:
        """The toy model's share of known pairs, over all documents' pairs."""
        known = [
            source.pairs * source.growth.accuracy(tokens * rounds / self.tokens.sum())
            for source, rounds in zip(self.sources, self.rounds, strict=True)
        ]
        return np.asarray(np.sum(known, axis=0) / sum(source.pairs for source in self.sources))

    def covered(self, incidences: Integers, tokens: Vector, draws: int, seed: int) -> Vector:
        """Share of pairs that the source or the first so many tokens of the corpus cover, mean over `draws` orders."""
        stated = np.concatenate([source.stated.ravel() for source in self.sources])
        total = sum(source.pairs for source in self.sources)
        shares = []
        for draw in range(draws):
            order = np.random.default_rng([seed, draw]).permutation(len(self.tokens))
            reached = np.empty(len(self.tokens))
            reached[order] = np.cumsum(self.tokens[order])
            first = np.full(len(stated), np.inf)
            np.minimum.at(first, incidences[:, 1], reached[incidences[:, 0]])
            first[stated] = 0
            shares.append(np.searchsorted(np.sort(first), tokens, side="right") / total)
        return np.asarray(np.mean(shares, axis=0))


def sources_of(runs: Sequence[FinishedRun], settings: Coverage) -> dict[str, Source]:
    """By document id. Raises DataError where no run of these documents has an entity graph."""
    for run in runs:
        file = run.folder("synthesis") / "graphs.jsonl"
        graphs = list(read_jsonl(file, EntityGraph)) if file.exists() else []
        if graphs:
            documents = {found.id: found for found in read_jsonl(run.folder("corpus") / "documents.jsonl", Document)}
            entities: dict[str, list[str]] = defaultdict(list)
            for graph in graphs:
                entities[source_document_id(graph.document_id, documents)] += graph.entities
            return {name: source_of(documents[name], found, settings) for name, found in entities.items()}
    raise DataError(
        f"{runs[0].member['corpus']}: no run of these documents has an entity graph; add augmenter=entigraph"
    )


def source_of(document: Document, entities: Sequence[str], settings: Coverage) -> Source:
    index = EntityIndex(list(dict.fromkeys(entity.casefold() for entity in entities)))
    stated = np.zeros((len(index.entities),) * 2, dtype=bool)
    for one, other in index.together(f"{document.title}. {document.text}", settings.window):
        stated[one, other] = stated[other, one] = True
    return Source(index, stated)


def corpus_of(run: FinishedRun, sources: dict[str, Source], settings: Coverage) -> Corpus:
    offsets = np.concatenate([[0], np.cumsum([len(source.stated) ** 2 for source in sources.values()])])
    place = {document: (number, int(offsets[number])) for number, document in enumerate(sources)}
    tokens: list[int] = []
    incidences: dict[str, list[tuple[int, int]]] = {"asked": [], "stated": []}
    rounds = np.zeros(len(sources))
    for text in islice(read_texts(run.folder("synthesis")), settings.texts):
        if text.document_id not in sources:
            continue
        source, (number, offset) = sources[text.document_id], place[text.document_id]
        asked = source.index.asked(text.about)
        rounds[number] += 2 * len(asked)
        for kind, pairs in (("asked", asked), ("stated", source.index.together(text.text, settings.window))):
            for one, other in pairs:
                both = (one * len(source.stated) + other, other * len(source.stated) + one)
                incidences[kind] += [(len(tokens), offset + pair) for pair in both]
        tokens.append(text.tokens)
    asked_pairs, stated_pairs = (np.array(found, dtype=np.int64).reshape(-1, 2) for found in incidences.values())
    return Corpus(list(sources.values()), np.array(tokens, dtype=float), asked_pairs, stated_pairs, rounds)


def measured(runs: Sequence[FinishedRun], settings: Coverage) -> list[dict[str, Any]]:
    """One row a run: its tokens, its accuracy, and the shares of pairs that were to be known from them."""
    by_corpus: dict[str, list[FinishedRun]] = defaultdict(list)
    for run in runs:
        by_corpus[run.member["corpus"]].append(run)
    rows = []
    for own in by_corpus.values():
        sources = sources_of(own, settings)
        corpora: dict[str, Corpus] = {}
        for run in own:
            folder = run.member["synthesis"]
            if folder not in corpora:
                corpora[folder] = corpus_of(run, sources, settings)
            rows.append(row(run, corpora[folder], settings))
    return rows


def row(run: FinishedRun, corpus: Corpus, settings: Coverage) -> dict[str, Any]:
    tokens = np.array([float(min(run.synthetic_tokens, corpus.tokens.sum()))])  # repeated texts cover nothing more
    stated = corpus.covered(corpus.stated, tokens, settings.draws, run.seed)
    asked = corpus.covered(corpus.asked, tokens, settings.draws, run.seed)
    return {
        "augmenter": run.augmenter,
        "seed": run.seed,
        "budget": run.budget,
        "synthetic_tokens": run.synthetic_tokens,
        "accuracy": run.score["accuracy"],
        "predicted": float(corpus.predicted(tokens)[0]) if corpus.has_questions else None,
        "asked": float(asked[0]) if corpus.has_questions else None,
        "stated": float(stated[0]),
        "texts_read": len(corpus.tokens),
        "texts": read_manifest(run.folder("synthesis"))["counts"]["texts"],
        "entities": float(np.mean([len(source.stated) for source in corpus.sources])),
        "source": float(np.mean([source.growth.start for source in corpus.sources])),
        "limit": float(np.mean([source.growth.limit for source in corpus.sources])),
        "mean_of_mu": mean_of_mu([source.growth for source in corpus.sources]),
    }


def mean_of_mu(parts: Sequence[Growth]) -> float:
    """Over all documents' learnable pairs; 0 where the source states every pair that it connects."""
    learnable = sum(part.counts.sum() for part in parts)
    return float(sum(part.counts.sum() * part.mean for part in parts) / learnable) if learnable else 0.0


MEASURES = {
    "predicted": "toy model on the source's graph",
    "asked": "pairs asked about",
    "stated": "pairs mentioned together",
}


def maps(rows: Sequence[dict[str, Any]], base: float | None) -> list[dict[str, Any]]:
    """How well accuracy follows each share, and ln(tokens), for each augmenter: a line with two fitted numbers each.

    `unfitted` is the root mean square error of going from the base model at no pair to 1 at all pairs, nothing fitted.
    """
    found = []
    for augmenter in dict.fromkeys(row["augmenter"] for row in rows):
        own = [row for row in rows if row["augmenter"] == augmenter]
        accuracy = np.array([row["accuracy"] for row in own])
        shares = {name: [row[name] for row in own] for name in MEASURES}
        shares["ln_tokens"] = np.log([row["synthetic_tokens"] for row in own]).tolist()
        for name, values in shares.items():
            if None in values or np.ptp(values) < LEAST_RANGE or len({row["synthetic_tokens"] for row in own}) < 3:
                continue
            x = np.array(values)
            slope, intercept = np.polyfit(x, accuracy, 1)
            error = accuracy - intercept - slope * x
            told = {"augmenter": augmenter, "measure": name, "intercept": float(intercept), "slope": float(slope)}
            told |= {"rms": rms(error), "r2": float(1 - (error**2).sum() / ((accuracy - accuracy.mean()) ** 2).sum())}
            if base is not None and name != "ln_tokens":
                told["unfitted"] = rms(accuracy - base - (1 - base) * x)
            found.append(told)
    return found


def rms(error: Vector) -> float:
    return float(np.sqrt((error**2).mean()))


def draw(settings: Coverage, runs: Sequence[FinishedRun], out: Path) -> list[str]:
    """Writes coverage.json, coverage.png and coverage.svg; returns what to tell."""
    from entigraph.analysis.theory.coverage_figure import coverage_figure

    if not runs:
        raise DataError("analysis=coverage: the study has no finished run; run the study first (entigraph run)")
    rows = sorted(measured(runs, settings), key=lambda row: (row["augmenter"], row["synthetic_tokens"], row["seed"]))
    start = base(runs)
    result = {
        "label": label_of(runs),
        "base": start["accuracy"] if start else None,
        "window": settings.window,
        "rows": rows,
        "maps": maps(rows, start["accuracy"] if start else None),
    }
    write_json(out / "coverage.json", result)
    coverage_figure(result, out)
    return told(result, augmenters(runs))


def told(result: dict[str, Any], names: Iterable[str]) -> list[str]:
    first = result["rows"][0]
    lines = [
        f"the source's graphs: {first['entities']:.1f} entities a document, {100 * first['source']:.1f} % of pairs "
        f"mentioned together, {100 * first['limit']:.1f} % reachable, mean of µ {first['mean_of_mu']:.2f}",
        f"{'':12}{'tokens':>10}{'accuracy':>10}{'toy model':>11}{'asked':>8}{'mentioned':>11}",
    ]
    for row in result["rows"]:
        shares = "".join(
            f"{row[name]:>{width}.3f}" if row[name] is not None else " " * width
            for name, width in (("predicted", 11), ("asked", 8), ("stated", 11))
        )
        lines.append(f"{row['augmenter']:12}{row['synthetic_tokens']:>10,}{row['accuracy']:>10.3f}{shares}")
    unread = sum(row["texts"] > row["texts_read"] for row in result["rows"])
    if unread:
        lines.append(f"of {unread} runs' corpora not all texts were read (analysis.texts): their shares are too small")
    for one in result["maps"]:
        named = MEASURES.get(one["measure"], "ln(tokens)")
        unfitted = f"; with nothing fitted {one['unfitted']:.3f}" if "unfitted" in one else ""
        lines.append(f"{one['augmenter']}: accuracy on {named}: R² {one['r2']:.3f}, error {one['rms']:.3f}{unfitted}")
    return lines
