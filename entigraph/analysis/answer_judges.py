"""How far other judges, and a person, agree with the verdicts on free-form answers that an evaluation stored.

The sample is drawn from the answers of the study's models that are no exact match, empty or a refusal: those that a
judge decides. Answers of an evaluation without a judge have the verdict of the exact match.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.factuality.judge_agreement import kappa_text, measure_agreement, read_labels
from entigraph.analysis.factuality.judge_usage import JudgedConfiguration, JudgeUsage
from entigraph.analysis.factuality.judges import JudgedAnalysis, writer_key
from entigraph.analysis.study_runs import StudyRun, load_answers, run_folders
from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.llm.answer_judge import AnswerVerdict, decide_without_judge, judge_answers, judge_name, judge_prompt
from entigraph.llm.base import Writer
from entigraph.storage.artifact import artifact_folder, write_json
from entigraph.storage.fingerprints import fingerprint, sample_by_hash
from entigraph.storage.schemas import Answer
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

TO_LABEL = "to_label.csv"
ANSWER_TOKENS = (10.0, 100.0)  # of a question with its accepted answers and the answer
VERDICT_TOKENS = 60.0


@dataclass(frozen=True, kw_only=True)
class AnswerJudges(JudgedAnalysis):
    """Agreement of judges on a sample of `answers` of the study's models to the `task` (null: the first free-form one).

    `judge` and `second` judge the sample again (null: neither). `labels`: the file to_label.csv of this sample, labeled
    by a person, fully or in part.
    """

    name: ClassVar[str] = "answer_judges"
    judged_texts: ClassVar[str] = "answers of the study"
    labels: str | None = runtime_field(None)  # enters the cache key by content
    task: str | None = None
    answers: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if self.answers < 1:
            raise ConfigError(f"analysis.answers: {self.answers} found, 1 or more expected")
        if self.labels is not None and not Path(self.labels).expanduser().is_file():
            raise ConfigError(f"analysis.labels: {self.labels!r} is not a file; give the labeled to_label.csv, or null")
        _ = self.judges

    @property
    def judges(self) -> Mapping[str, Writer]:
        return {key: self.writer_at(key) for key in ("judge", "second") if getattr(self, key) is not None}

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {
            "judges": {key: writer_key(judge) for key, judge in self.judges.items()},
            "labels": fingerprint(Path(self.labels).expanduser()) if self.labels else None,
            "prompt": judge_prompt(),
        }

    def estimate_usage(self, configuration: JudgedConfiguration) -> Mapping[str, JudgeUsage]:
        usage = JudgeUsage()
        prompt = len(judge_prompt()) / CHARACTERS_PER_TOKEN
        usage.add(self.answers, (prompt + ANSWER_TOKENS[0], prompt + ANSWER_TOKENS[1]), (VERDICT_TOKENS,) * 2)
        return dict.fromkeys(self.judges, usage)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        if not context.runs:
            raise DataError(f"{context.study}: no finished run; run the study first")
        return run_folders(context.runs, "evaluation", "baseline")

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes answer_judges.json, all verdicts (verdicts.csv), and the sample for a person to label."""
        task = select_task(context.runs[0], self.task)
        sample = sample_answers(context.runs, task, self.answers, self.seed)
        if not sample:
            raise DataError(f"{context.study}: {task} has no answer that a judge would decide")
        raters = [
            Rater(
                "evaluation",
                str(context.runs[0].scores[task].get("scored_by", "exact match")),
                [stored_verdict(answer) for _, answer in sample],
            ),
            *(self.ask(key, sample, context) for key in self.judges),
        ]
        if self.labels:
            ids = [name for name, _ in sample]
            verdicts = read_labels(Path(self.labels).expanduser(), ids, AnswerVerdict, "answer")
            raters.append(Rater("person", "a person", verdicts, Counter({"not labeled": verdicts.count(None)})))
        result = {
            "task": task,
            "answers": len(sample),
            "raters": {rater.key: rater.name for rater in raters},
            "verdicts": {rater.key: dict(Counter(map(str, filter(None, rater.verdicts)))) for rater in raters},
            "no_verdict": {rater.key: dict(+rater.missing) for rater in raters if +rater.missing},
            "agreement": [
                measure_agreement(one.key, other.key, one.verdicts, other.verdicts)
                for one, other in combinations(raters, 2)
            ],
        }
        write_json(out / "answer_judges.json", result)
        write_verdicts(out / "verdicts.csv", sample, {rater.key: rater.verdicts for rater in raters})
        write_verdicts(out / TO_LABEL, sample, {"verdict": [None] * len(sample)})
        return list(summary_lines(result, out))

    def ask(self, key: str, sample: "Sample", context: AnalysisContext) -> "Rater":
        judge = self.judges[key]
        answers = [answer for _, answer in sample]
        with context.progress.bar("judge", len(answers), "answers") as advance:
            judged = judge_answers(answers, judge, context.response_cache, context.progress.notify, advance)
        missing = Counter(result.missing for result in judged if result.verdict is None)
        return Rater(key, judge_name(judge), [result.verdict for result in judged], missing)


