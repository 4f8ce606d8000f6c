"""What is checked of a run's texts before they are trained on, and of the user's texts for the writer."""

from collections.abc import Iterator
from pathlib import Path

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.study_runs import StudyRun
from entigraph.config.schema import GateMode
from entigraph.errors import DataError, LLMError
from entigraph.llm.response_cache import response_cache_path
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import study_folder, study_member
from entigraph.pipeline.trained_texts import training_texts
from entigraph.runtime.progress import Progress
from entigraph.storage import artifact
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Question
from entigraph.synthesis.leakage import quoted_questions
from entigraph.synthesis.quality_gate import UNSUPPORTED, QualityReport, check_quality
from entigraph.tracking.base import Tracker


def find_quoted_questions(run: Run) -> list[str]:
    """Returns where the user's texts for the writer quote an evaluation question, of those that are known by now."""
    if not run.augmenter.user_texts:
        return []
    return quoted_questions(run.augmenter.user_texts, evaluation_questions(run))


def evaluation_questions(run: Run) -> Iterator[Question]:
    """Yields the questions that exist so far: the corpus's and the evaluation tasks' questions."""
    files = {run.artifacts.question_folder(task) / "questions.jsonl" for task in run.tasks.values()}
    files.add(run.artifacts.corpus.folder / "questions.jsonl")
    return (question for file in sorted(files) if file.exists() for question in read_jsonl(file, Question))


def check_texts(run: Run, out: Path, progress: Progress, tracker: Tracker) -> None:
    """Reports the quality of the texts to train on, and writes quality.json. Raises DataError to stop training."""
    training = training_texts(run) if run.augmenter.needs_writer else None
    if training is None:
        progress.notify("quality gate: the texts are copied, or were removed; nothing is checked")
        return
    documents = read_jsonl(run.artifacts.corpus.folder / "documents.jsonl", Document)
    with progress.bar("quality gate"):
        report = check_quality(training.texts(), documents, evaluation_questions(run), run.quality_gate)
    if run.quality_gate.judged_sentences:
        judge_support(run, report, progress)
    artifact.write_json(out / "quality.json", report.to_dict())
    tracker.summarize({f"quality/{defect}": report.share(defect) for defect in report.limits})
    for line in report.lines():
        progress.notify(line)
    if report.exceeded and run.quality_gate.mode is GateMode.stop:
        raise DataError(
            f"quality_gate.mode=stop: {', '.join(report.exceeded)}, more often than allowed (see above); read the "
            f"texts in {run.artifacts.synthesis.folder}, change augmenter or writer, raise the limits, or set "
            "quality_gate.mode=report"
        )


def judge_support(run: Run, report: QualityReport, progress: Progress) -> None:
    """Adds to the report how many sentences of the texts their documents do not support, as the writer judges.

    Raises LLMError if it gives no verdict on most of them.
    """
    from entigraph.analysis.factuality.factuality import judge_corpus
    from entigraph.analysis.factuality.verdicts import Verdict
    from entigraph.analysis.written_corpus import open_corpus

    corpus = open_corpus(run.artifacts.synthesis.folder, run.root)
    assert corpus is not None
    configured = StudyRun(run.root, study_member(run))
    context = AnalysisContext(run.root, study_folder(run), configured, response_cache_path(run.root), progress)
    judged = judge_corpus(corpus, run.quality_gate.judged_sentences, run.llm, context)
    report.no_verdict.update(judgment.missing for _, judgment in judged if judgment.verdict is None)
    if report.no_verdict.total() > len(judged) / 2:
        reason, count = report.no_verdict.most_common(1)[0]
        raise LLMError(
            f"quality_gate.judged_sentences: the writer {run.llm.name} gave no verdict on "
            f"{report.no_verdict.total():,} of {len(judged):,} sentences ({reason}: {count:,}); choose a writer that "
            "replies in JSON, or set quality_gate.judged_sentences=0"
        )
    report.limits[UNSUPPORTED] = run.quality_gate.max_unsupported
    report.sentences = sum(judgment.verdict in (Verdict.supported, Verdict.unsupported) for _, judgment in judged)
    for sentence, judgment in judged:
        if judgment.verdict is Verdict.unsupported:
            report.add(sentence.text_id, UNSUPPORTED)
