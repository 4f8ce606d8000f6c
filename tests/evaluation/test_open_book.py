"""Open-book tasks: passage selection, degraded retrieval, recall, prompts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Stage
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, Prompt, RetrievedPassages, TaskInputs
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import read_examples
from entigraph.evaluation.tasks.open_book import OpenBook, OpenBookCoT, PassageOrder, RankedPassages
from entigraph.pipeline import execution
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import run_steps
from entigraph.runtime.progress import SilentProgress
from entigraph.storage import artifact
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Passage, Ranking
from tests.evaluation.sample_questions import evaluate_tasks, make_question, write_inputs

PASSAGES = 12


def make_ranking(number: int = 0, **changes: object) -> Ranking:
    """The article has passages 0 to 2, passage 1 is the evidence; they are ranked 3, 1, 4, 0, 2, ..."""
    values = {
        "question_id": f"q{number}",
        "passages": [3, 1, 4, 0, 2, *range(5, PASSAGES)],
        "scores": [float(PASSAGES - rank) for rank in range(PASSAGES)],
        "article": [0, 1, 2],
        "evidence": [[1]],
    }
    return Ranking(**{**values, **changes})  # type: ignore[arg-type]


def write_retrieval(folder: Path, rankings: list[Ranking]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    passages = [
        Passage(id=f"p{n}", document_id="d0" if n < 3 else "d1", start=0, end=1, text=f"Passage {n}.")
        for n in range(PASSAGES)
    ]
    write_jsonl(folder / "passages.jsonl", passages)
    write_jsonl(folder / "rankings.jsonl", rankings)
    return folder


def test_first_k_passages_in_both_orders() -> None:
    assert OpenBook(k=3, order=PassageOrder.best_first).select_passages(make_ranking()) == [3, 1, 4]
    assert OpenBook(k=3).select_passages(make_ranking()) == [4, 1, 3]
    assert OpenBook(k=99).select_passages(make_ranking(passages=[5, 1])) == [1, 5]
    assert OpenBook(k=3).select_passages(make_ranking(passages=[])) == []


def test_drop_gold_removes_evidence_or_article() -> None:
    assert OpenBook(k=4, drop_gold=1.0, order=PassageOrder.best_first).select_passages(make_ranking()) == [3, 4, 0, 2]
    unknown = make_ranking(evidence=None)
    assert OpenBook(k=4, drop_gold=1.0, order=PassageOrder.best_first).select_passages(unknown) == [3, 4, 5, 6]
    assert OpenBook(k=4, drop_gold=1.0).select_passages(make_ranking(passages=[1])) == []
    nowhere = make_ranking(evidence=None, article=None)
    assert OpenBook(k=2, drop_gold=1.0, order=PassageOrder.best_first).select_passages(nowhere) == [3, 1]


def test_distractors_come_from_other_articles() -> None:
    for number in range(20):
        ranking = make_ranking(number)
        results = OpenBook(k=2, distractors=3, order=PassageOrder.best_first).select_passages(ranking)
        assert [passage for passage in results if passage in (3, 1)] == [3, 1]
        assert sorted(set(results) - {3, 1}) == [4, 5, 6]
        assert results == OpenBook(k=2, distractors=3, order=PassageOrder.best_first).select_passages(ranking)
    selections = {tuple(OpenBook(k=2, distractors=3).select_passages(make_ranking(number))) for number in range(20)}
    assert len(selections) > 3, "the positions are random for each question"


@pytest.mark.parametrize("drop", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_drop_gold_scales_expected_recall(tmp_path: Path, drop: float) -> None:
    """The retriever misses a fifth of 2,000 questions: the recall is 0.8 times the fraction of questions with gold."""
    count, found_fraction = 2_000, 0.8
    rankings = [
        make_ranking(number, passages=[3, 4, 5] if number % 5 == 0 else [3, 1, 4]) for number in range(count)
    ]  # fmt: skip
    library = RankedPassages(write_retrieval(tmp_path, rankings), OpenBook(k=3, drop_gold=drop))
    evidence_included = [library(make_question(number)).evidence_shown for number in range(count)]
    expected = found_fraction * (1 - drop)
    error = (drop * (1 - drop) * found_fraction / count) ** 0.5
    assert sum(map(bool, evidence_included)) / count == pytest.approx(expected, abs=4 * error)


def test_questions_without_gold_are_nested() -> None:
    def kept(drop: float, seed: int = 0) -> set[int]:
        task = OpenBook(k=3, drop_gold=drop, drop_seed=seed)
        return {number for number in range(200) if 1 in task.select_passages(make_ranking(number))}

    assert kept(1.0) == set() < kept(0.75) < kept(0.5) < kept(0.25) < kept(0.0) == set(range(200))
    assert kept(0.5) != kept(0.5, seed=1)


def test_prompts_with_and_without_passages(
    backend: TransformersBackend,
) -> None:
    seen: list[str] = []

    class RecordingBackend:
        def sample(self, prompts: Any, sampling: Any) -> Any:
            seen.extend(prompt.text for prompt in prompts)
            return backend.sample(prompts, sampling)

        def loglikelihoods(self, pairs: Any, batch_tokens: int) -> Any:
            seen.extend(prompt for prompt, _ in pairs)
            return backend.loglikelihoods(pairs, batch_tokens)

    questions = [make_question(0), make_question(1, thought=True)]
    look_up = {
        "q0": RetrievedPassages(["One {odd} passage.", "Two."], True, False),
        "q1": RetrievedPassages(["Three."]),
    }
    answers = list(OpenBook().answers(questions, RecordingBackend(), lambda question: look_up[question.id]))
    assert "One {odd} passage.\n\nTwo.\n\nQuestion: Where is the document? Answer:" in seen
    assert "Three.\n\nQuestion: Where is the document? Thought:" in seen
    assert any(text.startswith("Three.") and text.endswith("Answer:") for text in seen)
    assert answers[0].passages == ["One {odd} passage.", "Two."] and answers[0].retrieved == 2
    assert (answers[0].article_shown, answers[0].evidence_shown) == (True, False)
    nothing = list(OpenBook().answers(questions, backend, lambda question: RetrievedPassages([], False, False)))
    closed = list(ClosedBook().answers(questions, backend))
    assert [answer.scores for answer in nothing] == [answer.scores for answer in closed]
    assert nothing[0].retrieved == 0 and closed[0].retrieved is None


def test_overflowing_passages_are_counted(backend: TransformersBackend, tmp_path: Path, tiny_model: Path) -> None:
    questions = [make_question(number) for number in range(4)]
    source = write_inputs(tmp_path, questions)
    folder = write_retrieval(
        tmp_path / "retrieval", [make_ranking(number) for number in range(3)] + [make_ranking(3, passages=[])]
    )
    passages = [
        Passage(**{**vars(item), "text": "The document. " * 2_000})
        for item in read_jsonl(folder / "passages.jsonl", Passage)
    ]
    write_jsonl(folder / "passages.jsonl", passages)
    source = TaskInputs(source.questions, source.documents, folder)
    tasks = {"open": OpenBook(k=2), "cot": OpenBookCoT(k=2, samples=1, max_tokens=4)}
    candidate = LocalModel(str(tiny_model), "cpu", 1)
    (tmp_path / "out").mkdir()
    scores = evaluate_tasks(candidate, tmp_path / "out", source, **tasks)
    for name, overflowed in (("open", 3), ("cot", 4)):  # the five examples alone exceed the context of the tiny model
        assert scores[name]["overflowed"] == overflowed and scores[name]["questions"] == 4
        assert scores[name]["retrieval"]["nothing_retrieved"] == 1
        results = scores[name]["retrieval"]["evidence"]
        assert results["recall"] == 0.75 and results["questions"] == 4
        assert results["accuracy_shown"]["questions"] == 3 and results["accuracy_not_shown"]["questions"] == 1
    answers = list(read_jsonl(tmp_path / "out" / "answers-open.jsonl", Answer))
    assert [len(answer.passages) for answer in answers] == [2, 2, 2, 0]


def test_examples_contain_passages() -> None:
    evidence_included = read_examples("five_books_open")
    counts = [part.count("### Context ") for part in evidence_included.split("## Example ")[1:]]
    assert counts == [1, 2, 3, 3, 5, 0] and evidence_included.endswith("## Example 6")
    closed = read_examples("five_books").split("## Example ")
    for last_block, other in zip(evidence_included.split("## Example ")[1:6], closed[1:6], strict=True):
        assert last_block[last_block.index("### Question") : last_block.index("Thought process:")] in other, (
            "the same questions"
        )
        assert last_block.splitlines()[-1] == other.splitlines()[-1], "the same answers"
    prompt = OpenBookCoT().build_prompt(make_question(0), ["First.", "Second."]).removeprefix(evidence_included)
    assert prompt.startswith("\n### Context 1\nFirst.\n### Context 2\nSecond.\n### Question\nWhere is")


def test_chain_of_thought_prompts_contain_the_passages() -> None:
    class PassageReader:
        """Answers from the last passage."""

        def sample(self, prompts: list[Prompt], sampling: Any) -> Any:
            for index, prompt in enumerate(prompts):
                last_block = prompt.text.rpartition("## Example 6")[2]
                yield index, [Generation(" So.\nAnswer: C.\n" if "Passage 1." in last_block else " So.\nAnswer: A.\n")]

        def loglikelihoods(self, pairs: Any, batch_tokens: int) -> Any:
            raise AssertionError

    questions = [make_question(2), make_question(3)]
    look_up = {
        "q2": RetrievedPassages(["Passage 1."], True, True),
        "q3": RetrievedPassages(["Passage 9."], False, False),
    }
    task = OpenBookCoT(samples=1)
    answers = list(task.answers(questions, PassageReader(), lambda question: look_up[question.id]))
    assert [answer.choice for answer in answers] == [2, 0]
    scores = task.score(answers)
    assert scores["retrieval"]["evidence"]["accuracy_shown"]["accuracy"] == 1.0
    assert scores["retrieval"]["article"]["recall"] == 0.5


def test_tasks_with_different_k_and_order_share_one_ranking(configured: Callable[..., Run]) -> None:
    def ranked(*overrides: str) -> Run:
        options = ["corpus.documents=1", "evaluation=[open_book]", "logger=none", *overrides]
        run = configured(*options)
        for name in (Stage.corpus, Stage.retrieval):
            execution.run_stage(run, name, SilentProgress())
        return run

    first = ranked()
    manifest = artifact.read_manifest(first.artifacts.rankings["open_book"].folder)
    for override in ("k=1", "order=best_first", "drop_gold=0.5", "distractors=4"):
        other = ranked(f"evaluation.open_book.{override}")
        assert other.artifacts.rankings["open_book"].folder == first.artifacts.rankings["open_book"].folder
        assert other.artifacts.evaluation.folder != first.artifacts.evaluation.folder
    assert artifact.read_manifest(first.artifacts.rankings["open_book"].folder) == manifest, "ranked once"
    for override in ("retriever.characters=256", "retriever.k1=1.2", "evaluation.open_book.limit=5"):
        changed = configured("corpus.documents=1", "evaluation=[open_book]", override).artifacts
        assert changed.rankings["open_book"].folder != first.artifacts.rankings["open_book"].folder
    both = configured("corpus.documents=1", "evaluation=[open_book,open_book_recalls]")
    rankings = both.artifacts.rankings
    assert len({ranking.folder for ranking in rankings.values()}) == 1 and len(rankings) == 6
    assert sum(step.stage is Stage.retrieval for step in run_steps(both)) == 1


def test_missing_ranking_raises_data_error(tmp_path: Path) -> None:
    library = RankedPassages(write_retrieval(tmp_path, [make_ranking(0)]), OpenBook())
    with pytest.raises(DataError, match="has no ranking for q1"):
        library(make_question(1))


@pytest.mark.parametrize("options", [{"k": 0}, {"drop_gold": 1.5}, {"distractors": -1}, {"context": "no placeholder"}])
def test_invalid_open_book_settings_raise_config_error(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="evaluation"):
        OpenBook(**options)
    if "context" not in options:
        with pytest.raises(ConfigError, match="evaluation"):
            OpenBookCoT(**options)


def test_evidence_parts_selects_questions(tmp_path: Path) -> None:
    parts = [[], ["one"], ["one", "two"]]
    source = write_inputs(tmp_path, [make_question(number, evidence=part) for number, part in enumerate(parts)])
    assert [question.id for question in OpenBook(evidence_parts=1).load_questions(source)] == ["q1"]
    assert len(OpenBook(evidence_parts=2).load_questions(source)) == 2 and len(OpenBook().load_questions(source)) == 3
