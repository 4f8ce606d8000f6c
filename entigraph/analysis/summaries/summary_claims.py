"""Summaries from memory, judged claim by claim (paper §4.3): false and salient claims relative to reference summaries.

A summary's claims are those of its whole sentences: what was cut at max_tokens is judged without its last, unfinished
one, and an empty summary makes no claim. Both count like any other. What a judge did not split, and claims without a
verdict, are left out and counted.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from entigraph.analysis.factuality.judge_agreement import agreement
from entigraph.analysis.factuality.judge_requests import UNREADABLE, asked, why_missing
from entigraph.analysis.factuality.judges import name_of
from entigraph.analysis.summaries.claims import Standing, claims_of, standings_of, to_judge, to_split
from entigraph.analysis.summaries.claims_table import rows, told
from entigraph.analysis.summaries.reference_summaries import Place, references
from entigraph.analysis.summaries.summarizers import Summarizer
from entigraph.analysis.summaries.summary_settings import Summaries
from entigraph.llm.base import Say, Writer
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document

REFERENCE = "reference"
SENTENCE_END = re.compile(r"""[.!?]["'”’)]*(?=\s|$)""")


@dataclass(frozen=True, kw_only=True)
class JudgedSummary:
    """`claims` is None where the judge did not tell them, and `missing` why; a claim without a verdict has None."""

    summarizer: str
    kind: str
    prompt: str
    corpus: str
    document_id: str
    sample: int
    text: str
    finish_reason: str = "stop"
    claims: Sequence[str] | None = None
    verdicts: Sequence[Standing | None] = ()
    missing: str = ""

    @property
    def place(self) -> Place:
        return self.corpus, self.document_id

    @property
    def finished(self) -> bool:
        """Whether its writer came to an end, or to the end of what it was allowed."""
        return self.finish_reason in ("stop", "length")

    @property
    def whole(self) -> str:
        """Its whole sentences."""
        if self.finish_reason != "length":
            return self.text
        ends = [found.end() for found in SENTENCE_END.finditer(self.text)]
        return self.text[: ends[-1]] if ends else ""


def examine(
    settings: Summaries, summarizers: Sequence[Summarizer], out: Path, response_cache: Path, say: Say = print
) -> list[str]:
    """Writes summaries.json, its figure, and claims.jsonl with every verdict; returns what to tell."""
    from entigraph.analysis.summaries.summaries_figure import summaries_figure

    documents = documents_of(summarizers)
    written = [*summaries_of(summarizers), *reference_summaries(settings, documents, response_cache, say)]
    judge = settings.judges["judge"]
    found = judged(split(written, judge, response_cache, say), documents, judge, response_cache, say)
    write_jsonl(out / "claims.jsonl", found)
    result = {
        "label": next(filter(None, (each.label for each in summarizers)), None),
        "confidence": settings.confidence,
        "judge": name_of(judge),
        "references": references_by(settings, found),
        "rows": list(rows(found, settings.confidence)),
        "agreement": compared(settings, found, documents, out, response_cache, say),
    }
    write_json(out / "summaries.json", result)
    summaries_figure(result, out)
    return told(result, out)


def documents_of(summarizers: Sequence[Summarizer]) -> dict[Place, Document]:
    """Those that somebody summarized."""
    wanted = {(each.corpus.name, summary.document_id) for each in summarizers for summary in each.summaries()}
    return {
        (each.corpus.name, document.id): document
        for each in {each.corpus: each for each in summarizers}.values()
        for document in each.documents()
        if (each.corpus.name, document.id) in wanted
    }


def summaries_of(summarizers: Sequence[Summarizer]) -> Iterator[JudgedSummary]:
    for each in summarizers:
        for summary in each.summaries():
            yield JudgedSummary(
                summarizer=each.name,
                kind=each.kind,
                prompt=summary.prompt,
                corpus=each.corpus.name,
                document_id=summary.document_id,
                sample=summary.sample,
                text=summary.text,
                finish_reason=summary.finish_reason,
            )


def reference_summaries(
    settings: Summaries, documents: Mapping[Place, Document], response_cache: Path, say: Say
) -> Iterator[JudgedSummary]:
    for (corpus, document_id), texts in references(settings, documents, response_cache, say).items():
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


def references_by(settings: Summaries, found: Sequence[JudgedSummary]) -> dict[str, Any]:
    own = [each for each in found if each.kind == REFERENCE]
    by = name_of(settings.reference_writer) if settings.reference_writer else "people"
    without = len({each.place for each in found}) - len({each.place for each in own})
    return {"by": by, "summaries": len(own), "documents_without": without}


def split(written: Sequence[JudgedSummary], judge: Writer, response_cache: Path, say: Say) -> list[JudgedSummary]:
    """Each with its claims; an empty one has none, and nobody is asked. Nor about one that was never finished."""
    failed = {id(each): replace(each, missing=each.finish_reason) for each in written if not each.finished}
    todo = [each for each in written if each.whole and each.finished]
    answers = asked([to_split(each.whole) for each in todo], judge, response_cache, say, "summaries")
    found: dict[int, JudgedSummary] = failed
    for each, answer in zip(todo, answers, strict=True):
        missing = why_missing(answer)
        claims = None if missing else claims_of(answer.text)
        found[id(each)] = replace(each, claims=claims, missing=missing or ("" if claims is not None else UNREADABLE))
    return [found.get(id(each)) or replace(each, claims=[]) for each in written]


def judged(
    summaries: Sequence[JudgedSummary],
    documents: Mapping[Place, Document],
    judge: Writer,
    response_cache: Path,
    say: Say,
) -> list[JudgedSummary]:
    """Each with a verdict on every claim, or the reason why it has none."""
    todo = [each for each in summaries if each.claims]
    requests = [to_judge(documents[each.place], each.claims or ()) for each in todo]
    found: dict[int, JudgedSummary] = {}
    for each, answer in zip(todo, asked(requests, judge, response_cache, say, "lists of claims"), strict=True):
        count, missing = len(each.claims or ()), why_missing(answer)
        verdicts = None if missing else standings_of(answer.text, count)
        missing = missing or ("" if verdicts is not None else UNREADABLE)
        found[id(each)] = replace(each, verdicts=verdicts or [None] * count, missing=missing)
    return [found.get(id(each), each) for each in summaries]


def compared(
    settings: Summaries,
    found: Sequence[JudgedSummary],
    documents: Mapping[Place, Document],
    out: Path,
    response_cache: Path,
    say: Say,
) -> dict[str, Any] | None:
    """The second judge on the claims of a drawn sample of summaries; None without one."""
    if "second" not in settings.judges:
        return None
    second = settings.judges["second"]
    sample = sorted((each for each in found if each.claims), key=lambda each: drawn(settings.seed, each))
    again = judged(sample[: settings.compared], documents, second, response_cache, say)
    write_jsonl(out / "claims-second.jsonl", again)
    verdicts = [
        [verdict for each in judgments for verdict in each.verdicts]
        for judgments in (sample[: settings.compared], again)
    ]
    return {"second": name_of(second), "summaries": len(again), **agreement("judge", "second", *verdicts)}


def drawn(seed: int, summary: JudgedSummary) -> str:
    """A number that depends on the seed and on which summary it is."""
    place = f"{summary.summarizer}/{summary.prompt}/{summary.corpus}/{summary.document_id}/{summary.sample}"
    return hashlib.blake2b(f"{seed}/{place}".encode(), digest_size=8).hexdigest()
