"""`/why`: source sentences and training texts that mention the names in an answer."""

from pathlib import Path

import pytest

from entigraph.chat.lineage import Lineage
from entigraph.chat.model_selection import select_model
from entigraph.errors import ConfigError
from tests.chat.finished_runs import RUN, write_run


@pytest.fixture
def lineage(outputs: Path) -> Lineage:
    return Lineage(select_model(RUN, outputs))


def test_texts_that_mention_answer_and_question_come_first(lineage: Lineage) -> None:
    evidence = lineage.find_evidence("Who lost the Meridian?", "It was captain Holloway.")
    assert (evidence.answer_names, evidence.question_names) == (["Captain Holloway"], ["Meridian"])
    assert [sentence.text for sentence in evidence.sentences] == ["Captain Holloway lost the Meridian."]
    assert [text.id for text in evidence.texts] == ["lamp/1", "lamp/0", "lamp/2"]
    assert (evidence.text_count, evidence.joint_texts, evidence.searched_texts) == (3, 1, 4)


def test_answer_without_a_name_is_explained_by_the_question(lineage: Lineage) -> None:
    evidence = lineage.find_evidence("Where did Tobias live?", "I do not know.")
    assert evidence.answer_names == [] and evidence.question_names == ["Tobias"]
    assert [text.id for text in evidence.texts] == ["loom/3"] and evidence.sentence_count == 2


def test_answer_and_question_without_names_have_no_evidence(lineage: Lineage) -> None:
    assert lineage.find_evidence("Why?", "Because.").texts == ()


def test_only_texts_within_the_token_budget_are_searched(tiny_model: Path, tmp_path: Path) -> None:
    write_run(tmp_path, tiny_model, texts=2)
    evidence = Lineage(select_model(RUN, tmp_path)).find_evidence("Who?", "Captain Holloway and Tobias.")
    assert evidence.searched_texts == 2


def test_names_without_graphs_are_capitalized_words_of_the_documents(tiny_model: Path, tmp_path: Path) -> None:
    write_run(tmp_path, tiny_model)
    next(tmp_path.glob("synthesis/*/graphs.jsonl")).unlink()
    evidence = Lineage(select_model(RUN, tmp_path)).find_evidence("Who?", "Perhaps Captain Holloway of Rome.")
    assert evidence.answer_names == ["Captain Holloway"] and evidence.text_count == 3


def test_model_without_a_run_has_no_lineage(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="are unavailable: it was not trained by a run in an outputs folder"):
        Lineage(select_model(str(tiny_model), tmp_path))
