"""Counts and ratios of judged claims by summarizer and prompt, each with its denominator and an interval by document.

The paper divides the count of a summary by that of the human one and averages over articles; it does not define the
ratio for an article whose human summary makes no such claim. `relative` divides sums over documents instead, which is
defined if the references make any such claim at all. `mean_of_ratios` is the paper's, over the documents whose
reference makes one; `left_out` counts the others.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import ratio_of_sums
from entigraph.analysis.factuality.judge_agreement import kappa_text
from entigraph.analysis.summaries.claims import ClaimVerdict
from entigraph.analysis.summaries.summarizers import DocumentKey
from entigraph.storage.artifact import artifact_folder

REFERENCE = "reference"
Counts = Mapping[DocumentKey, Sequence[int]]  # by document, one per summary


@dataclass(frozen=True, kw_only=True)
class JudgedSummary:
    """`claims` is None if the judge did not list them; `missing` states why. A claim without a verdict has None."""

    summarizer: str
    kind: str
    prompt: str
    corpus: str
    document_id: str
    sample: int
    text: str
    finish_reason: str = "stop"
    claims: Sequence[str] | None = None
    verdicts: Sequence[ClaimVerdict | None] = ()
    missing: str = ""

    @property
    def key(self) -> DocumentKey:
        return self.corpus, self.document_id


MISSING_DATA = {"empty": "empty", "cut": "cut off", "no_verdict": "claims without a verdict"}  # by field of a row


def build_rows(summaries: Sequence[JudgedSummary], confidence: float) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str, str], list[JudgedSummary]] = {}
    for summary in summaries:
        groups.setdefault((summary.kind, summary.summarizer, summary.prompt), []).append(summary)
    reference = next((members for (kind, _, _), members in groups.items() if kind == REFERENCE), [])
    for (kind, summarizer, prompt), members in groups.items():
        row = {"summarizer": summarizer, "kind": kind, "prompt": prompt, **count_summaries(members)}
        row["true"] = share_true(members, confidence)
        for verdict in ClaimVerdict:
            counts, reference_counts = count_claims(members, verdict), count_claims(reference, verdict)
            row[str(verdict)] = {
                "claims": sum(summary.verdicts.count(verdict) for summary in members),
                "per_summary": ratio([(float(sum(count)), float(len(count))) for count in counts.values()], confidence),
                **compare_with_reference(counts, reference_counts, confidence),
            }
        yield row


def count_summaries(summaries: Sequence[JudgedSummary]) -> dict[str, Any]:
    """`not_judged`: summaries without claims or verdicts, by reason; no ratio includes them."""
    return {
        "summaries": len(summaries),
        "documents": len({summary.key for summary in summaries}),
        "empty": sum(not summary.text for summary in summaries),
        "cut": sum(summary.finish_reason == "length" for summary in summaries),
        "not_judged": dict(Counter(summary.missing for summary in summaries if summary.missing)),
        "claims": sum(len(summary.claims or ()) for summary in summaries),
        "no_verdict": sum(summary.verdicts.count(None) for summary in summaries if not summary.missing),
    }


def count_claims(summaries: Sequence[JudgedSummary], verdict: ClaimVerdict) -> Counts:
    counts: dict[DocumentKey, list[int]] = {}
    for summary in summaries:
        if not summary.missing:
            counts.setdefault(summary.key, []).append(summary.verdicts.count(verdict))
    return counts


def share_true(summaries: Sequence[JudgedSummary], confidence: float) -> dict[str, Any]:
    """Returns the share of claims that are true, of those with a verdict."""
    false = count_claims(summaries, ClaimVerdict.false)
    true = [count_claims(summaries, verdict) for verdict in (ClaimVerdict.salient, ClaimVerdict.cosmetic)]
    parts = []
    for document in false:
        correct = sum(sum(counts[document]) for counts in true)
        parts.append((float(correct), float(correct + sum(false[document]))))
    return ratio(parts, confidence)


def compare_with_reference(counts: Counts, reference: Counts, confidence: float) -> dict[str, Any]:
    """Compares over the documents of both; a document's summaries, and its references, count by their means."""
    pairs = [(mean(counts[document]), mean(reference[document])) for document in counts if document in reference]
    ratios = [(one / other, 1.0) for one, other in pairs if other]
    return {
        "relative": ratio(pairs, confidence),
        "mean_of_ratios": {**ratio(ratios, confidence), "left_out": len(pairs) - len(ratios)},
    }


