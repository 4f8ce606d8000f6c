"""Execution of steps: what is checked first, what is built, skipped and registered."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Stage
from entigraph.errors import ArtifactError, ConfigError
from entigraph.pipeline import execution
from entigraph.pipeline.dry_run import render_plan, sweep_cost_lines
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import Step, run_steps, synthesis_data_losses
from entigraph.pipeline.study import study_folder
from entigraph.pipeline.trained_texts import trained_documents
from entigraph.reporting.disclaimers import TEST_MODEL
from entigraph.runtime.processes import process_group
from entigraph.runtime.progress import Progress, SilentProgress
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact
from entigraph.storage.private_marks import private_study
from entigraph.storage.texts import read_texts
from entigraph.tracking.base import Tracker
from tests.conftest import ARTICLE, TINY
from tests.pipeline.finished_stages import finish

Configured = Callable[..., Run]
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}


class LineageTracker(Tracker):
    def __init__(self) -> None:
        self.outputs: list[Path] = []

    def log_lineage(self, output: Path, inputs: Any) -> None:
        self.outputs.append(output)


class RecordingProgress(SilentProgress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def notify(self, line: str) -> None:
        self.lines.append(line)


def counting_step(root: Path, stage: Stage, calls: list[Path]) -> Step:
    def work(out: Path, progress: Progress, tracker: Tracker) -> Mapping[str, Any]:
        calls.append(out)
        return {"calls": len(calls)}

    return Step(stage, Artifact(root, str(stage), "example", {}, {}), work)


# --- one step ---


def test_step_builds_its_artifact_once(tmp_path: Path) -> None:
    calls: list[Path] = []
    step = counting_step(tmp_path, Stage.corpus, calls)
    tracker, progress = LineageTracker(), RecordingProgress()
    for _ in range(2):
        execution.execute_step(step, progress, lambda: tracker)
    assert tracker.outputs == [step.artifact.folder] and step.artifact.complete
    assert calls == [artifact.build_folder(step.artifact.folder, "1")], "work fills a private folder"
    assert progress.lines == [f"corpus     {step.artifact.folder}"]


def test_tracked_run_starts_only_for_steps_that_build(tmp_path: Path) -> None:
    step = counting_step(tmp_path, Stage.corpus, [])
    execution.execute_step(step, SilentProgress(), Tracker)
    execution.execute_step(step, SilentProgress(), lambda: pytest.fail("a finished step started a tracked run"))


def test_ranks_other_than_0_only_take_part_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    calls: list[Path] = []
    tokens, training = (counting_step(tmp_path, stage, calls) for stage in (Stage.tokens, Stage.training))
    created_by_rank_0 = artifact.build_folder(training.artifact.folder, process_group().launch)
    created_by_rank_0.mkdir(parents=True)
    for step in (tokens, training):
        execution.execute_step(step, SilentProgress(), Tracker)
    assert calls == [created_by_rank_0]
    assert not list(tmp_path.rglob("manifest.json")), "rank 0 writes the artifact"


def test_rank_without_rank_0_ends_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(execution, "RANK_0_TIMEOUT_S", 0.3)
    with pytest.raises(ArtifactError, match="rank 0 did not start to build it"):
        execution.execute_step(counting_step(tmp_path, Stage.training, []), SilentProgress(), Tracker)


# --- checks before the first step ---


def test_several_processes_are_accepted_for_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    execution.check_single_process(None)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    execution.check_single_process(Stage.training)
    with pytest.raises(ConfigError, match="run: torchrun started 2 processes, but only stage=training supports"):
        execution.check_single_process(None)
    with pytest.raises(ConfigError, match="stage=tokens: torchrun started 2 processes"):
        execution.check_single_process(Stage.tokens)


def test_default_run_has_no_problems(configured: Configured) -> None:
    run = configured(*TINY)
    assert execution.find_problems(run) == [] and not execution.is_complete(run)


def test_api_key_of_the_writer_is_needed_until_its_texts_are_finished(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = configured(*TINY, "llm=openai")
    (problem,) = execution.find_problems(run)
    assert "OPENAI_API_KEY" in problem
    finish(run, "corpus", "tokenizer", "synthesis")
    assert execution.find_problems(run) == []
    questions = configured(*TINY, "llm=openai", "augmenter=raw", "questions=generated")
    assert ["OPENAI_API_KEY" in problem for problem in execution.find_problems(questions)] == [True]


def test_missing_gpu_is_a_problem_until_training_is_finished(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = configured(*TINY, "trainer.accelerator=cuda")
    assert any("needs a CUDA device" in problem for problem in execution.find_problems(run))
    finish(run, "corpus", "tokenizer", "synthesis", "tokens", "training")
    assert execution.find_training_problems(run) != [] and execution.find_problems(run) == []


def test_problems_of_a_baseline_endpoint_name_the_baseline(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = configured("evaluation=closed_book_cot", "baselines=[gpt_4_turbo]", "logger=none")
    (problem,) = execution.find_baseline_problems(run)
    assert "baselines.gpt_4_turbo." in problem and "llm." not in problem
    assert problem in execution.find_problems(run)


def test_pipeline_with_problems_builds_nothing(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    run = configured(*TINY, "llm=openai")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        execution.run_pipeline(run, SilentProgress())
    assert not run.root.exists()


def test_analysis_that_reads_no_runs_trains_nothing(configured: Configured) -> None:
    run = configured("experiments=theory/toy_model", "logger=none")
    with pytest.raises(ConfigError, match="analysis=toy_model: it reads no runs; use `entigraph analyze`"):
        execution.run_pipeline(run, SilentProgress())
    assert not run.root.exists()


# --- one stage ---


@pytest.mark.parametrize(
    ("stage", "hint"),
    [
        (Stage.retrieval, "open_book"),
        (Stage.questions, "questions=generated"),
        (Stage.baselines, r"baselines=\[pretrained\]"),
        (Stage.evaluation, r"evaluation=\[closed_book\]"),
    ],
)
def test_stage_that_is_not_configured_is_an_error_with_a_hint(configured: Configured, stage: Stage, hint: str) -> None:
    run = configured("evaluation=none", "logger=none")
    with pytest.raises(ConfigError, match=f"stage={stage}: this configuration has no such stage; .*{hint}"):
        execution.run_stage(run, stage, SilentProgress())


def test_stage_needs_the_finished_artifacts_of_earlier_stages(configured: Configured) -> None:
    run = configured(*TINY)
    with pytest.raises(ArtifactError, match="run the stage that makes it"):
        execution.run_stage(run, Stage.tokens, SilentProgress())
    execution.run_stage(run, Stage.corpus, SilentProgress())
    assert [step.artifact.stage for step in run_steps(run) if step.artifact.complete] == ["corpus"]


def test_stage_builds_the_shared_tokenizer_that_it_needs(configured: Configured) -> None:
    run = configured(*TINY, "augmenter=raw")
    for stage in (Stage.corpus, Stage.synthesis):
        execution.run_stage(run, stage, SilentProgress())
    assert run.artifacts.tokenizer.complete and run.artifacts.synthesis.complete


def test_artifacts_of_a_private_study_stay_private(configured: Configured) -> None:
    overrides = ["corpus.documents=1", "evaluation=none", "logger=none", "study.name=notes"]
    run = configured(*overrides, "study.private=true")
    execution.run_stage(run, Stage.corpus, SilentProgress())
    execution.run_stage(configured(*overrides), Stage.corpus, SilentProgress())
    for folder in (study_folder(run), *(step.artifact.folder for step in run_steps(run))):
        assert private_study(folder) == "notes"
    other = configured(*overrides, "seed=1").artifacts
    assert private_study(other.synthesis.folder) == "notes" and not private_study(other.training.folder)


def test_run_marks_its_artifacts_as_private_before_the_first_step(configured: Configured, tmp_path: Path) -> None:
    run = configured("augmenter=raw", "evaluation=none", "logger=none", "study.private=true")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "corpus").write_text("in the way of the first step")
    with pytest.raises(NotADirectoryError):
        execution.run_pipeline(run, SilentProgress())
    assert private_study(run.artifacts.training.folder) == "study"


# --- a corpus without questions ---


@pytest.fixture
def notes(tmp_path: Path) -> str:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "lamp.txt").write_text(ARTICLE)
    return f"corpus.path={tmp_path / 'notes'}"


def test_pipeline_without_questions_skips_the_tasks_that_ask_them(configured: Configured, notes: str) -> None:
    run = configured("corpus=text_files", notes, "evaluation=[closed_book,perplexity]", "logger=none")
    assert [*run.tasks] == ["perplexity"] and run.skipped_tasks == ["closed_book"]
    (note,) = (line for line in render_plan(run) if line.startswith("note: "))
    assert "closed_book skipped, because the corpus has no questions" in note and "questions=generated" in note
    written = configured("corpus=text_files", notes, "questions=generated", "logger=none")
    assert [*written.tasks] == ["closed_book"] and not written.skipped_tasks


@pytest.mark.parametrize("stage", ["corpus", "synthesis", "tokens", "training"])
def test_stages_that_do_not_evaluate_need_no_questions(configured: Configured, notes: str, stage: str) -> None:
    assert configured("corpus=text_files", notes, f"stage={stage}", "logger=none").skipped_tasks == ["closed_book"]


def test_evaluation_needs_questions(configured: Configured, notes: str) -> None:
    with pytest.raises(ConfigError, match="the corpus has no questions; give some"):
        configured("corpus=text_files", notes, "stage=evaluation", "logger=none")
    others = ["evaluation=[closed_book,perplexity]", "stage=evaluation"]
    assert [*configured("corpus=text_files", notes, *others, "logger=none").tasks] == ["perplexity"]


# --- plan ---


def test_plan_with_a_real_writer_says_that_the_default_model_is_for_tests(configured: Configured, notes: str) -> None:
    corpus = ["corpus=text_files", notes, "evaluation=none", "logger=none"]
    assert f"note: {TEST_MODEL}" in render_plan(configured(*corpus, "llm=openai"))
    for other in (["llm=offline"], ["llm=openai", "model.hidden_size=256", "model.intermediate_size=1024"]):
        assert not any(TEST_MODEL in line for line in render_plan(configured(*corpus, *other)))


def test_plan_notes_replay_tokens_that_are_not_read(configured: Configured, tmp_path: Path) -> None:
    assert any("data.replay is not read" in note for note in configured(f"data.replay={tmp_path}", "logger=none").notes)
    assert not configured("logger=none").notes


def test_plan_counts_the_documents_of_a_finished_corpus(
    configured: Configured, notes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "notes" / "copy.txt").write_text(ARTICLE)
    run = configured("corpus=text_files", notes, "llm=openai", "augmenter=rephrase", "logger=none")

    def documents() -> list[str]:
        return [line.split()[0] for line in render_plan(run) if line.strip().startswith(("copy", "lamp"))]

    assert len(documents()) == 2
    execution.run_stage(run, Stage.corpus, SilentProgress())
    assert len(documents()) == 1
    assert "note: llm.api_key_env: OPENAI_API_KEY is not set in the environment; export the API key" in render_plan(run)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abc")
    assert not any("OPENAI_API_KEY" in line for line in render_plan(run))


# --- documents without texts ---


def test_plan_and_scores_state_documents_without_texts(configured: Configured) -> None:
    run = configured(*TINY, "corpus.documents=3", "augmenter=rephrase", "synthesis.token_budget=1500")
    for stage in (Stage.corpus, Stage.synthesis):
        execution.run_stage(run, stage, SilentProgress())
    texts = len({text.document_id for text in read_texts(run.artifacts.synthesis.folder)})
    assert texts == 3, "one text about each document comes first"
    small = configured(*TINY, "corpus.documents=3", "augmenter=rephrase", "synthesis.token_budget=100")
    execution.run_stage(small, Stage.synthesis, SilentProgress())
    assert any("2 of 3 documents have no synthetic text" in line for line in render_plan(small))
    chosen = configured(
        *TINY, "corpus.documents=3", "augmenter=rephrase", "synthesis.token_budget=1500", "tokens.budget=500"
    )
    (loss,) = (loss for loss in synthesis_data_losses(chosen, trained=True) if loss.description.startswith("documents"))
    assert loss.count == 3 - len(trained_documents(chosen)) > 0, "the budget of the training leaves out documents"


# --- entries of a study ---


def test_run_is_registered_after_its_evaluation(configured: Configured) -> None:
    run = configured(*TINY)
    execution.register_run(run)
    assert not study_folder(run).exists()
    finish(run, *(step.artifact.stage for step in run_steps(run)))
    assert execution.is_complete(run)
    execution.register_run(run)
    (entry,) = (study_folder(run) / "runs").iterdir()
    assert entry.stem == run.artifacts.evaluation.folder.name
    assert json.loads(entry.read_text())["augmenter"] == "entigraph" and (study_folder(run) / "settings.json").exists()


def test_baselines_are_registered_after_their_evaluation(configured: Configured) -> None:
    run = configured("evaluation=closed_book_cot", "baselines=[gpt_4_turbo]", "logger=none")
    execution.register_baselines(run)
    assert not study_folder(run).exists()
    finish(run, *(step.artifact.stage for step in run_steps(run)))
    execution.register_baselines(run)
    (evaluation,) = run.artifacts.reference_evaluations.values()
    (entry,) = (study_folder(run) / "baselines").iterdir()
    assert entry.stem == evaluation.folder.name and json.loads(entry.read_text())["name"] == "gpt-4-turbo"


def test_costs_of_a_sweep_count_shared_rankings_once(configured: Configured) -> None:
    url, price = "retriever.base_url=https://api.openai.com/v1", "retriever.price=0.1"
    overrides = ["evaluation=open_book", "retriever=dense", "retriever.model=embedder", url, price]
    runs = [configured(*overrides, f"seed={seed}") for seed in (0, 1)]
    (line,) = [line for line in sweep_cost_lines(runs) if line.startswith("retrieval")]
    assert "its cost is unknown until the questions exist" in line


def test_augmenter_that_writes_conversations_needs_a_chat_tokenizer(configured: Configured, tiny_model: Path) -> None:
    chats = ["augmenter=knowledge_instruct", "augmenter.conversations=true", "logger=none"]
    with pytest.raises(ConfigError, match="conversations and tokenizer=chat go together"):
        configured(*chats)
    configured(*chats, "tokenizer=chat", f"tokenizer.path={tiny_model}", "tokenizer.template=chatml")
