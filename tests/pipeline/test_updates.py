"""Documents that change or go: what is sent again, what is trained on, and the report of what the update did."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import DictConfig

from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.errors import ConfigError, DataError
from entigraph.fictional.reading import comprehend
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.storage.artifact import read_manifest
from entigraph.storage.document_changes import changed_documents
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document
from entigraph.storage.texts import read_texts
from entigraph.synthesis.augmenters.cross_document import WALK, CrossDocument
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.tokenization.text_selection import DocumentSelection, texts_about
from tests.conftest import TINY, Command
from tests.mock_llm_server import Handle, spawned
from tests.synthesis import test_augmenters_contract as contract
from tests.synthesis.test_augmenters_cross_document import TEXTS
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize


@pytest.fixture(scope="module")
def server() -> Iterator[Handle]:
    with spawned(latency_s=0.0, output_tokens=50) as handle:
        yield handle


def write_corpus(folder: Path, documents: list[Document]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "documents.jsonl", documents)
    return folder


def test_only_requests_about_the_changed_document_are_sent(server: Handle, tmp_path: Path) -> None:
    """All pairs of each document; afterwards the first document changes, and then the last one is removed."""
    augmenter, documents = EntiGraph(triples_per_document=0), contract.DOCUMENTS
    corpus = write_corpus(tmp_path / "corpus", documents)
    budget = 1_000_000  # more than there is to say

    def synthesized(name: str) -> tuple[int, set[str]]:
        before = server.stats()["requests"]
        texts, _ = contract.synthesize(server, augmenter, corpus, tmp_path / name, budget)
        return server.stats()["requests"] - before, {text.id for text in texts if text.document_id == "d0"}

    everything, first = synthesized("first")
    changed = Document(id="d0", title=documents[0].title, text=f"{documents[0].text} Miriam Vale left in spring.")
    write_corpus(corpus, [changed, *documents[1:]])
    sent, updated = synthesized("changed")
    assert sent == 1 + len(updated) < everything, "its entity list and its texts"
    write_corpus(corpus, [changed, *documents[1:-1]])
    assert synthesized("removed")[0] == 0
    write_corpus(corpus, documents)
    assert synthesized("back") == (0, first) and server.stats()["duplicates"] == 0


def test_changed_fictional_documents_differ_in_two_facts() -> None:
    before, after = FictionalCorpus(documents=3).read(), FictionalCorpus(documents=3, changed=2).read()
    for number, (old, new) in enumerate(zip(before.documents, after.documents, strict=True)):
        readings = [comprehend(document.text) for document in (old, new)]
        facts = [set(reading.facts) for reading in readings if reading]
        assert len(facts[1] - facts[0]) == len(facts[0] - facts[1]) == (2 if number < 2 else 0)
        assert len(facts[0]) == len(facts[1]) == 35
    old_answers = {(q.document_id, q.text): q.accepted_answers for q in before.questions}
    differing = [q for q in after.questions if old_answers[q.document_id, q.text] != q.accepted_answers]
    assert {question.document_id for question in differing} == {"chronicle-000", "chronicle-001"}
    assert 2 * 4 <= len(differing) < 60
    with pytest.raises(ConfigError, match=r"corpus.changed must be between 0 and corpus.documents=3, got 4"):
        FictionalCorpus(documents=3, changed=4)


def test_changed_new_and_removed_documents(tmp_path: Path) -> None:
    one, two, three = (Document(id=name, title=name, text=name) for name in ("one", "two", "three"))
    earlier = write_corpus(tmp_path / "earlier", [one, two])
    other = Document(id="two", title="two", text="two, revised")
    assert changed_documents(write_corpus(tmp_path / "a", [one, other, three]), earlier) == (["two", "three"], [])
    assert changed_documents(write_corpus(tmp_path / "b", [one]), earlier) == ([], ["two"])
    retitled = Document(id="two", title="Number two", text="two")
    assert changed_documents(write_corpus(tmp_path / "c", [one, retitled]), earlier) == (["two"], [])


def test_changed_since_needs_a_corpus_folder(configured: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"tokens.changed_since must .* no documents.jsonl in {tmp_path}"):
        configured(f"tokens.changed_since={tmp_path}")


def test_excluded_documents_must_be_in_a_finished_corpus(configured: Callable[..., Run]) -> None:
    run = configured("tokens.exclude_documents=[one]")
    write_corpus(run.artifacts.corpus.folder, [Document(id="two", title="two", text="two")])
    (run.artifacts.corpus.folder / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match="tokens.exclude_documents must be documents of .*, got one"):
        configured("tokens.exclude_documents=[one]")
    configured("tokens.exclude_documents=[two]")


def test_document_that_other_texts_show_cannot_be_left_out(tmp_path: Path) -> None:
    documents = [Document(id=name, title=name.title(), text=text) for name, text in TEXTS.items()]
    corpus = write_corpus(tmp_path / "corpus", documents)
    texts, _ = synthesize(corpus, tmp_path / "out", CrossDocument(kinds=[WALK]), RecordingWriter(), token_budget=400)
    assert list(read_texts(tmp_path / "out")) == texts and all(text.context for text in texts)
    others = {text.document_id for text in texts if "lamp" in text.context}
    assert others
    with pytest.raises(DataError, match=r"tokens.exclude_documents=lamp: \d+ texts about others") as error:
        texts_about(tmp_path / "out", DocumentSelection({"ship", "school"}, {"lamp"}))
    assert all(name in str(error.value) for name in others)
    kept = texts_about(tmp_path / "out", DocumentSelection({"ship", "school"}))
    assert [texts[number] for number in kept] == [text for text in texts if text.document_id != "lamp"]
    with pytest.raises(DataError, match="has no text about alone"):
        texts_about(tmp_path / "out", DocumentSelection({"alone"}))


def test_update_trains_on_changed_documents_and_reports_what_changed(
    command: Command, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    common = [*TINY, "corpus.documents=3", "evaluation.closed_book.limit=null"]
    assert (first := command("run", *common)).returncode == 0, first.stderr[-3000:]
    earlier = load_run(composed(*common)).artifacts
    update = [*common, "corpus.changed=1", f"tokens.changed_since={earlier.corpus.folder}", "model=pretrained"]
    update = [override for override in update if not override.startswith("model.")]
    update += [f"model.path={earlier.training.folder}/model", "analysis=update"]
    assert (second := command("run", *update)).returncode == 0, second.stderr[-3000:]
    artifacts = load_run(composed(*update)).artifacts
    texts = list(read_texts(artifacts.synthesis.folder))
    counts = read_manifest(artifacts.tokens.folder)["counts"]
    assert counts["documents"] == ["chronicle-000"]
    assert (
        counts["texts"]
        == sum(text.document_id == "chronicle-000" for text in texts)
        == len(texts) - (counts["texts_about_other_documents"])
    )
    analyzed = command("analyze", *update)
    assert analyzed.returncode == 0, analyzed.stderr[-3000:]
    (file,) = (tmp_path / "outputs/analysis").glob("update-*/update.json")
    report = json.loads(file.read_text())
    questions = {name: part["questions"] for name, part in report["parts"].items()}
    assert questions["questions about other documents"] == 2 * 105 and sum(questions.values()) == 3 * 105
    assert questions["questions whose answer changed"] == len(report["questions"]) >= 4
    assert all(item["old_answer"] != item["new_answer"] for item in report["questions"])
    assert report["removed_questions"] == 0 and (file.parent / "update.html").exists()
    assert "the old answer, where it is an option" in analyzed.stdout
    gone = command("run", *update, "corpus.documents=2")
    message = " ".join(gone.stderr.split())
    assert gone.returncode == 1 and "chronicle-002" in message and "does not forget" in message
    shorter = load_run(composed(*update, "corpus.documents=2")).artifacts
    assert shorter.corpus.complete and not shorter.synthesis.complete, "found before a text is paid for"
