"""Texts across documents: links by shared entities, walks, contrasts, and corpora without links."""

from collections import Counter
from pathlib import Path

import pytest

from entigraph.errors import ConfigError, DataError
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.augmenters.cross_document import CONTRAST, WALK, CrossDocument
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize

TEXTS = {
    "lamp": "Miriam Vale kept the Orsk Lamp. Miriam Vale wrote in the Green Ledger. The Orsk Lamp went out.",
    "ship": "Captain Holloway lost the Meridian below the Orsk Lamp. Captain Holloway knew Miriam Vale.",
    "school": "Tobias Reed taught at the Orsk School. Captain Holloway paid for the Orsk School. Tobias Reed left.",
    "alone": "Nothing here belongs to the rest. Nothing at all belongs here.",
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    documents = [Document(id=name, title=name.title(), text=text) for name, text in TEXTS.items()]
    write_jsonl(folder / "documents.jsonl", documents)
    return folder


def test_texts_connect_documents_by_shared_names(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, counts = synthesize(corpus, tmp_path / "out", CrossDocument(), writer, token_budget=2_000)
    kinds = Counter((text.document_id, text.kind) for text in texts)
    assert max(kinds.values()) - min(kinds.values()) <= 1 and {kind for _, kind in kinds} == {WALK, CONTRAST}
    assert counts["documents_with_texts"] == 3, "the unlinked document is counted as one without texts"
    walks = [text for text in texts if text.kind == WALK]
    assert {tuple(text.about) for text in walks} >= {("Miriam Vale",), ("Captain Holloway",)}
    contrasts = [text for text in texts if text.kind == CONTRAST]
    assert all(len(text.about) == 2 and text.about[0] != text.about[1] for text in contrasts)
    shown = [request for request in writer.requests if request.suffix]
    assert all(request.user.count("### Another document") == 1 for request in shown)
    assert all(request.user.index("### Document") < request.user.index("### Another") for request in shown)


def test_walks_use_every_link_before_any_again(corpus: Path, tmp_path: Path) -> None:
    texts, _ = synthesize(corpus, tmp_path / "out", CrossDocument(kinds=[WALK]), RecordingWriter(), token_budget=1_000)
    used = Counter((text.document_id, tuple(text.about)) for text in texts)
    for document in {text.document_id for text in texts}:
        counts = [count for (start, _), count in used.items() if start == document]
        assert max(counts) - min(counts) <= len(TEXTS)


def test_longer_walks_visit_each_document_once() -> None:
    documents = [Document(id=str(number), title="T", text="t") for number in range(5)]
    graphs = {d.id: EntityGraph(document_id=d.id, summary="", entities=["The Lamp", d.id]) for d in documents}
    tasks = CrossDocument(kinds=[WALK], documents_per_text=4).tasks(documents, graphs, seed=0)
    for _ in range(20):
        task = next(tasks)
        assert len({task.document.id, *(other.id for other in task.context)}) == 4 and task.about == [["The Lamp"]]


def test_corpus_without_links_raises_one_error(corpus: Path, tmp_path: Path) -> None:
    write_jsonl(
        corpus / "documents.jsonl", [Document(id=name, title=name, text=TEXTS[name]) for name in ("lamp", "alone")]
    )
    with pytest.raises(DataError, match=r"no text of the kind cross_walk is possible, because no two documents have"):
        synthesize(corpus, tmp_path / "out", CrossDocument(), RecordingWriter(), token_budget=500)
    with pytest.raises(ConfigError, match=r"augmenter.documents_per_text must be at least 2, got 1"):
        CrossDocument(documents_per_text=1)
