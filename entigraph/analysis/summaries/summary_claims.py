"""Summaries from memory, judged claim by claim (paper §4.3): false and salient claims relative to reference summaries.

The claims of a summary are those of its complete sentences: a summary cut off at max_tokens is judged without its
unfinished last sentence, and an empty summary makes no claim. Both count like any other. Summaries that the judge did
not split, and claims without a verdict, are left out and counted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judge_agreement import measure_agreement
from entigraph.analysis.factuality.judges import (
    JudgedAnalysis,
    JudgedConfiguration,
    JudgeUsage,
    ask,
    prompt_digests,
    prompt_tokens,
    read_answer,
    writer_key,
    writer_name,
)
from entigraph.analysis.paper import published
from entigraph.analysis.summaries.claims import (
    PROMPTS,
    REFERENCE_PROMPTS,
    parse_claims,
    parse_verdicts,
    split_request,
    verdict_request,
)
from entigraph.analysis.summaries.claims_table import MISSING_DATA, REFERENCE, JudgedSummary, build_rows, claims_lines
from entigraph.analysis.summaries.summarizers import (
    DocumentKey,
    Summarizer,
    load_summarizers,
    read_references,
    summarizer_folders,
    write_references,
)
from entigraph.config.fields import check_minimums, check_shares, runtime_field
from entigraph.errors import ConfigError
from entigraph.llm.base import Writer
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, GRAY, Axes
from entigraph.storage.artifact import write_json
from entigraph.storage.fingerprints import fingerprint, sample_by_hash
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document

REFERENCE_TOKENS, SHORT_SUMMARY_TOKENS = 300, 60  # expected
CLAIM_TOKENS_RATIO = 1.2  # tokens of a list of claims, or of its verdicts, per token of the text
SENTENCE_END = re.compile(r"""[.!?]["'”’)]*(?=\s|$)""")
FILL_STYLES = {"full": "filled", "none": "open", "left": "left half", "right": "right half"}  # one per prompt


