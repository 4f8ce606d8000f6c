"""Options of a synthesis: layouts, several relations per request, retries, near-duplicates, parts."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import NearDuplicates, Synthesis
from entigraph.errors import DataError
from entigraph.llm.base import LLM, Completion, Request
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import EntityGraph, Failure, NearDuplicate, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.base import Augmenter, PromptLayout
from tests.synthesis.test_document_parts import a_book


class RecordingWriter:
    """The offline writer, which records its requests. `alter` may replace an answer."""

    name = "recording"

    def __init__(self, alter: Any = lambda request, answer: answer) -> None:
        self.alter, self.requests = alter, list[Request]()

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self.requests.append(request)
            (answer,) = OfflineWriter().complete([request])
            yield self.alter(request, answer)


def synthesize(
    corpus: Path, out: Path, augmenter: Augmenter, llm: LLM, **rules: Any
) -> tuple[list[SyntheticText], dict[str, Any]]:
    out.mkdir()
    counts = stage.run(
        corpus,
        out,
        augmenter=augmenter,
        llm=llm,
        count_tokens=lambda text: len(text.split()),
        rules=Synthesis(**{"token_budget": None, **rules}),
    )
    return list(read_texts(out)), counts


def test_shared_prefix_layout_starts_all_requests_with_the_document(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    augmenter = EntiGraph(layout=PromptLayout.shared_prefix, triples_per_document=10)
    texts, _ = synthesize(corpus, tmp_path / "out", augmenter, writer)
    assert len({request.system for request in writer.requests}) == 1
    beginnings = {request.shared_prefix.split("\n\n### Task\n")[0] for request in writer.requests}
    assert len(beginnings) == 2 and len(texts) == 2 * (190 + 10)
    assert len({request.shared_prefix for request in writer.requests}) == 6, (
        "one shared prefix per document and kind of request"
    )
    assert {len(text.about) for text in texts} == {2, 3}


def test_several_relations_per_request_give_separate_texts(corpus: Path, tmp_path: Path) -> None:
    one, four = RecordingWriter(), RecordingWriter()
    alone, _ = synthesize(corpus, tmp_path / "one", EntiGraph(triples_per_document=0), one)
    together, counts = synthesize(
        corpus, tmp_path / "four", EntiGraph(triples_per_document=0, relations_per_request=4), four
    )
    assert alone and counts["requests"] == 2 + 2 * 48
    assert {(t.document_id, frozenset(t.about)) for t in alone} == {
        (t.document_id, frozenset(t.about)) for t in together
    }
    assert len(four.requests) < len(one.requests) / 3.5
    assert not any("===" in text.text for text in together) and len({text.id for text in together}) == 380


def test_texts_missing_from_an_answer_are_counted_or_retried(corpus: Path, tmp_path: Path) -> None:
    def cut(request: Request, answer: Completion) -> Completion:
        if request.json_schema or request.sample:
            return answer
        return Completion(text=answer.text[: answer.text.find("=== 3") + 40], model="m", finish_reason="length")

    augmenter = EntiGraph(triples_per_document=0, relations_per_request=4)
    texts, counts = synthesize(corpus, tmp_path / "lost", augmenter, RecordingWriter(cut), max_failure_rate=0.6)
    assert counts["failures"] == {"missing from an answer about several": 380 - len(texts)}
    assert len(texts) == 2 * 47 * 2, "two complete texts per request of four; a document's last request yields none"
    rerun, counts = synthesize(corpus, tmp_path / "again", augmenter, RecordingWriter(cut), max_retries=1)
    assert len(rerun) == 380 and counts["failures"] == {}


def test_failures_are_retried_up_to_max_retries(corpus: Path, tmp_path: Path) -> None:
    def refuse(request: Request, answer: Completion) -> Completion:
        if request.sample == 0 and int(request.hash[:8], 16) % 3 == 0:
            return Completion(text="No.", model="m", finish_reason="refusal")
        return answer

    augmenter = EntiGraph(triples_per_document=0)
    _, counts = synthesize(corpus, tmp_path / "once", augmenter, RecordingWriter(refuse), max_failure_rate=1.0)
    refused = counts["failures"]["finish_reason refusal"]
    assert refused > 20 and len(list(read_jsonl(tmp_path / "once" / "failures.jsonl", Failure))) == refused
    texts, counts = synthesize(corpus, tmp_path / "twice", augmenter, RecordingWriter(refuse), max_retries=1)
    assert len(texts) == 380 and counts["failures"] == {}


def test_too_many_failures_stop_the_stage(corpus: Path, tmp_path: Path) -> None:
    def refuse(request: Request, answer: Completion) -> Completion:
        return answer if request.json_schema else Completion(text="No.", model="m", finish_reason="refusal")

    writer = RecordingWriter(refuse)
    with pytest.raises(DataError, match=r"98 of 100 .* failed \(98 finish_reason refusal\), .*max_failure_rate = 20%"):
        synthesize(corpus, tmp_path / "out", EntiGraph(), writer)
    assert len(writer.requests) < 110, "no more requests are sent"


def test_few_requests_beyond_the_budget(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, _ = synthesize(corpus, tmp_path / "out", EntiGraph(), writer, token_budget=8_000)
    assert len(texts) > 100 and len(writer.requests) <= 1.05 * len(texts) + 4


def test_near_duplicates_are_reported_or_removed(corpus: Path, tmp_path: Path) -> None:
    def same(request: Request, answer: Completion) -> Completion:
        if request.json_schema or int(request.hash, 16) % 4:
            return answer
        repeated_text = " ".join(f"word{number}" for number in range(200))
        return Completion(text=f"{repeated_text} {request.hash[:4]}", model="m")

    augmenter = EntiGraph(triples_per_document=0)
    texts, counts = synthesize(corpus, tmp_path / "reported", augmenter, RecordingWriter(same))
    duplicates = {item.id for item in read_jsonl(tmp_path / "reported" / "near_duplicates.jsonl", NearDuplicate)}
    repeated = [text for text in texts if text.text.startswith("word0")]
    assert len(texts) == 380 and counts["near_duplicates"] == len(duplicates)
    firsts = {text.document_id: text.id for text in reversed(repeated)}
    assert duplicates >= {text.id for text in repeated} - {*firsts.values()}
    assert len(duplicates) < len(repeated) + 40
    kept, counts = synthesize(
        corpus, tmp_path / "removed", augmenter, RecordingWriter(same), near_duplicates=NearDuplicates.remove
    )
    assert len(kept) == 380 - len(duplicates) == counts["texts"] and not {text.id for text in kept} & duplicates
    assert counts["tokens"] == sum(text.tokens for text in kept) and not (tmp_path / "removed/before_removal").exists()


def test_near_duplicates_that_are_not_searched_for_are_not_zero(corpus: Path, tmp_path: Path) -> None:
    ignored = {"near_duplicates": NearDuplicates.ignore}
    _, counts = synthesize(corpus, tmp_path / "out", Rephrase(rounds=1), RecordingWriter(), **ignored)
    assert "near_duplicates" not in counts


def test_long_document_is_split_into_parts(tmp_path: Path) -> None:
    folder = tmp_path / "book"
    folder.mkdir()
    book = a_book(12)
    (folder / "documents.jsonl").write_text(json.dumps({"id": "book", "title": book.title, "text": book.text}) + "\n")
    writer = RecordingWriter()
    augmenter = EntiGraph(max_document_tokens=1_000, max_entities=4, triples_per_document=0)
    texts, counts = synthesize(folder, tmp_path / "out", augmenter, writer)
    graphs = list(read_jsonl(tmp_path / "out" / "graphs.jsonl", EntityGraph))
    assert len(graphs) > 2 and {len(graph.entities) for graph in graphs} == {4}
    assert counts["entities_left_out"] == sum(graph.left_out for graph in graphs) > 0
    assert {text.document_id for text in texts} == {"book"} and len({text.id for text in texts}) == 6 * len(graphs)
    assert all(len(request.user) < 7_500 for request in writer.requests)
    assert all("The whole: " in request.user for request in writer.requests if not request.json_schema)


def test_qa_style(corpus: Path, tmp_path: Path) -> None:
    texts, counts = synthesize(
        corpus, tmp_path / "out", Rephrase(name="qa", styles=["qa"], rounds=2), RecordingWriter()
    )
    assert Counter(text.kind for text in texts) == {"rephrase_qa": 4}
    assert all(text.text.startswith("Question: ") and text.text.count("\nAnswer: ") >= 20 for text in texts)


def test_spellings_of_a_name_count_once() -> None:
    from entigraph.synthesis.augmenters.entity_lists import group_spellings

    names = ["- The Lamp", "the lamp", "Orsk.", " Orsk ", "U.S. Navy", "", " - "]
    assert list(group_spellings(names)) == ["The Lamp", "Orsk", "U.S. Navy"]


def test_writer_that_refuses_everything_stops_the_stage(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter(lambda request, answer: Completion(text="No.", model="m", finish_reason="refusal"))
    with pytest.raises(DataError, match="the last 3 waves of requests gave no text"):
        synthesize(corpus, tmp_path / "out", Rephrase(), writer, token_budget=9_000, max_failure_rate=1.0)
    assert len(writer.requests) < 1_000
