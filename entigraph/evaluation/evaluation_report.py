"""Writes report.html of an evaluation: its scores, and a browser of all questions with the model's answers.

The page is self-contained. The list of questions is decoded when it opens, everything else on demand, so that pages
with thousands of questions open quickly. Without JavaScript it shows only the scores.
"""

import gzip
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from entigraph.evaluation.base import TaskInputs
from entigraph.evaluation.entity_mentions import AnswerMentions, QuestionKey, TrainingTexts, count_mentions
from entigraph.evaluation.scoring import INTERVAL
from entigraph.reporting.html import write_page
from entigraph.storage.artifact import read_json
from entigraph.storage.data_losses import count_of, render_data_losses
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Document, Question, choice_set
from entigraph.text.normalization import truncate

FILE = "report.html"
MAX_CHARACTERS = 60_000_000  # total for samples, passages and excerpts on the page
CHARACTERS_PER_BLOCK = 400_000
QUESTIONS_PER_BLOCK = 128
MAX_SAMPLES, SAMPLE_CHARACTERS = 8, 4_000
CORRECT, INCORRECT, UNPARSED, TOO_LONG, NOT_ATTEMPTED = range(5)


def pack(value: Any) -> str:
    """Returns a value as base64 of gzipped JSON, which cannot contain HTML."""
    content = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return b64encode(gzip.compress(content, 6, mtime=0)).decode()


class TextBlocks:
    """Stores distinct texts by number in packed blocks, up to `limit` characters in total."""

    def __init__(self, limit: int) -> None:
        self.remaining = limit
        self.blocks: list[str] = []
        self.block_starts: list[int] = []  # the number of the first text of each block
        self.pending: list[str] = []
        self.characters = self.count = 0
        self.numbers: dict[bytes, int] = {}

    def add(self, text: str) -> int | None:
        """Returns the text's number; None if the limit is exceeded."""
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if key in self.numbers:
            return self.numbers[key]
        self.remaining -= len(text)
        if self.remaining < 0:
            return None
        self.numbers[key] = self.count
        self.pending.append(text)
        self.count, self.characters = self.count + 1, self.characters + len(text)
        if self.characters >= CHARACTERS_PER_BLOCK:
            self.close()
        return self.numbers[key]

    def close(self) -> None:
        if self.pending:
            self.block_starts.append(self.count - len(self.pending))
            self.blocks.append(pack(self.pending))
            self.pending, self.characters = [], 0


