"""From judged claims to numbers: by summarizer and prompt, each with its denominator and an interval by document.

The paper divides the count of a summary by that of the human one and averages over articles; it does not say what
becomes of an article whose human summary makes no such claim. `relative` divides sums over documents instead, which is
defined wherever the references make one at all. `mean_of_ratios` is the paper's, over the documents whose reference
makes one; `left_out` counts the others.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from entigraph.analysis.factuality.ratios import ratio
from entigraph.analysis.summaries.claims import Standing

if TYPE_CHECKING:
    from entigraph.analysis.summaries.summary_claims import JudgedSummary

Counts = Mapping[tuple[str, str], Sequence[int]]  # by document, of each of its summaries


def rows(found: Sequence["JudgedSummary"], confidence: float) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str, str], list[JudgedSummary]] = {}
    for each in found:
        groups.setdefault((each.kind, each.summarizer, each.prompt), []).append(each)
    reference = next((own for (kind, _, _), own in groups.items() if kind == "reference"), [])
    for (kind, summarizer, prompt), own in groups.items():
        yield {
            "summarizer": summarizer,
            "kind": kind,
            "prompt": prompt,
            **circumstances(own),
            "true": shares(own, confidence),
            **{
                str(standing): {
                    "claims": sum(each.verdicts.count(standing) for each in own),
                    "a_summary": a_summary(counts(own, standing), confidence),
                    **against(counts(own, standing), counts(reference, standing), confidence),
                }
                for standing in Standing
            },
        }


def circumstances(own: Sequence["JudgedSummary"]) -> dict[str, Any]:
    """`not_judged`: summaries without claims or verdicts, by reason; they stand in no ratio."""
    return {
        "summaries": len(own),
        "documents": len({each.place for each in own}),
        "empty": sum(not each.text for each in own),
        "cut": sum(each.finish_reason == "length" for each in own),
        "not_judged": dict(Counter(each.missing for each in own if each.missing)),
        "claims": sum(len(each.claims or ()) for each in own),
        "no_verdict": sum(each.verdicts.count(None) for each in own if not each.missing),
    }


def counts(own: Sequence["JudgedSummary"], standing: Standing) -> Counts:
    found: dict[tuple[str, str], list[int]] = {}
    for each in own:
        if not each.missing:
            found.setdefault(each.place, []).append(each.verdicts.count(standing))
    return found


def shares(own: Sequence["JudgedSummary"], confidence: float) -> dict[str, Any]:
    """The claims that are true, of those with a verdict."""
    false = counts(own, Standing.false)
    true = [counts(own, standing) for standing in (Standing.salient, Standing.cosmetic)]
    parts = []
    for place in false:
        right = sum(sum(each[place]) for each in true)
        parts.append((float(right), float(right + sum(false[place]))))
    return ratio(parts, confidence)


def a_summary(own: Counts, confidence: float) -> dict[str, Any]:
    return ratio([(float(sum(found)), float(len(found))) for found in own.values()], confidence)


def against(own: Counts, reference: Counts, confidence: float) -> dict[str, Any]:
    """Over the documents of both; a document's summaries, and its references, count by their means."""
    pairs = [(mean(own[place]), mean(reference[place])) for place in own if place in reference]
    defined = [(one / other, 1.0) for one, other in pairs if other]
    return {
        "relative": ratio(pairs, confidence),
        "mean_of_ratios": {**ratio(defined, confidence), "left_out": len(pairs) - len(defined)},
    }


# --- in words ---


def told(result: Mapping[str, Any], out: Path) -> list[str]:
    lines = [
        f"judged by {result['judge']}; {result['references']['summaries']:,} reference summaries by "
        f"{result['references']['by']}",
        f"{'':44}{'summaries':>10}{'claims':>8}{'false':>8}{'salient':>8}{'false / reference':>24}"
        f"{'salient / reference':>24}",
    ]
    for row in result["rows"]:
        name = ", ".join(filter(None, (row["summarizer"], row["prompt"])))
        each = "".join(f"{shown(row[standing]['a_summary'], False):>8}" for standing in ("false", "salient"))
        relative = "".join(f"{shown(row[standing]['relative']):>24}" for standing in ("false", "salient"))
        lines.append(f"{name:44}{row['summaries']:>10,}{row['claims']:>8,}{each}{relative}")
        lines += [f"  {remark}" for remark in remarks(row)]
    lines.append("false and salient: a summary; relative to the reference: sums over documents")
    lines += undefined(result)
    if result["references"]["documents_without"]:
        lines.append(f"{result['references']['documents_without']:,} documents have no reference: no ratio holds them")
    if result["agreement"]:
        lines.append(agreed(result["agreement"]))
    lines.append(f"every claim with its verdict: {out / 'claims.jsonl'}")
    return [*lines, *([f"note: {result['label']}"] if result["label"] else [])]


def remarks(row: Mapping[str, Any]) -> Iterator[str]:
    for name in ("empty", "cut", "no_verdict"):
        if row[name]:
            what = "claims without a verdict" if name == "no_verdict" else name
            yield f"{row[name]:,} {what}"
    if row["not_judged"]:
        yield "not judged: " + ", ".join(f"{count:,} {reason}" for reason, count in row["not_judged"].items())


def undefined(result: Mapping[str, Any]) -> Iterator[str]:
    """The zero-count case: nothing to divide by."""
    reference = [row for row in result["rows"] if row["kind"] == "reference"]
    for standing in ("false", "salient"):
        if all(not row[standing]["claims"] for row in reference):
            yield f"the references make no {standing} claim, so nothing is relative to that; see the counts a summary"


def agreed(found: Mapping[str, Any]) -> str:
    if not found["compared"]:
        return f"{found['second']}: no claim of both judges"
    kappa = f"Cohen's kappa {found['kappa']:.2f}" if found["kappa"] is not None else "Cohen's kappa not defined"
    return (
        f"{found['second']} on {found['compared']:,} claims of {found['summaries']:,} summaries: "
        f"{found['agreed']:.1%} alike, {kappa}"
    )


def shown(found: Mapping[str, Any], interval: bool = True) -> str:
    if found["value"] is None:
        return "undefined"
    if not interval or found["interval"] is None:
        return f"{found['value']:.2f}"
    low, high = found["interval"]
    return f"{found['value']:.2f} [{low:.2f}, {high:.2f}]"
