"""How far other judges, and a person, agree with the verdicts on free-form answers that an evaluation stored.

The sample is drawn from the answers of the study's models that are no exact match, empty or a refusal: those that a
judge decides. Answers of an evaluation without a judge have the verdict of the exact match.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judge_agreement import TO_LABEL, LabeledAnalysis, Rater, compare_raters, write_csv
from entigraph.analysis.factuality.judges import JudgedConfiguration, JudgeUsage
from entigraph.analysis.study_runs import StudyRun, load_answers, run_folders
from entigraph.errors import DataError
from entigraph.llm.answer_judge import AnswerVerdict, decide_without_judge, judge_answers, judge_name, judge_prompt
from entigraph.llm.base import Writer
from entigraph.storage.artifact import write_json
from entigraph.storage.fingerprints import sample_by_hash
from entigraph.storage.schemas import Answer
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

ANSWER_TOKENS = (10.0, 100.0)  # tokens of a question with its accepted answers and the answer
VERDICT_TOKENS = 60.0


@dataclass(frozen=True, kw_only=True)
class AnswerJudges(LabeledAnalysis):
    """Agreement of judges on a sample of `answers` of the study's models to the `task` (null: the first free-form one).

    `judge` and `second` judge the sample again (null: neither).
    """

    name: ClassVar[str] = "answer_judges"
    judged_texts: ClassVar[str] = "answers of the study"
    sampled: ClassVar[str] = "answer"
    task: str | None = None
    answers: int = 200

    @property
    def judges(self) -> Mapping[str, Writer]:
        return {key: self.writer_at(key) for key in ("judge", "second") if getattr(self, key) is not None}

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {**super().cache_key, "prompt": judge_prompt()}

    def estimate_usage(self, configuration: JudgedConfiguration) -> Mapping[str, JudgeUsage]:
        usage = JudgeUsage()
        prompt = len(judge_prompt()) / CHARACTERS_PER_TOKEN
        usage.add(self.answers, (prompt + ANSWER_TOKENS[0], prompt + ANSWER_TOKENS[1]), (VERDICT_TOKENS,) * 2)
        return dict.fromkeys(self.judges, usage)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return run_folders(context.required_runs, "evaluation", "baseline")

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes answer_judges.json, all verdicts (verdicts.csv), and the sample for a human to label."""
        task = select_task(context.runs[0], self.task)
        sample = sample_by_hash(
            judged_answers(context.runs, task), self.answers, lambda entry: f"{self.seed}/{entry[0]}"
        )
        if not sample:
            raise DataError(f"{context.study}: {task} has no answer that a judge would decide")
        raters = [
            Rater(
                "evaluation",
                str(context.runs[0].scores[task].get("scored_by", "exact match")),
                [stored_verdict(answer) for _, answer in sample],
            ),
            *(self.ask(key, sample, context) for key in self.judges),
            *self.read_labels([name for name, _ in sample], AnswerVerdict),
        ]
        result: dict[str, Any] = {
            "task": task,
            "answers": len(sample),
            "raters": {rater.key: rater.name for rater in raters},
            "verdicts": {rater.key: dict(Counter(map(str, filter(None, rater.verdicts)))) for rater in raters},
            "no_verdict": {rater.key: dict(+rater.missing) for rater in raters if +rater.missing},
            "agreement": compare_raters(raters),
        }
        write_json(out / "answer_judges.json", result)
        write_verdicts(out / "verdicts.csv", sample, {rater.key: rater.verdicts for rater in raters})
        write_verdicts(out / TO_LABEL, sample, {"verdict": [None] * len(sample)})
        return [*summary_lines(result), *self.agreement_lines(result["agreement"], out)]

    def ask(self, key: str, sample: "Sample", context: AnalysisContext) -> Rater:
        judge = self.judges[key]
        answers = [answer for _, answer in sample]
        with context.progress.bar("judge", len(answers), "answers") as advance:
            judged = judge_answers(answers, judge, context.response_cache, context.progress.notify, advance)
        missing = Counter(result.missing for result in judged if result.verdict is None)
        return Rater(key, judge_name(judge), [result.verdict for result in judged], missing)


Sample = Sequence[tuple[str, Answer]]  # with an id for each answer


def select_task(run: StudyRun, name: str | None) -> str:
    """Returns the task of this name, or the first one with free-form answers. Raises DataError if there is none."""
    tasks = [task for task, score in run.scores.items() if "scored_by" in score]
    if name is not None and name not in tasks:
        raise DataError(f"analysis.task must be one of {', '.join(tasks) or 'none'}, got {name!r}")
    if not tasks:
        raise DataError(
            f"{run.folder('evaluation')} has no free-form answers; evaluate the study with evaluation=free_form"
        )
    return name or tasks[0]


def judged_answers(runs: Sequence[StudyRun], task: str) -> Iterator[tuple[str, Answer]]:
    """Yields the answers that need a judge, of all models of the study, with an id for each."""
    folders = {folder for run in runs for stage in ("evaluation", "baseline") if (folder := run.finished_folder(stage))}
    for folder in sorted(folders):
        for answer in load_answers(folder, task):
            if not answer.overflowed and decide_without_judge(answer) is None:
                yield f"{folder.name}/{answer.question_id}", answer


def stored_verdict(answer: Answer) -> AnswerVerdict | None:
    """Returns the verdict of the evaluation; without a judge, an answer that is no exact match is incorrect."""
    if answer.verdict:
        return AnswerVerdict(answer.verdict)
    return None if answer.verdict_missing else AnswerVerdict.incorrect


def write_verdicts(file: Path, sample: Sample, raters: Mapping[str, Sequence[StrEnum | None]]) -> None:
    rows = [
        (name, *verdicts, answer.question, " | ".join(answer.accepted), answer.response)
        for (name, answer), *verdicts in zip(sample, *raters.values(), strict=True)
    ]
    write_csv(file, ("id", *raters, "question", "accepted", "answer"), rows)


def summary_lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"{result['task']}: {result['answers']:,} answers that a judge decides"
    for key, name in result["raters"].items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(result["verdicts"][key].items()))
        missing = ", ".join(f"{count} {reason}" for reason, count in result["no_verdict"].get(key, {}).items())
        yield f"{key} ({name}): {counts or 'no verdict'}" + (f"; without a verdict: {missing}" if missing else "")