@dataclass(frozen=True, kw_only=True)
class SummaryClaims(JudgedAnalysis):
    """Which claims of closed-book summaries are false, salient and cosmetic, relative to reference summaries (§4.3).

    `references`: a JSONL file, {"document": "<id>", "summary": "..."} a line, one or several per document, such as the
    human summaries of sQuALITY that the paper uses; null: `writer`, any of conf/llm, summarizes each document, which it
    reads. `second` judges the claims of `compared` summaries, sampled with `seed`, to measure agreement.
    """

    name: ClassVar[str] = "summaries"
    judged_texts: ClassVar[str] = "the texts of this configuration"
    writer: Any = None
    references: str | None = runtime_field(None)  # enters the cache key by content
    compared: int = 50
    seed: int = 0
    confidence: float = 0.9

    def __post_init__(self) -> None:
        check_minimums(self, "analysis.", compared=1)
        check_shares(self, "analysis.", "confidence", ends=False)
        if self.references is None and not self.writer:
            raise ConfigError("analysis.references: no file and no analysis.writer; one of them is needed")
        if self.references is not None and not Path(self.references).expanduser().is_file():
            raise ConfigError(
                f'analysis.references: {self.references!r} is not a file; expected {{"document": ..., "summary": ...}} '
                "lines, or null"
            )
        super().__post_init__()
        _ = self.reference_writer

    @property
    def reference_writer(self) -> Writer | None:
        """None if people wrote the references."""
        return None if self.references else self.writer_at("writer")

    @property
    def cache_key(self) -> Mapping[str, Any]:
        writer = self.reference_writer
        return {
            **super().cache_key,
            "writer": writer_key(writer) if writer else None,
            "references": fingerprint(Path(self.references).expanduser()) if self.references else None,
            "prompts": prompt_digests(*PROMPTS, *(REFERENCE_PROMPTS if writer else ())),
        }

    def check(self) -> None:
        super().check()
        if self.reference_writer:
            self.reference_writer.check()

    def estimate_usage(self, configuration: JudgedConfiguration) -> Mapping[str, JudgeUsage]:
        return estimate_summary_usage(self, configuration)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return summarizer_folders(load_summarizers(context))

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes summaries.json, its figure, and claims.jsonl with every verdict."""
        return judge_summarizers(self, load_summarizers(context), context, out)


def estimate_summary_usage(settings: SummaryClaims, configuration: JudgedConfiguration) -> dict[str, JudgeUsage]:
    """Returns the usage for the summaries that models and baselines will write, and for their references."""
    documents = len(configuration.document_tokens)
    document = mean(configuration.document_tokens)
    groups = summary_groups(configuration)
    if len(groups) == 1:  # only the references: no task summarizes
        return {}
    judge, second, writer = JudgeUsage(), JudgeUsage(), JudgeUsage()
    splitting, judging = prompt_tokens("split_system", "split"), prompt_tokens("judge_system", "judge_claims")
    for count, (low, high) in groups:
        claims = (CLAIM_TOKENS_RATIO * low, CLAIM_TOKENS_RATIO * high)
        judged = (document + judging + claims[0], document + judging + claims[1])
        judge.add(count, (splitting + low, splitting + high), claims)
        judge.add(count, judged, claims)
    second.add(min(settings.compared, sum(count for count, _ in groups)), judged, claims)
    prompt = document + prompt_tokens("summarize_system", "summarize")
    writer.add(documents, (prompt, prompt), (REFERENCE_TOKENS, REFERENCE_TOKENS))
    usage = {"judge": judge, "second": second}
    return {key: usage[key] for key in settings.judges} | ({"writer": writer} if settings.reference_writer else {})


def summary_groups(configuration: JudgedConfiguration) -> list[tuple[int, tuple[int, int]]]:
    """Returns the number of summaries and the range of their tokens, of the references and of each task and prompt."""
    documents = len(configuration.document_tokens)
    groups = [(documents, (REFERENCE_TOKENS, REFERENCE_TOKENS))]
    for task in configuration.tasks.values():
        summarized = min(getattr(task, "limit", None) or documents, documents)
        for prompt in getattr(task, "summary_prompts", {}).values():
            tokens = (min(SHORT_SUMMARY_TOKENS, prompt.max_tokens), prompt.max_tokens)
            groups.append((configuration.models * task.samples * summarized, tokens))
    return groups


def judge_summarizers(
    settings: SummaryClaims, summarizers: Sequence[Summarizer], context: AnalysisContext, out: Path
) -> list[str]:
    documents = load_summarized_documents(summarizers)
    summaries = [*load_summaries(summarizers), *load_references(settings, documents, context)]
    judge = settings.judges["judge"]
    judged = judge_claims(split_summaries(summaries, judge, context), documents, judge, context)
    write_jsonl(out / "claims.jsonl", judged)
    result = {
        "label": next((summarizer.disclaimer for summarizer in summarizers if summarizer.disclaimer), None),
        "confidence": settings.confidence,
        "judge": writer_name(judge),
        "references": describe_references(settings, judged),
        "rows": list(build_rows(judged, settings.confidence)),
        "agreement": compare_judges(settings, judged, documents, context, out),
    }
    write_json(out / "summaries.json", result)
    draw_claims(result, out)
    return claims_lines(result, out)


def load_summarized_documents(summarizers: Sequence[Summarizer]) -> dict[DocumentKey, Document]:
    wanted = {
        (summarizer.corpus.name, summary.document_id)
        for summarizer in summarizers
        for summary in summarizer.summaries()
    }
    return {
        (summarizer.corpus.name, document.id): document
        for summarizer in {summarizer.corpus: summarizer for summarizer in summarizers}.values()
        for document in summarizer.documents()
        if (summarizer.corpus.name, document.id) in wanted
    }


def load_summaries(summarizers: Sequence[Summarizer]) -> Iterator[JudgedSummary]:
    for summarizer in summarizers:
        for summary in summarizer.summaries():
            yield JudgedSummary(
                summarizer=summarizer.name,
                kind=summarizer.kind,
                prompt=summary.prompt,
                corpus=summarizer.corpus.name,
                document_id=summary.document_id,
                sample=summary.sample,
                text=summary.text,
                finish_reason=summary.finish_reason,
            )


def load_references(
    settings: SummaryClaims, documents: Mapping[DocumentKey, Document], context: AnalysisContext
) -> Iterator[JudgedSummary]:
    if writer := settings.reference_writer:
        references = write_references(documents, writer, context)
    else:
        references = read_references(Path(settings.references or "").expanduser(), documents)
    for (corpus, document_id), texts in references.items():
        for sample, text in enumerate(texts):
            yield JudgedSummary(
                summarizer=REFERENCE,
                kind=REFERENCE,
                prompt="",
                corpus=corpus,
                document_id=document_id,
                sample=sample,
                text=text,
            )


def describe_references(settings: SummaryClaims, judged: Sequence[JudgedSummary]) -> dict[str, Any]:
    references = [summary for summary in judged if summary.kind == REFERENCE]
    by = writer_name(settings.reference_writer) if settings.reference_writer else "people"
    without = len({summary.key for summary in judged}) - len({summary.key for summary in references})
    return {"by": by, "summaries": len(references), "documents_without": without}


def complete_sentences(summary: JudgedSummary) -> str:
    if summary.finish_reason != "length":
        return summary.text
    ends = [match.end() for match in SENTENCE_END.finditer(summary.text)]
    return summary.text[: ends[-1]] if ends else ""


def split_summaries(summaries: Sequence[JudgedSummary], judge: Writer, context: AnalysisContext) -> list[JudgedSummary]:
    """Adds the claims of each summary. Empty summaries have none; failed ones are not split."""
    result = [
        replace(summary, claims=[])
        if summary.finish_reason in ("stop", "length")
        else replace(summary, missing=summary.finish_reason)
        for summary in summaries
    ]
    to_split = [index for index, summary in enumerate(result) if not summary.missing and complete_sentences(summary)]
    requests = [split_request(complete_sentences(result[index])) for index in to_split]
    for index, answer in zip(to_split, ask(requests, judge, context, "summaries"), strict=True):
        claims, missing = read_answer(answer, parse_claims)
        result[index] = replace(result[index], claims=claims, missing=missing)
    return result


def judge_claims(
    summaries: Sequence[JudgedSummary],
    documents: Mapping[DocumentKey, Document],
    judge: Writer,
    context: AnalysisContext,
) -> list[JudgedSummary]:
    """Adds a verdict on every claim, or the reason why there is none."""
    result = list(summaries)
    to_judge = [index for index, summary in enumerate(result) if summary.claims]
    requests = [verdict_request(documents[result[index].key], result[index].claims or ()) for index in to_judge]
    for index, answer in zip(to_judge, ask(requests, judge, context, "lists of claims"), strict=True):
        count = len(result[index].claims or ())
        verdicts, missing = read_answer(answer, partial(parse_verdicts, count=count))
        result[index] = replace(result[index], verdicts=verdicts or [None] * count, missing=missing)
    return result


def compare_judges(
    settings: SummaryClaims,
    judged: Sequence[JudgedSummary],
    documents: Mapping[DocumentKey, Document],
    context: AnalysisContext,
    out: Path,
) -> dict[str, Any] | None:
    """Has the second judge read the claims of a sample of summaries; None if there is no second judge."""
    if "second" not in settings.judges:
        return None
    second = settings.judges["second"]
    with_claims = (summary for summary in judged if summary.claims)
    sample = sample_by_hash(with_claims, settings.compared, lambda summary: f"{settings.seed}/{identify(summary)}")
    again = judge_claims(sample, documents, second, context)
    write_jsonl(out / "claims-second.jsonl", again)
    verdicts = [[verdict for summary in summaries for verdict in summary.verdicts] for summaries in (sample, again)]
    return {"second": writer_name(second), "summaries": len(again), **measure_agreement("judge", "second", *verdicts)}


def identify(summary: JudgedSummary) -> str:
    return f"{summary.summarizer}/{summary.prompt}/{summary.corpus}/{summary.document_id}/{summary.sample}"


def draw_claims(result: Mapping[str, Any], out: Path) -> None:
    """Draws false against salient claims, both relative to the references (paper Fig. 3).

    Each prompt has a marker; those of a summarizer are connected. Rows without a ratio are named in the note.
    """
    figure, ((axes,),) = figures.create_figure(figsize=(6.4, 5.0))
    rows = [row for row in result["rows"] if row["kind"] != REFERENCE]
    prompts = list(dict.fromkeys(row["prompt"] for row in rows))
    for index, name in enumerate(dict.fromkeys(row["summarizer"] for row in rows)):
        drawn_rows = [row for row in rows if row["summarizer"] == name and has_ratios(row)]
        draw_summarizer(axes, drawn_rows, prompts, index)
    axes.plot([1], [1], color=BLACK, marker="x", markersize=8, linestyle="none", label="the reference")
    draw_published_frame(axes)
    axes.set_xlabel("salient claims relative to the reference")
    axes.set_ylabel("false claims relative to the reference")
    axes.margins(0.04)
    figures.add_grid(axes, "both")
    axes.legend(frameon=False, fontsize=7.5)
    absent = [f"{row['summarizer']}, {row['prompt']}" for row in rows if not has_ratios(row)]
    fills = ", ".join(f"{prompt} ({fill})" for prompt, fill in zip(prompts, FILL_STYLES.values(), strict=False))
    notes = [
        f"prompts: {fills}; {result['confidence']:.0%} intervals by document",
        f"judged by {result['judge']}",
        f"references by {result['references']['by']}",
        f"no ratio to draw: {'; '.join(absent)}" if absent else None,
        data_losses_note(rows),
        result["label"],
    ]
    figures.save_figure(figure, out, "summaries", "\n".join(filter(None, notes)))


def data_losses_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns what the drawn ratios leave out or count although it is incomplete; empty if there is nothing."""
    counts = {text: sum(row[key] for row in rows) for key, text in MISSING_DATA.items()}
    counts["not judged"] = sum(sum(row["not_judged"].values()) for row in rows)
    losses = ", ".join(f"{count:,} {text}" for text, count in counts.items() if count)
    return f"of {sum(row['summaries'] for row in rows):,} summaries: {losses}" if losses else ""


