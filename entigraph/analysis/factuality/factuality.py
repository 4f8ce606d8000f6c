"""How much of a synthetic corpus its source bears out (paper App. A.2), by augmenter, kind and number of entities.

The share of subjective sentences is over all that have a verdict, the share supported over those of them that are not
subjective, as in the paper. What has no verdict is counted, with its reason, and bounds say what it could change.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entigraph.analysis.examinations import SyntheticCorpus
from entigraph.analysis.factuality.judge_agreement import agreement, read_labels
from entigraph.analysis.factuality.judge_requests import Judgment, Verdict, judged
from entigraph.analysis.factuality.judges import name_of
from entigraph.analysis.factuality.sentences import Sentence, sampled
from entigraph.analysis.paper import published
from entigraph.analysis.settings import Factuality
from entigraph.analysis.study_runs import ORDER
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document

TO_LABEL = "to_label.csv"
COLUMNS = ("id", "verdict", "sentence", "before", "title", "document")


def examine(
    settings: Factuality, corpora: Sequence[SyntheticCorpus], out: Path, response_cache: Path, say: Any = print
) -> list[str]:
    """Writes factuality.json, its figure, the judgments, and the sample for a person; returns what to tell."""
    from entigraph.analysis.factuality.factuality_figure import factuality_figure

    sentences, seen = drawn(settings, corpora)
    documents = documents_of(corpora, sentences)
    write_jsonl(out / "sentences.jsonl", sentences)
    write_sample(out / TO_LABEL, sentences, documents)
    verdicts: dict[str, list[Verdict | None]] = {}
    missing: dict[str, Counter[str]] = {}
    for key, judge in settings.judges.items():
        found = list(judged(sentences, documents, judge, response_cache, say))
        write_jsonl(out / f"judgments-{key}.jsonl", found)
        verdicts[key], missing[key] = [each.verdict for each in found], reasons(found)
    if settings.labels:
        verdicts["person"] = read_labels(Path(settings.labels).expanduser(), sentences)
        missing["person"] = Counter({"not labeled": verdicts["person"].count(None)})
    result = {
        "corpora": [corpus.name for corpus in corpora],
        "label": next(filter(None, (corpus.label for corpus in corpora)), None),
        "sentences_in_corpora": seen,
        "confidence": settings.confidence,
        "judges": {
            key: {
                "name": judge_name(settings, key),
                "no_verdict": {reason: count for reason, count in missing[key].items() if count},
                "rows": list(rows(sentences, own, settings.confidence)),
            }
            for key, own in verdicts.items()
        },
        "agreement": [
            agreement(one, other, verdicts[one], verdicts[other])
            for one, other in (("judge", "second"), ("judge", "person"), ("second", "person"))
            if one in verdicts and other in verdicts
        ],
        "paper": {
            "section": published.FACTUALITY_SECTION,
            "sentences": published.FACTUALITY_SENTENCES,
            **{name: asdict(share) for name, share in published.FACTUALITY.items()},
        },
    }
    write_json(out / "factuality.json", result)
    factuality_figure(result, out)
    return told(result, out)


def drawn(settings: Factuality, corpora: Sequence[SyntheticCorpus]) -> tuple[list[Sentence], dict[str, int]]:
    """So many of each augmenter, and how many each has."""
    found: list[Sentence] = []
    seen = {}
    names = {corpus.augmenter for corpus in corpora}
    for name in sorted(names, key=lambda name: (-ORDER.index(name) if name in ORDER else 1, name)):
        own = [corpus for corpus in corpora if corpus.augmenter == name]
        sample, seen[name] = sampled(own, settings.sentences, settings.seed)
        found += sample
    return found, seen


def documents_of(corpora: Sequence[SyntheticCorpus], sentences: Sequence[Sentence]) -> dict[str, Document]:
    """By sentence: two corpora may call different documents alike."""
    wanted = {(sentence.corpus, sentence.document_id) for sentence in sentences}
    found = {
        (corpus.name, document.id): document
        for corpus in corpora
        for document in corpus.documents()
        if (corpus.name, document.id) in wanted
    }
    return {sentence.id: found[sentence.corpus, sentence.document_id] for sentence in sentences}


def write_sample(file: Path, sentences: Sequence[Sentence], documents: Mapping[str, Document]) -> None:
    """For a person, who does not see what the judge says."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(COLUMNS)
        for each in sentences:
            source = documents[each.id]
            writer.writerow([each.id, "", each.sentence, each.before, source.title, source.text])


