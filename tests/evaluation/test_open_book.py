"""Passages before the question: what is shown, the dial, recall, and prompts that hold them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Stage
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation import stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, Prompt, RetrievedPassages, TaskInputs
from entigraph.evaluation.models_under_test import LocalModel
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.closed_book_cot import read_examples
from entigraph.evaluation.tasks.open_book import OpenBook, OpenBookCoT, PassageOrder, RankedPassages
from entigraph.pipeline import execution
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import steps_of
from entigraph.runtime.progress import SilentProgress
from entigraph.storage import artifact
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Passage, Ranking
from tests.evaluation.asked import a_question, a_source

PASSAGES = 12


def a_ranking(number: int = 0, **changes: object) -> Ranking:
    """The article's passages are the first three, its evidence is the second; they are ranked 3, 1, 4, 0, 2, ..."""
    values = {
        "question_id": f"q{number}",
        "passages": [3, 1, 4, 0, 2, *range(5, PASSAGES)],
        "scores": [float(PASSAGES - place) for place in range(PASSAGES)],
        "article": [0, 1, 2],
        "evidence": [[1]],
    }
    return Ranking(**{**values, **changes})  # type: ignore[arg-type]


def a_retrieval(folder: Path, rankings: list[Ranking]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    passages = [
        Passage(id=f"p{n}", document_id="d0" if n < 3 else "d1", start=0, end=1, text=f"Passage {n}.")
        for n in range(PASSAGES)
    ]
    write_jsonl(folder / "passages.jsonl", passages)
    write_jsonl(folder / "rankings.jsonl", rankings)
    return folder


def test_the_first_k_are_shown_best_first_or_best_last() -> None:
    assert OpenBook(k=3, order=PassageOrder.best_first).select_passages(a_ranking()) == [3, 1, 4]
    assert OpenBook(k=3).select_passages(a_ranking()) == [4, 1, 3]
    assert OpenBook(k=99).select_passages(a_ranking(passages=[5, 1])) == [1, 5]
    assert OpenBook(k=3).select_passages(a_ranking(passages=[])) == []


def test_the_dial_passes_over_the_evidence_or_where_it_is_unknown_the_article() -> None:
    assert OpenBook(k=4, drop_gold=1.0, order=PassageOrder.best_first).select_passages(a_ranking()) == [3, 4, 0, 2]
    unknown = a_ranking(evidence=None)
    assert OpenBook(k=4, drop_gold=1.0, order=PassageOrder.best_first).select_passages(unknown) == [3, 4, 5, 6]
    assert OpenBook(k=4, drop_gold=1.0).select_passages(a_ranking(passages=[1])) == []
    nowhere = a_ranking(evidence=None, article=None)
    assert OpenBook(k=2, drop_gold=1.0, order=PassageOrder.best_first).select_passages(nowhere) == [3, 1]


def test_distractors_come_from_other_articles_and_keep_the_others_in_order() -> None:
    for number in range(20):
        ranking = a_ranking(number)
        found = OpenBook(k=2, distractors=3, order=PassageOrder.best_first).select_passages(ranking)
        assert [passage for passage in found if passage in (3, 1)] == [3, 1]
        assert sorted(set(found) - {3, 1}) == [4, 5, 6]
        assert found == OpenBook(k=2, distractors=3, order=PassageOrder.best_first).select_passages(ranking)
    places = {tuple(OpenBook(k=2, distractors=3).select_passages(a_ranking(number))) for number in range(20)}
    assert len(places) > 3, "their places are drawn for each question"


@pytest.mark.parametrize("drop", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_recall_is_expected_to_fall_to_what_was_asked(tmp_path: Path, drop: float) -> None:
    """Of 2,000 questions a fifth is not found by the retriever: recall is four fifths of what is kept."""
    count, found_share = 2_000, 0.8
    rankings = [
        a_ranking(number, passages=[3, 4, 5] if number % 5 == 0 else [3, 1, 4]) for number in range(count)
    ]  # fmt: skip
    library = RankedPassages(a_retrieval(tmp_path, rankings), OpenBook(k=3, drop_gold=drop))
    shown = [library(a_question(number)).evidence_shown for number in range(count)]
    expected = found_share * (1 - drop)
    error = (drop * (1 - drop) * found_share / count) ** 0.5
    assert sum(map(bool, shown)) / count == pytest.approx(expected, abs=4 * error)


def test_a_question_that_loses_its_passages_loses_them_at_every_higher_drop() -> None:
    def kept(drop: float, seed: int = 0) -> set[int]:
        task = OpenBook(k=3, drop_gold=drop, drop_seed=seed)
        return {number for number in range(200) if 1 in task.select_passages(a_ranking(number))}

    assert kept(1.0) == set() < kept(0.75) < kept(0.5) < kept(0.25) < kept(0.0) == set(range(200))
    assert kept(0.5) != kept(0.5, seed=1)


def test_passages_stand_before_the_question_and_closed_book_is_what_is_left_without_any(
    engine: TransformersBackend,
) -> None:
    seen: list[str] = []

    class Noting:
        def sample(self, prompts: Any, sampling: Any) -> Any:
            seen.extend(prompt.text for prompt in prompts)
            return engine.sample(prompts, sampling)

        def loglikelihoods(self, pairs: Any, batch_tokens: int) -> Any:
            seen.extend(prompt for prompt, _ in pairs)
            return engine.loglikelihoods(pairs, batch_tokens)

    questions = [a_question(0), a_question(1, thought=True)]
    look_up = {
        "q0": RetrievedPassages(["One {odd} passage.", "Two."], True, False),
        "q1": RetrievedPassages(["Three."]),
    }
    answers = list(OpenBook().answers(questions, Noting(), lambda question: look_up[question.id]))
    assert "One {odd} passage.\n\nTwo.\n\nQuestion: Where is the document? Answer:" in seen
    assert "Three.\n\nQuestion: Where is the document? Thought:" in seen
    assert any(text.startswith("Three.") and text.endswith("Answer:") for text in seen)
    assert answers[0].passages == ["One {odd} passage.", "Two."] and answers[0].retrieved == 2
    assert (answers[0].article_shown, answers[0].evidence_shown) == (True, False)
    nothing = list(OpenBook().answers(questions, engine, lambda question: RetrievedPassages([], False, False)))
    closed = list(ClosedBook().answers(questions, engine))
    assert [answer.scores for answer in nothing] == [answer.scores for answer in closed]
    assert nothing[0].retrieved == 0 and closed[0].retrieved is None


def test_a_prompt_with_passages_beyond_the_context_is_counted_and_never_cut(
    engine: TransformersBackend, tmp_path: Path, tiny_model: Path
) -> None:
    questions = [a_question(number) for number in range(4)]
    source = a_source(tmp_path, questions)
    folder = a_retrieval(
        tmp_path / "retrieval", [a_ranking(number) for number in range(3)] + [a_ranking(3, passages=[])]
    )
    passages = [
        Passage(**{**vars(each), "text": "The document. " * 2_000})
        for each in read_jsonl(folder / "passages.jsonl", Passage)
    ]
    write_jsonl(folder / "passages.jsonl", passages)
    source = TaskInputs(source.questions, source.documents, folder)
    tasks = {"open": OpenBook(k=2), "cot": OpenBookCoT(k=2, samples=1, max_tokens=4)}
    subject = LocalModel(str(tiny_model), "cpu", 1)
    (tmp_path / "out").mkdir()
    stage.run(subject, tmp_path / "out", tasks=tasks, inputs=dict.fromkeys(tasks, source), progress=SilentProgress())
    import json

    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    for name, overflowed in (("open", 3), ("cot", 4)):  # five examples alone are longer than what the tiny model reads
        assert scores[name]["overflowed"] == overflowed and scores[name]["questions"] == 4
        assert scores[name]["retrieval"]["nothing_retrieved"] == 1
        found = scores[name]["retrieval"]["evidence"]
        assert found["recall"] == 0.75 and found["questions"] == 4
        assert found["accuracy_shown"]["questions"] == 3 and found["accuracy_not_shown"]["questions"] == 1
    answers = list(read_jsonl(tmp_path / "out" / "answers-open.jsonl", Answer))
    assert [len(answer.passages) for answer in answers] == [2, 2, 2, 0]


def test_examples_carry_one_two_three_three_and_five_passages() -> None:
    shown = read_examples("five_books_open")
    counts = [part.count("### Context ") for part in shown.split("## Example ")[1:]]
    assert counts == [1, 2, 3, 3, 5, 0] and shown.endswith("## Example 6")
    closed = read_examples("five_books").split("## Example ")
    for own, other in zip(shown.split("## Example ")[1:6], closed[1:6], strict=True):
        assert own[own.index("### Question") : own.index("Thought process:")] in other, "the same questions"
        assert own.splitlines()[-1] == other.splitlines()[-1], "and answers"
    prompt = OpenBookCoT().build_prompt(a_question(0), ["First.", "Second."]).removeprefix(shown)
    assert prompt.startswith("\n### Context 1\nFirst.\n### Context 2\nSecond.\n### Question\nWhere is")


def test_chains_of_thought_are_sampled_behind_the_passages() -> None:
    class Knowing:
        """Answers what the last passage says."""

        def sample(self, prompts: list[Prompt], sampling: Any) -> Any:
            for index, prompt in enumerate(prompts):
                own = prompt.text.rpartition("## Example 6")[2]
                yield index, [Generation(" So.\nAnswer: C.\n" if "Passage 1." in own else " So.\nAnswer: A.\n")]

        def loglikelihoods(self, pairs: Any, batch_tokens: int) -> Any:
            raise AssertionError

    questions = [a_question(2), a_question(3)]
    look_up = {
        "q2": RetrievedPassages(["Passage 1."], True, True),
        "q3": RetrievedPassages(["Passage 9."], False, False),
    }
    task = OpenBookCoT(samples=1)
    answers = list(task.answers(questions, Knowing(), lambda question: look_up[question.id]))
    assert [answer.choice for answer in answers] == [2, 0]
    scores = task.score(answers)
    assert scores["retrieval"]["evidence"]["accuracy_shown"]["accuracy"] == 1.0
    assert scores["retrieval"]["article"]["recall"] == 0.5


def test_a_grid_of_k_order_and_dial_ranks_once(configured: Callable[..., Run]) -> None:
    def ranked(*overrides: str) -> Run:
        options = ["corpus.documents=1", "evaluation=[open_book]", "logger=none", *overrides]
        run = configured(*options)
        for each in (Stage.corpus, Stage.retrieval):
            execution.one_stage(run, each, SilentProgress())
        return run

    first = ranked()
    sealed = artifact.read_manifest(first.retrieval["open_book"].folder)
    for override in ("k=1", "order=best_first", "drop_gold=0.5", "distractors=4"):
        other = ranked(f"evaluation.open_book.{override}")
        assert other.retrieval["open_book"].folder == first.retrieval["open_book"].folder
        assert other.evaluation.folder != first.evaluation.folder
    assert artifact.read_manifest(first.retrieval["open_book"].folder) == sealed, "made once"
    for override in ("retriever.characters=256", "retriever.k1=1.2", "evaluation.open_book.limit=5"):
        assert configured("corpus.documents=1", "evaluation=[open_book]", override).retrieval["open_book"].folder != (
            first.retrieval["open_book"].folder
        )
    both = configured("corpus.documents=1", "evaluation=[open_book,open_book_recalls]")
    assert len({found.folder for found in both.retrieval.values()}) == 1 and len(both.retrieval) == 6
    assert sum(step.stage is Stage.retrieval for step in steps_of(both)) == 1


def test_rankings_that_do_not_know_a_question_are_refused(tmp_path: Path) -> None:
    library = RankedPassages(a_retrieval(tmp_path, [a_ranking(0)]), OpenBook())
    with pytest.raises(DataError, match="has no ranking for q1"):
        library(a_question(1))


@pytest.mark.parametrize("options", [{"k": 0}, {"drop_gold": 1.5}, {"distractors": -1}, {"context": "no slot"}])
def test_options_of_no_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="evaluation"):
        OpenBook(**options)
    if "context" not in options:
        with pytest.raises(ConfigError, match="evaluation"):
            OpenBookCoT(**options)


def test_only_questions_of_known_and_short_evidence_are_asked_where_that_is_wanted(tmp_path: Path) -> None:
    parts = [[], ["one"], ["one", "two"]]
    source = a_source(tmp_path, [a_question(number, evidence=part) for number, part in enumerate(parts)])
    assert [question.id for question in OpenBook(evidence_parts=1).load_questions(source)] == ["q1"]
    assert len(OpenBook(evidence_parts=2).load_questions(source)) == 2 and len(OpenBook().load_questions(source)) == 3
