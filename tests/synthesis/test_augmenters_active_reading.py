"""Active Reading: lists of strategies and their reuse, the task variant, and leakage of questions into a purpose."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from entigraph.config.schema import Stage
from entigraph.errors import ConfigError
from entigraph.pipeline import execution
from entigraph.pipeline.run import Run
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Question
from entigraph.synthesis.augmenters.active_reading import ActiveReading, ReadingVariant
from entigraph.synthesis.leakage import quoted_questions
from tests.conftest import Command
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize

PURPOSE = "Readers will be asked where each work is kept."


def test_each_strategy_of_a_list_is_carried_out_before_a_new_list(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, counts = synthesize(corpus, tmp_path / "out", ActiveReading(strategies=5, rounds=10), writer)
    lists = [request for request in writer.requests if request.json_schema]
    assert len(texts) == 2 * 10 and len({request.hash for request in lists}) == 2 * 2
    studied = Counter(request.suffix for request in writer.requests if not request.json_schema)
    assert len(studied) >= 18 and max(studied.values()) <= 2, "two lists of a document may have a strategy in common"
    assert counts["requests"] == 4 + 20, "a list is counted once"
    assert len({text.text for text in texts}) == 20


def test_list_counts_once_over_the_waves_of_a_budget(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    _, counts = synthesize(corpus, tmp_path / "out", ActiveReading(strategies=5), writer, token_budget=4_000)
    assert counts["requests"] == len({request.hash for request in writer.requests}) < len(writer.requests)


def test_purpose_is_shown_when_strategies_are_asked_for(corpus: Path, tmp_path: Path) -> None:
    augmenter = ActiveReading(variant=ReadingVariant.task, purpose=PURPOSE, strategies=3)
    document = next(iter(read_jsonl(corpus / "documents.jsonl", Document)))
    request = next(augmenter.write(next(augmenter.tasks([document], {}, 0))))
    assert PURPOSE in request.user and "imagine what they will be asked" in request.system
    assert augmenter.prompt_names == ["strategies_task", "study"]


def test_offline_writer_says_that_it_cannot_follow_a_purpose(command: Command) -> None:
    options = ["augmenter=active_reading_task", f"augmenter.purpose={PURPOSE}", "corpus.documents=1", "logger=none"]
    assert command(*options, "stage=corpus").returncode == 0
    result = command(*options, "stage=synthesis", "tokenizer=bytes")
    assert (
        result.returncode == 1
        and "cannot relate a document to a purpose: set augmenter.variant=agnostic" in result.stderr
    )


def test_variant_and_purpose_must_agree() -> None:
    with pytest.raises(ConfigError, match=r"augmenter.purpose must be a sentence .* variant=task.*, got '  '"):
        ActiveReading(variant=ReadingVariant.task, purpose="  ")
    with pytest.raises(ConfigError, match=r"empty with variant=agnostic"):
        ActiveReading(purpose=PURPOSE)


def test_purpose_that_quotes_a_question_is_rejected(
    configured: Callable[..., Run], composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    run = configured("corpus.documents=1")
    execution.run_stage(run, Stage.corpus, SilentProgress())
    question = next(iter(read_jsonl(run.artifacts.corpus.folder / "questions.jsonl", Question)))
    leaking = f"augmenter.purpose='They must know: {question.text.lower()}'"
    run = configured("corpus.documents=1", "augmenter=active_reading_task", leaking)
    with pytest.raises(ConfigError, match=rf"augmenter.purpose: quotes the evaluation question {question.id}"):
        execution.run_stage(run, Stage.synthesis, SilentProgress())
    problems = "\n".join(execution.find_problems(run))
    assert "quotes the evaluation question" in problems and "cannot relate a document to a purpose" in problems


def test_long_questions_are_quoted_in_part() -> None:
    question = Question(
        id="q1",
        document_id="d",
        text="Why did the keeper of the lamp of Orsk leave his post that night?",
        choices=["a", "b"],
        answer=0,
        group="g",
    )
    quotation = {"purpose": "They need to know why the keeper of the lamp of Orsk leave his post."}
    assert len(quoted_questions(quotation, [question, question])) == 1
    assert not quoted_questions({"purpose": "They need to know about the lamp of Orsk."}, [question])