def reasons(found: Sequence[Judgment]) -> Counter[str]:
    return Counter(each.missing for each in found if each.verdict is None)


def judge_name(settings: Factuality, key: str) -> str:
    return "a person" if key == "person" else name_of(settings.judges[key])


def rows(
    sentences: Sequence[Sentence], verdicts: Sequence[Verdict | None], confidence: float
) -> Iterator[dict[str, Any]]:
    """For each augmenter: all its sentences, then those of each kind and of each number of entities."""
    own = list(zip(sentences, verdicts, strict=True))
    for augmenter in dict.fromkeys(sentence.augmenter for sentence in sentences):
        members = [(sentence, verdict) for sentence, verdict in own if sentence.augmenter == augmenter]
        groups: dict[tuple[str, str], list[Verdict | None]] = {}
        for sentence, verdict in members:
            for group in (("all", ""), ("kind", sentence.kind), ("entities", str(sentence.entities))):
                groups.setdefault(group, []).append(verdict)
        for (by, name), found in sorted(groups.items(), key=lambda item: (item[0][0] != "all", item[0])):
            yield {"augmenter": augmenter, "by": by, "group": name, **shares(found, confidence)}


def shares(verdicts: Sequence[Verdict | None], confidence: float) -> dict[str, Any]:
    """Each share with its Wilson interval. `bounds`: were all without a verdict unsupported, or supported."""
    count = Counter(verdicts)
    judged, checkable = len(verdicts) - count[None], count[Verdict.supported] + count[Verdict.unsupported]
    bounds = [count[Verdict.supported], count[Verdict.supported] + count[None]]
    return {
        "sentences": len(verdicts),
        "no_verdict": count[None],
        "subjective": share(count[Verdict.subjective], judged, confidence),
        "supported": share(count[Verdict.supported], checkable, confidence),
        "supported_bounds": [bound / (checkable + count[None]) for bound in bounds]
        if checkable + count[None]
        else None,
    }


def share(part: int, whole: int, confidence: float) -> dict[str, Any]:
    """`value` and `interval` are None of nothing."""
    from scipy.stats import binomtest

    if not whole:
        return {"count": part, "of": whole, "value": None, "interval": None}
    found = binomtest(part, whole).proportion_ci(confidence, method="wilson")
    return {"count": part, "of": whole, "value": part / whole, "interval": [float(found.low), float(found.high)]}


def told(result: Mapping[str, Any], out: Path) -> list[str]:
    lines = []
    for key, judge in result["judges"].items():
        lines += [
            f"{key}: {judge['name']}",
            f"{'':24}{'sentences':>10}{'no verdict':>11}{'subjective':>26}{'supported, of the others':>28}",
        ]
        for row in judge["rows"]:
            name = row["augmenter"] if row["by"] == "all" else f"  {row['by']} {row['group']}"
            numbers = f"{shown(row['subjective']):>26}{shown(row['supported']):>28}"
            lines.append(f"{name:24}{row['sentences']:>10,}{row['no_verdict']:>11,}{numbers}")
        if judge["no_verdict"]:
            reasons = ", ".join(f"{count} {reason}" for reason, count in judge["no_verdict"].items())
            lines.append(f"  no verdict: {reasons}")
    for one in result["agreement"]:
        kappa = f"Cohen's kappa {one['kappa']:.2f}" if one["kappa"] is not None else "Cohen's kappa not defined"
        agreed = (
            f"{one['agreed']:.1%} of {one['compared']} alike, {kappa}" if one["compared"] else "no sentence of both"
        )
        lines.append(f"{one['one']} and {one['other']}: {agreed}")
    paper = {name: {**asdict(each), "of": 1} for name, each in published.FACTUALITY.items()}
    numbers = f"{shown(paper['subjective']):>26}{shown(paper['supported']):>28}"
    lines.append(f"{'paper, by hand':24}{published.FACTUALITY_SENTENCES:>10,}{'':11}{numbers}")
    lines.append(f"the paper's: {published.PAPER}, {published.FACTUALITY_SECTION}; other documents, another writer")
    lines.append(f"to label by hand: {out / TO_LABEL}, then analysis.labels=<the labeled copy>")
    return [*lines, *([f"note: {result['label']}"] if result["label"] else [])]


def shown(share: Mapping[str, Any]) -> str:
    if share["value"] is None:
        return "none"
    low, high = share["interval"]
    return f"{share['value']:.3f} [{low:.3f}, {high:.3f}]"