def has_ratios(row: Mapping[str, Any]) -> bool:
    return all(row[verdict]["relative"]["value"] is not None for verdict in ("false", "salient"))


def draw_summarizer(axes: Axes, rows: list[Mapping[str, Any]], prompts: list[str], index: int) -> None:
    if not rows:
        return
    kind = rows[0]["kind"]
    color, marker = (GRAY, "h") if kind == "base" else figures.series_style(kind, index)
    points = [tuple(row[verdict]["relative"]["value"] for verdict in ("salient", "false")) for row in rows]
    axes.plot([x for x, _ in points], [y for _, y in points], color=color, linewidth=0.8, alpha=0.6)
    for row, (x, y) in zip(rows, points, strict=True):
        fill = list(FILL_STYLES)[prompts.index(row["prompt"]) % len(FILL_STYLES)]
        axes.plot(
            [x], [y], color=color, marker=marker, fillstyle=fill, linestyle="none", zorder=3,
            label=row["summarizer"] if row is rows[0] else None,
        )  # fmt: skip
        if interval := row["salient"]["relative"]["interval"]:
            axes.plot(interval, [y, y], color=color, linewidth=0.8)
        if interval := row["false"]["relative"]["interval"]:
            axes.plot([x, x], interval, color=color, linewidth=0.8)


def draw_published_frame(axes: Axes) -> None:
    """Marks the range of the paper's figure, which prints no numbers of its nine points."""
    (left, right), (low, high) = published.CLAIMS_AXES["salient"], published.CLAIMS_AXES["false"]
    axes.plot([left, right, right, left, left], [high, high, low, low, high], color=GRAY, linestyle=":", linewidth=1)
    axes.annotate(
        f"the axes of the paper's figure ({published.CLAIMS_SECTION})", (right, high), (-3, -9),
        textcoords="offset points", fontsize=7, color=GRAY, ha="right",
    )  # fmt: skip