def ratio(parts: Sequence[tuple[float, float]], confidence: float) -> dict[str, Any]:
    """Returns the ratio of two sums over documents; `parts` are a document's numerator and denominator.

    The standard error is linearized; the interval is Student's with one degree of freedom less than documents, cut off
    at 0 because counts are not negative. `value` is None if the denominator is 0, `interval` for fewer than two
    documents.
    """
    from scipy.stats import t

    above, below = np.array(parts, dtype=float).reshape(-1, 2).T
    value, stderr = ratio_of_sums(above, below) if below.any() else (None, None)
    interval = None
    if value is not None and stderr is not None:
        margin = float(t.ppf((1 + confidence) / 2, len(parts) - 1)) * stderr
        interval = [max(0.0, value - margin), value + margin]
    sums = {"above": float(above.sum()), "below": float(below.sum()), "documents": len(parts)}
    return {**sums, "value": value, "stderr": stderr, "interval": interval}


def claims_lines(result: Mapping[str, Any], out: Path) -> list[str]:
    references = result["references"]
    lines = [
        f"judged by {result['judge']}; {references['summaries']:,} reference summaries by {references['by']}",
        f"{'':44}{'summaries':>10}{'claims':>8}{'false':>8}{'salient':>8}{'false / reference':>24}"
        f"{'salient / reference':>24}",
    ]
    for row in result["rows"]:
        name = ", ".join(filter(None, (row["summarizer"], row["prompt"])))
        counts = "".join(f"{format_ratio(row[verdict]['per_summary'], False):>8}" for verdict in ("false", "salient"))
        relative = "".join(f"{format_ratio(row[verdict]['relative']):>24}" for verdict in ("false", "salient"))
        lines.append(f"{name:44}{row['summaries']:>10,}{row['claims']:>8,}{counts}{relative}")
        lines += [f"  {remark}" for remark in row_remarks(row)]
    lines.append("false and salient: claims per summary; relative to the reference: ratios of sums over documents")
    lines += undefined_ratios(result)
    if references["documents_without"]:
        lines.append(f"{references['documents_without']:,} documents have no reference and enter no ratio")
    if result["agreement"]:
        lines.append(agreement_line(result["agreement"]))
    lines.append(f"every claim with its verdict: {artifact_folder(out) / 'claims.jsonl'}")
    return [*lines, *([f"note: {result['label']}"] if result["label"] else [])]


def row_remarks(row: Mapping[str, Any]) -> Iterator[str]:
    for key, text in MISSING_DATA.items():
        if row[key]:
            yield f"{row[key]:,} {text}"
    if row["not_judged"]:
        yield "not judged: " + ", ".join(f"{count:,} {reason}" for reason, count in row["not_judged"].items())


def undefined_ratios(result: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each verdict that no reference claim has, so that the ratio would divide by zero."""
    reference = [row for row in result["rows"] if row["kind"] == REFERENCE]
    for verdict in ("false", "salient"):
        if all(not row[verdict]["claims"] for row in reference):
            yield f"the references make no {verdict} claim, so ratios to them are undefined; see the counts per summary"


def agreement_line(agreement: Mapping[str, Any]) -> str:
    if not agreement["compared"]:
        return f"{agreement['second']}: no claim has a verdict of both judges"
    return (
        f"{agreement['second']} on {agreement['compared']:,} claims of {agreement['summaries']:,} summaries: "
        f"agrees on {agreement['agreed']:.1%}, {kappa_text(agreement)}"
    )


def format_ratio(ratio: Mapping[str, Any], with_interval: bool = True) -> str:
    if ratio["value"] is None:
        return "undefined"
    if not with_interval or ratio["interval"] is None:
        return f"{ratio['value']:.2f}"
    low, high = ratio["interval"]
    return f"{ratio['value']:.2f} [{low:.2f}, {high:.2f}]"