Sample = Sequence[tuple[str, Answer]]  # with an id for each answer


@dataclass(frozen=True)
class Rater:
    """The verdicts of the evaluation, a judge or a person on the sample, and the reasons why some are missing."""

    key: str
    name: str
    verdicts: Sequence[AnswerVerdict | None]
    missing: Counter[str] = field(default_factory=Counter)


def select_task(run: StudyRun, name: str | None) -> str:
    """Returns the task of this name, or the first one with free-form answers. Raises DataError if there is none."""
    tasks = [task for task, score in run.scores.items() if "scored_by" in score]
    if name is not None and name not in tasks:
        raise DataError(f"analysis.task: {name!r} found, one of {', '.join(tasks) or 'none'} expected")
    if not tasks:
        raise DataError(
            f"{run.folder('evaluation')} has no free-form answers; evaluate the study with evaluation=free_form"
        )
    return name or tasks[0]


def sample_answers(runs: Sequence[StudyRun], task: str, size: int, seed: int) -> list[tuple[str, Answer]]:
    """Returns up to `size` answers that need a judge, of all models of the study, with an id for each."""
    return sample_by_hash(judged_answers(runs, task), size, lambda entry: f"{seed}/{entry[0]}")


def judged_answers(runs: Sequence[StudyRun], task: str) -> Iterator[tuple[str, Answer]]:
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


def write_verdicts(file: Path, sample: Sample, raters: Mapping[str, Sequence[AnswerVerdict | None]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", *raters, "question", "accepted", "answer"))
        for number, (name, answer) in enumerate(sample):
            verdicts = [verdicts[number] or "" for verdicts in raters.values()]
            writer.writerow((name, *verdicts, answer.question, " | ".join(answer.accepted), answer.response))


def summary_lines(result: Mapping[str, Any], out: Path) -> Iterator[str]:
    yield f"{result['task']}: {result['answers']:,} answers that a judge decides"
    for key, name in result["raters"].items():
        counts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(result["verdicts"][key].items()))
        missing = ", ".join(f"{count} {reason}" for reason, count in result["no_verdict"].get(key, {}).items())
        yield f"{key} ({name}): {counts or 'no verdict'}" + (f"; without a verdict: {missing}" if missing else "")
    for pair in result["agreement"]:
        agreed = f"agree on {pair['agreed']:.1%} of {pair['compared']}, {kappa_text(pair)}" if pair["compared"] else ""
        yield f"{pair['one']} and {pair['other']}: {agreed or 'no answer has a verdict of both'}"
    yield f"to label by hand: {artifact_folder(out) / TO_LABEL}, then analysis.labels=<the labeled copy>"
