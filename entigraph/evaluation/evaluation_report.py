"""report.html of an evaluation: its scores, and every question to browse with what the model said to it.

One page that loads nothing. The list of questions is read at once, all else when it is looked at, so that thousands of
questions open quickly. Without JavaScript it is the scores.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from entigraph.evaluation.backends.text_blocks import QUESTIONS_A_BLOCK, Texts, packed
from entigraph.evaluation.base import Source
from entigraph.evaluation.entity_mentions import Key, Mention, TextsRead, key_of, mentions
from entigraph.evaluation.scoring import INTERVAL
from entigraph.reporting.html import write_page
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Document, Question, choice_set

FILE = "report.html"
TEXT_CHARACTERS = 60_000_000  # on the page, of all samples, passages and excerpts together
SAMPLES_SHOWN, SAMPLE_CHARACTERS = 8, 4_000
RIGHT, WRONG, UNPARSED, TOO_LONG = range(4)


@dataclass
class Listed:
    """One task's questions as the page lists them: column by column."""

    name: str
    documents: dict[str, int] = field(default_factory=dict)  # numbers of titles
    groups: dict[str, int] = field(default_factory=dict)
    rows: list[Sequence[Any]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    @property
    def packed(self) -> str:
        names = ("id", "document", "group", "question", "choices", "answer", "choice", "state")
        columns = {name: [row[number] for row in self.rows] for number, name in enumerate(names)}
        return packed({**columns, "documents": list(self.documents), "groups": list(self.groups)})


class Row(NamedTuple):
    """A number among the scores. `of`: what it is a share of; `guessed`: whether guessing would reach the chance."""

    label: str
    share: float
    interval: Sequence[float]
    of: str
    guessed: bool = True


def write(
    folder: Path, sources: Mapping[str, Source], *, name: str, label: str | None = None, read: TextsRead | None = None
) -> Path:
    """Of the tasks in `sources`. `read` is what the model was trained on, where that is known; `label` is what a reader
    must know first, where something was simulated.
    """
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    files = {task: folder / f"answers-{task}.jsonl" for task in sources}
    keys = {key_of(answer) for file in files.values() for answer in read_jsonl(file, Answer)}
    found = mentions(sorted(keys), read) if read else {}
    texts = Texts(TEXT_CHARACTERS)
    listed = [
        listing(task, read_jsonl(files[task], Answer), sources[task], found if read else None, texts)
        for task in sources
    ]
    texts.close()
    contents = {
        "tasks": [each.name for each in listed],
        "questions_a_block": QUESTIONS_A_BLOCK,
        "firsts": texts.firsts,
    }
    return write_page(
        folder / FILE,
        "entigraph.evaluation",
        "evaluation_report",
        name=name,
        label=label,
        scores={task: scores[task] for task in sources},
        rows={task: list(rows_of(scores[task])) for task in sources},
        listed=listed,
        texts=texts,
        contents=packed(contents),
    )


def listing(
    task: str, answers: Iterable[Answer], source: Source, found: Mapping[Key, Mention] | None, texts: Texts
) -> Listed:
    titles = {each.id: each.title or each.id for each in read_jsonl(source.documents, Document)}
    evidence = {each.id: each.evidence for each in read_jsonl(source.questions, Question)}
    listed = Listed(task)
    waiting: list[dict[str, Any]] = []
    for answer in answers:
        title = titles.get(answer.document_id, answer.document_id)
        place = number_of(title, listed.documents), number_of(answer.group, listed.groups)
        said = (answer.question, answer.choices, answer.answer, answer.choice, state_of(answer))
        listed.rows.append((answer.question_id, *place, *said))
        waiting.append(detail(answer, evidence.get(answer.question_id, ()), texts))
        if found is not None:
            waiting[-1]["mention"] = mentioned(found.get(key_of(answer)), texts)
        if len(waiting) == QUESTIONS_A_BLOCK:
            listed.details.append(packed(waiting))
            waiting = []
    if waiting:
        listed.details.append(packed(waiting))
    return listed


def number_of(name: str, known: dict[str, int]) -> int:
    return known.setdefault(name, len(known))


def state_of(answer: Answer) -> int:
    if answer.overflowed:
        return TOO_LONG
    if answer.choice is None:
        return UNPARSED
    return RIGHT if answer.correct else WRONG


def votes_of(answer: Answer) -> list[int]:
    """How many samples named each option."""
    named = Counter(option for sample in answer.samples for option in choice_set(sample))
    return [named[option] for option in range(len(answer.choices))]


def detail(answer: Answer, evidence: Sequence[str], texts: Texts) -> dict[str, Any]:
    """What the page shows of a question beside its row in the list; texts by their numbers, empty parts left out."""
    votes = votes_of(answer) if answer.samples else []
    shown = list(zip(answer.samples, answer.texts, strict=False))[:SAMPLES_SHOWN]
    parts = {
        "thought": answer.thought,
        "scores": [round(score, 3) for score in answer.scores],
        "choice_norm": answer.choice_norm,
        "asked": len(answer.samples),
        "votes": votes,
        "unparsed": answer.unparsed,
        "samples": [[choice, texts.add(cut(text, SAMPLE_CHARACTERS))] for choice, text in shown],
        "evidence": [texts.add(part) for part in evidence],
        "retrieved": answer.retrieved,
        "passages": [texts.add(passage) for passage in answer.passages],
        "article_shown": answer.article_shown,
        "evidence_shown": answer.evidence_shown,
    }
    return {name: part for name, part in parts.items() if part is not None and part not in ("", [], {})}


def mentioned(found: Mention | None, texts: Texts) -> dict[str, Any]:
    """Empty where the right option has no name to look for."""
    if found is None:
        return {}
    return {
        "names": found.names,
        "asked": found.asked,
        "texts": found.texts,
        "naming": found.naming,
        "together": found.together,
        "shown": [[each.kind, each.about, texts.add(each.text)] for each in found.shown],
    }


def cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def rows_of(score: Mapping[str, Any]) -> Iterator[Row]:
    """All that is always reported together, in one order, whatever the task."""
    yield share("accuracy", score)
    if "accuracy_norm" in score:
        yield beside("accuracy_norm", "likelihood by length", score, "questions", "questions")._replace(guessed=True)
    for key, label in (
        ("over_all", "over all questions"),
        ("over_parsed", "over those with a valid sample"),
        ("expected_accuracy", "expected of a random valid sample"),
        ("majority_vote", "majority vote"),
    ):
        if key in score:
            yield share(label, score[key])
    for count, found in score.get("pass_at", {}).items():
        yield share(f"pass@{count}", found)._replace(guessed=count == "1")
    if "parse_rate" in score:
        yield beside("parse_rate", "questions with a valid sample", score, "asked", "questions")
        yield beside("sample_parse_rate", "valid samples", score, "samples", "samples")
    groups = score["groups"].items()
    for group, found in groups if len(groups) > 1 else ():
        yield share(f"kind: {group.replace('_', ' ')}", found)
    for what in ("article", "evidence") if "retrieval" in score else ():
        yield from retrieved(what, score["retrieval"][what])


def retrieved(what: str, found: Mapping[str, Any]) -> Iterator[Row]:
    if found["questions"]:
        yield share(f"{what} retrieved", found, "recall")._replace(guessed=False)
        for key, words in (("accuracy_shown", "with"), ("accuracy_not_shown", "without")):
            if found[key]:
                yield share(f"accuracy {words} its {what}", found[key])


def share(label: str, found: Mapping[str, Any], key: str = "accuracy") -> Row:
    return Row(label, found[key], found[INTERVAL], f"{found['questions']:,} questions")


def beside(key: str, label: str, score: Mapping[str, Any], count: str, unit: str) -> Row:
    return Row(label, score[key], score[f"{key}_{INTERVAL}"], f"{score[count]:,} {unit}", guessed=False)
