"""The analysis of an update: whether a model that was trained on changed documents knows the new facts, no longer the
old ones, and what else changed: update.json and update.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.paired.paired import Paired, find_common_task
from entigraph.analysis.study_runs import corpus_disclaimer
from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.reporting.html import write_static_page
from entigraph.storage.artifact import is_complete, write_json
from entigraph.storage.document_changes import changed_documents
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Question
from entigraph.text.answer_matching import exact_match

CHANGED, SAME_DOCUMENTS, OTHER_DOCUMENTS, NEW = (
    "questions whose answer changed",
    "other questions about changed documents",
    "questions about other documents",
    "questions that are new",
)
QuestionKey = tuple[str, str]  # document and text: the numbers of questions may have shifted


@dataclass(frozen=True, kw_only=True)
class Update(Paired):
    """`one` minus `other`, the models after and before the update, on the questions about the changed documents.

    `before` is the corpus before the change, with its questions. A question whose answer changed has the same text and
    document in both corpora, and other accepted answers.
    """

    name: ClassVar[str] = "update"
    before: str | None = runtime_field(None)  # enters the cache key as an input

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        """Returns the input folders. Raises ConfigError if an evaluation or the earlier corpus does not exist."""
        before = Path(self.before or "").expanduser()
        if not self.before or not is_complete(before) or not (before / "questions.jsonl").is_file():
            raise ConfigError(
                "analysis.before must be the folder of the corpus before the change, with documents.jsonl and "
                f"questions.jsonl (by default tokens.changed_since), got {self.before}"
            )
        return {
            **super().inputs(context),
            "before": before.resolve(),
            "corpus": context.configured_run.folder("corpus"),
        }

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes update.json and update.html."""
        from entigraph.analysis.document_bootstrap import Resampling
        from entigraph.analysis.paired.paired_tests import AnsweredTask, compare_pairs, pair_answers

        one, other, before, after = self.inputs(context).values()
        task = find_common_task(self.task, one, other)
        pairs = pair_answers(AnsweredTask(one.name, one, task), AnsweredTask(other.name, other, task))
        change = CorpusChange.between(before, after)
        parts: dict[str, list[tuple[Answer, Answer]]] = {}
        for pair in pairs:
            parts.setdefault(change.part(pair[0]), []).append(pair)
        names = [name for name in (CHANGED, NEW, SAME_DOCUMENTS, OTHER_DOCUMENTS) if name in parts]
        if CHANGED not in parts:
            raise DataError(f"no question of {one.name} has a different answer from {before}; nothing was updated")
        resampling = Resampling(self.confidence, self.resamples)
        asked = {(answer.document_id, answer.question) for answer, _ in pairs}
        report = {
            "after": one.name,
            "before": other.name,
            "task": task,
            "confidence": self.confidence,
            "parts": {name: compare_pairs(parts[name], resampling) for name in names},
            "old_answers": count_old_answers(parts[CHANGED], change),
            "removed_questions": sum(key not in asked for key in change.answers),
            "questions": [change.describe(pair) for pair in parts[CHANGED]],
            "label": corpus_disclaimer(after),
        }
        write_json(out / "update.json", report)
        write_static_page(out / "update.html", "entigraph.analysis", "paired/update.html.j2", report=report)
        return update_lines(report)


@dataclass(frozen=True)
class CorpusChange:
    """What an earlier corpus said: the accepted answers of its questions, and which documents differ now."""

    answers: Mapping[QuestionKey, Sequence[str]]
    changed_documents: set[str]

    @classmethod
    def between(cls, before: Path, after: Path) -> "CorpusChange":
        questions = read_jsonl(before / "questions.jsonl", Question)
        return cls(
            {(question.document_id, question.text): question.accepted_answers for question in questions},
            set(changed_documents(after, before)[0]),
        )

    def old_answers(self, answer: Answer) -> Sequence[str]:
        return self.answers.get((answer.document_id, answer.question), ())

    def part(self, answer: Answer) -> str:
        old = self.old_answers(answer)
        if not old:
            return NEW
        if not exact_match(answer.correct_text, old):
            return CHANGED
        return SAME_DOCUMENTS if answer.document_id in self.changed_documents else OTHER_DOCUMENTS

    def gives_old_answer(self, answer: Answer) -> bool:
        return answer.given_text is not None and exact_match(answer.given_text, self.old_answers(answer))

    def offers_old_answer(self, answer: Answer) -> bool:
        """Whether the old answer is among the options; a free-form answer may always be the old one."""
        return not answer.choices or any(exact_match(choice, self.old_answers(answer)) for choice in answer.choices)

    def describe(self, pair: tuple[Answer, Answer]) -> dict[str, Any]:
        after, before = pair
        return {
            "question": after.question,
            "document_id": after.document_id,
            "group": after.group,
            "new_answer": after.correct_text,
            "old_answer": self.old_answers(after)[0],
            "given_after": after.given_text,
            "given_before": before.given_text,
        }


def count_old_answers(pairs: Sequence[tuple[Answer, Answer]], change: CorpusChange) -> dict[str, int]:
    """Returns how often the old answer is given, of the questions with a changed answer that offer it."""
    offering = [pair for pair in pairs if change.offers_old_answer(pair[0])]
    return {
        "questions": len(offering),
        "given_after": sum(change.gives_old_answer(after) for after, _ in offering),
        "given_before": sum(change.gives_old_answer(before) for _, before in offering),
    }


def update_lines(report: Mapping[str, Any]) -> list[str]:
    old = report["old_answers"]
    lines = [f"{report['after']} after the update, {report['before']} before it; {report['task']}"]
    for name, part in report["parts"].items():
        after, before = part["accuracy"]
        low, high = part["interval"]
        lines.append(
            f"{name} ({part['questions']:,}): accuracy {before:.3f} before, {after:.3f} after, difference "
            f"{100 * part['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}); "
            f"gained {part['gained']:,}, lost {part['lost']:,}, p = {part['p']:.2g}"
        )
    lines.append(
        f"the old answer, where it is an option ({old['questions']:,}): given to {old['given_before']:,} before, to "
        f"{old['given_after']:,} after"
    )
    if report["removed_questions"]:
        lines.append(f"{report['removed_questions']:,} questions of the earlier corpus were not asked again")
    return [*lines, *([f"note: {report['label']}"] if report["label"] else [])]