@dataclass
class TaskListing:
    """The questions and answers of a task, as columns."""

    name: str
    documents: dict[str, int] = field(default_factory=dict)  # title -> number
    groups: dict[str, int] = field(default_factory=dict)
    rows: list[Sequence[Any]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    @property
    def packed(self) -> str:
        names = ("id", "document", "group", "question", "choices", "answer", "choice", "state")
        columns = {name: [row[index] for row in self.rows] for index, name in enumerate(names)}
        return pack({**columns, "documents": list(self.documents), "groups": list(self.groups)})


class ScoreRow(NamedTuple):
    """A row of the score table. `denominator` describes what `score` is a fraction of. `has_chance_level`: whether the
    chance level applies to this score.
    """

    label: str
    score: float
    interval: Sequence[float]
    denominator: str
    has_chance_level: bool = True


def write(
    folder: Path,
    inputs: Mapping[str, TaskInputs],
    *,
    name: str,
    label: str | None = None,
    training: TrainingTexts | None = None,
) -> Path:
    """Writes the report of the tasks in `inputs`. `training` are the model's training texts, if known; `label` is a
    disclaimer for simulated results.
    """
    scores = read_json(folder / "scores.json")
    files = {task: folder / f"answers-{task}.jsonl" for task in inputs}
    keys = {QuestionKey.from_answer(answer) for file in files.values() for answer in read_jsonl(file, Answer)}
    mentions = count_mentions(sorted(keys), training) if training else None
    texts = TextBlocks(MAX_CHARACTERS)
    listings = [list_questions(task, read_jsonl(files[task], Answer), inputs[task], mentions, texts) for task in inputs]
    texts.close()
    contents = {
        "tasks": [listing.name for listing in listings],
        "questions_per_block": QUESTIONS_PER_BLOCK,
        "block_starts": texts.block_starts,
    }
    return write_page(
        folder / FILE,
        "entigraph.evaluation",
        "evaluation_report",
        name=name,
        label=label,
        scores={task: scores[task] for task in inputs},
        rows={task: list(score_rows(scores[task])) for task in inputs},
        calibrations={task: calibration_rows(scores[task]) for task in inputs if "calibration" in scores[task]},
        metrics={task: scores[task].get("metrics", {}) for task in inputs},
        data_losses={task: render_data_losses(scores[task].get("data_losses", {})) for task in inputs},
        listings=listings,
        texts=texts,
        contents=pack(contents),
    )


def list_questions(
    task: str,
    answers: Iterable[Answer],
    inputs: TaskInputs,
    mentions: Mapping[QuestionKey, AnswerMentions] | None,
    texts: TextBlocks,
) -> TaskListing:
    titles = {document.id: document.title or document.id for document in read_jsonl(inputs.documents, Document)}
    evidence = {question.id: question.evidence for question in read_jsonl(inputs.questions, Question)}
    listing = TaskListing(task)
    pending: list[dict[str, Any]] = []
    for answer in answers:
        title = titles.get(answer.document_id, answer.document_id)
        document = listing.documents.setdefault(title, len(listing.documents))
        group = listing.groups.setdefault(answer.group, len(listing.groups))
        # The accepted answers of a free-form question are listed as its correct choices.
        choices = (
            (answer.accepted, [*range(len(answer.accepted))]) if answer.accepted else (answer.choices, answer.answer)
        )
        values = (answer.question, *choices, answer.choice, answer_state(answer))
        listing.rows.append((answer.question_id, document, group, *values))
        pending.append(question_details(answer, evidence.get(answer.question_id, ()), texts))
        if mentions is not None:
            pending[-1]["mentions"] = mention_details(mentions.get(QuestionKey.from_answer(answer)), texts)
        if len(pending) == QUESTIONS_PER_BLOCK:
            listing.details.append(pack(pending))
            pending = []
    if pending:
        listing.details.append(pack(pending))
    return listing


def answer_state(answer: Answer) -> int:
    if answer.overflowed:
        return TOO_LONG
    if answer.accepted and (answer.verdict == "not_attempted" or not answer.response):
        return NOT_ATTEMPTED
    if answer.choice is None and not answer.accepted:
        return UNPARSED
    return CORRECT if answer.correct else INCORRECT


def count_votes(answer: Answer) -> list[int]:
    """Returns the number of samples that chose each of the choices."""
    votes = Counter(choice for sample in answer.samples for choice in choice_set(sample))
    return [votes[choice] for choice in range(len(answer.choices))]


def question_details(answer: Answer, evidence: Sequence[str], texts: TextBlocks) -> dict[str, Any]:
    """Returns the details of a question for the page, with the numbers of texts and without empty entries."""
    samples = list(zip(answer.samples, answer.texts, strict=False))[:MAX_SAMPLES]
    details = {
        "thought": answer.thought,
        "response": texts.add(truncate(answer.response, SAMPLE_CHARACTERS)) if answer.response else None,
        "f1": answer.f1,
        "verdict": answer.verdict or answer.verdict_missing,
        "scores": [round(score, 3) for score in answer.scores],
        "choice_norm": answer.choice_norm,
        "samples_total": len(answer.samples),
        "votes": count_votes(answer) if answer.samples else [],
        "unparsed": answer.unparsed,
        "samples": [[choice, texts.add(truncate(text, SAMPLE_CHARACTERS))] for choice, text in samples],
        "evidence": [texts.add(part) for part in evidence],
        "retrieved": answer.retrieved,
        "passages": [texts.add(passage) for passage in answer.passages],
        "article_shown": answer.article_shown,
        "evidence_shown": answer.evidence_shown,
    }
    return {name: value for name, value in details.items() if value is not None and value not in ("", [], {})}


def mention_details(mentions: AnswerMentions | None, texts: TextBlocks) -> dict[str, Any]:
    """Returns the mentions of an answer; empty if the correct choice has no name."""
    if mentions is None:
        return {}
    return {
        "answer_names": mentions.answer_names,
        "question_names": mentions.question_names,
        "texts": mentions.texts,
        "answer_mentions": mentions.answer_mentions,
        "joint_mentions": mentions.joint_mentions,
        "excerpts": [[excerpt.kind, excerpt.about, texts.add(excerpt.text)] for excerpt in mentions.excerpts],
    }


def score_rows(scores: Mapping[str, Any]) -> Iterator[ScoreRow]:
    """Yields the rows of a task's scores."""
    if "scored_by" in scores:
        yield from free_form_rows(scores)
    else:
        yield mapping_row("accuracy", scores)
    if "accuracy_norm" in scores:
        row = flat_row("accuracy_norm", "length-normalized likelihood", scores, "questions", "questions")
        yield row._replace(has_chance_level=True)
    for key, label in (
        ("over_all", "over all questions"),
        ("over_parsed", "over questions with a valid sample"),
        ("expected_accuracy", "expected accuracy of a random valid sample"),
        ("majority_vote", "majority vote"),
    ):
        if key in scores:
            yield mapping_row(label, scores[key])
    for count, score in scores.get("pass_at", {}).items():
        yield mapping_row(f"pass@{count}", score)._replace(has_chance_level=count == "1")
    if "parse_rate" in scores:
        yield flat_row("parse_rate", "questions with a valid sample", scores, "total_questions", "questions")
        yield flat_row("sample_parse_rate", "valid samples", scores, "samples", "samples")
    groups = scores["groups"].items()
    for group, score in groups if len(groups) > 1 else ():
        yield mapping_row(f"kind: {group.replace('_', ' ')}", score)
    for name in ("article", "evidence") if "retrieval" in scores else ():
        yield from retrieval_rows(name, scores["retrieval"][name])


def free_form_rows(scores: Mapping[str, Any]) -> Iterator[ScoreRow]:
    rows = [("exact match", scores["exact_match"]), ("F1", scores["f1"])]
    if judged := scores.get("judged"):
        rows = [(f"correct, judged by {judged['judge']}", scores), *rows]
        if judged["attempted"]["questions"]:
            rows.append(("correct if attempted", judged["attempted"]))
        if judged["attempts"]["questions"]:
            rows.append(("attempted, of those with a verdict", judged["attempts"]))
    for label, score in rows:
        yield mapping_row(label, score)._replace(has_chance_level=False)


def calibration_rows(scores: Mapping[str, Any]) -> list[ScoreRow]:
    """Returns one row per bin of confidence, with the accuracy of its answers."""
    return [mapping_row(f"{row['from']:.1f} to {row['to']:.1f}", row) for row in scores["calibration"]["bins"]]


def retrieval_rows(name: str, scores: Mapping[str, Any]) -> Iterator[ScoreRow]:
    if scores["questions"]:
        yield mapping_row(f"{name} retrieved", scores, "recall")._replace(has_chance_level=False)
        for key, preposition in (("accuracy_shown", "with"), ("accuracy_not_shown", "without")):
            if scores[key]:
                yield mapping_row(f"accuracy {preposition} its {name}", scores[key])


def mapping_row(label: str, score: Mapping[str, Any], key: str = "accuracy") -> ScoreRow:
    """Returns the row of a score that is a mapping."""
    return ScoreRow(label, score[key], score[INTERVAL], count_of(score["questions"], "question"))


def flat_row(key: str, label: str, scores: Mapping[str, Any], count: str, unit: str) -> ScoreRow:
    """Returns the row of a score whose value and interval are two keys of `scores`."""
    return ScoreRow(
        label, scores[key], scores[f"{key}_{INTERVAL}"], f"{scores[count]:,} {unit}", has_chance_level=False
    )
