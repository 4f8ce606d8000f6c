"""Refused, truncated and leaked answers: what is retried, what fails, and what is reported."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Synthesis
from entigraph.errors import LLMError
from entigraph.llm.base import Completion, Request
from entigraph.llm.caching import CachedAnswers
from entigraph.llm.replies import WITH_END_MARKERS
from entigraph.storage.data_losses import collect_data_losses
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import generation_stats, stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.exchanges import RETRY_SAMPLES
from entigraph.synthesis.request_estimate import estimate
from entigraph.text.refusals import REFUSAL_AS_TEXT

DOCUMENTS = [Document(id=f"d{number}", title=f"Title {number}", text=f"Text {number}.") for number in range(4)]
ENTITIES = '{"summary": "s", "entities": ["Orsk", "Vale", "orsk", "Mill"]}'
REFUSAL = "I'm sorry, but I can't help with that request."
Answer = Callable[[Request], Completion]


class Writer:
    """Answers entity lists and texts by two functions; None: a usable answer."""

    name = "writer"

    def __init__(self, entities: Answer | None = None, text: Answer | None = None) -> None:
        self.entities, self.text = entities or (lambda request: completion(ENTITIES)), text or usable
        self.requests: list[Request] = []

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self.requests.append(request)
            yield self.entities(request) if request.json_schema else self.text(request)


def completion(text: str, reason: str = "stop") -> Completion:
    return Completion(text=text, model="m", finish_reason=reason)


def usable(request: Request) -> Completion:
    return completion(f"A text about {request.hash}.")


def first_attempt_fails(answer: Completion, attempts: int = 1) -> Answer:
    """Entity lists of the document d1 fail so many times."""

    def entities(request: Request) -> Completion:
        return (
            answer if "Text 1." in request.user and request.sample < attempts * RETRY_SAMPLES else completion(ENTITIES)
        )

    return entities


def synthesize(folder: Path, llm: Any, **rules: Any) -> tuple[list[SyntheticText], dict[str, Any]]:
    (folder / "corpus").mkdir(exist_ok=True)
    write_jsonl(folder / "corpus" / "documents.jsonl", DOCUMENTS)
    out = folder / "out"
    out.mkdir()
    counts = stage.run(
        folder / "corpus",
        out,
        augmenter=EntiGraph(),
        llm=llm,
        count_tokens=len,
        rules=Synthesis(**{"token_budget": None, "near_duplicates": "ignore", **rules}),
    )
    return list(read_texts(out)), counts


@pytest.mark.parametrize(
    "answer",
    [completion("", "refusal"), completion(ENTITIES[:30], "length"), completion(REFUSAL), completion("{}")],
    ids=["refusal", "truncated", "refusal as text", "no list"],
)
def test_entity_lists_are_retried_by_default(answer: Completion, tmp_path: Path) -> None:
    texts, counts = synthesize(tmp_path, Writer(first_attempt_fails(answer)))
    assert {text.document_id for text in texts} == {"d0", "d1", "d2", "d3"}
    assert counts["failures"] == {} and counts["entity_lists_retried"] == 1
    assert any(
        "entity lists that needed a retry: 1 " in line for line in generation_stats.summary_lines(counts, 4, None)
    )


def test_lost_document_is_a_data_loss(tmp_path: Path) -> None:
    llm = Writer(first_attempt_fails(completion("", "refusal"), attempts=9))
    texts, counts = synthesize(tmp_path, llm, max_failure_rate=1.0)
    assert len([request for request in llm.requests if request.json_schema and "Text 1." in request.user]) == 3
    assert {text.document_id for text in texts} == {"d0", "d2", "d3"} and counts["failures"] == {
        "finish_reason refusal": 1
    }
    losses = collect_data_losses(generation_stats.data_losses(counts, 4))
    assert losses["documents have no synthetic text"] == {"count": 1, "total": 4}
    assert any("1 of 4 documents have no text" in line for line in generation_stats.summary_lines(counts, 4, None))


def test_unreached_token_budget_is_a_data_loss(tmp_path: Path) -> None:
    texts, counts = synthesize(tmp_path, Writer(), token_budget=1_000_000)
    missing = 1_000_000 - sum(text.tokens for text in texts)
    losses = collect_data_losses(generation_stats.data_losses(counts, 4))
    (loss,) = (
        loss for description, loss in losses.items() if description.startswith("tokens of synthesis.token_budget")
    )
    assert loss == {"count": missing, "total": 1_000_000} and counts["tokens_missing"] == missing


def test_retries_of_entity_lists_can_be_disabled(tmp_path: Path) -> None:
    llm = Writer(first_attempt_fails(completion("", "refusal")))
    _, counts = synthesize(tmp_path, llm, max_entity_retries=0)
    assert counts["failures"] == {"finish_reason refusal": 1}


def test_unanswered_entity_request_is_left_to_the_next_command(tmp_path: Path) -> None:
    llm = Writer(first_attempt_fails(completion("", "gave up: no connection")))
    with pytest.raises(LLMError, match="1 requests got no answer"):
        synthesize(tmp_path, llm)
    assert len(llm.requests) == 4, "a new sample would give a different answer from that of an uninterrupted command"


def test_refusals_written_as_text_are_failures(tmp_path: Path) -> None:
    def refuse(request: Request) -> Completion:
        return completion(REFUSAL) if "Text 2." in request.user else usable(request)

    texts, counts = synthesize(tmp_path, Writer(text=refuse))
    assert {text.document_id for text in texts} == {"d0", "d1", "d3"} and counts["failures"] == {REFUSAL_AS_TEXT: 4}
    losses = collect_data_losses(generation_stats.data_losses(counts, 4))
    assert losses["texts were not written"] == {"count": 4, "total": len(texts) + 4}
    failures = list(read_jsonl(tmp_path / "out" / "failures.jsonl", Failure))
    assert {failure.response for failure in failures} == {REFUSAL}


def test_detection_of_refusals_can_be_disabled(tmp_path: Path) -> None:
    texts, counts = synthesize(tmp_path, Writer(text=lambda request: completion(REFUSAL)), detect_refusals=False)
    assert {text.text for text in texts} == {REFUSAL} and counts["failures"] == {}


def test_end_markers_are_removed_and_counted(tmp_path: Path) -> None:
    def leak(request: Request) -> Completion:
        return completion(f"{usable(request).text}<|im_end|>\n<|endoftext|>")

    texts, counts = synthesize(tmp_path, Writer(text=leak))
    assert all(text.text.endswith(".") for text in texts)
    assert counts["answer_notes"] == {WITH_END_MARKERS: len(texts)}


def test_merged_names_are_listed(tmp_path: Path) -> None:
    _, counts = synthesize(tmp_path, Writer())
    graphs = list(read_jsonl(tmp_path / "out" / "graphs.jsonl", EntityGraph))
    assert [graph.merged for graph in graphs] == [{"Orsk": ["orsk"]}] * 4 and counts["entities_merged"] == 4


class Known:
    """A response cache that holds the answers of a writer."""

    def __init__(self, llm: Writer) -> None:
        self.llm, self.empty = llm, CachedAnswers(None, lambda request: {})

    def answer(self, request: Request) -> Completion | None:
        return next(iter(self.llm.complete([request]))) if request.json_schema else None

    def siblings(self, request: Request) -> Any:
        return self.empty.siblings(request)

    def examples(self, request: Request, most: int) -> Any:
        return ()


def test_estimate_uses_the_entity_list_of_a_retry() -> None:
    known = Known(Writer(first_attempt_fails(completion(REFUSAL))))
    result = estimate(EntiGraph(triples_per_document=0), DOCUMENTS, None, 100, 50, known)
    assert [document.entities for document in result.documents] == [3, 3, 3, 3] and result.unknown_graphs == 0
    assert result.total("free") == 5 and result.total("tasks") == 12
    small = estimate(EntiGraph(triples_per_document=0), DOCUMENTS, 200, 100, 50, known)
    assert sum(not document.tasks for document in small.documents) == 2
