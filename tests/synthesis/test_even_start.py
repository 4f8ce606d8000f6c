"""Small token budgets are spread evenly over the documents."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import Synthesis
from entigraph.llm.base import Completion, Request
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.base import Augmenter, WritingTask
from entigraph.synthesis.even_start import first_round, spread
from entigraph.synthesis.generation import TextGenerator

WORDS = 40  # per text
RUNS = {"entigraph": 8, "rephrase": 3}  # consecutive tasks about one document
DOCUMENTS = [Document(id=f"d{number}", title=f"Title {number}", text=f"Text {number}.") for number in range(6)]


class WordyWriter:
    """Writes texts of equal length, and lists six entities of each document."""

    name = "wordy"

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        for request in requests:
            self.requests.append(request)
            entities = '{"summary": "s", "entities": ["A", "B", "C", "D", "E", "F"]}'
            text = entities if request.json_schema else f"{request.hash} " + "word " * (WORDS - 1)
            yield Completion(text=text, model="m")


def synthesize(folder: Path, augmenter: Augmenter, budget: int, **rules: Any) -> tuple[list[SyntheticText], int]:
    """Returns the texts and the number of requests for texts."""
    corpus, out = folder / "corpus", folder / f"{augmenter.name}-{budget}"
    corpus.mkdir(exist_ok=True)
    write_jsonl(corpus / "documents.jsonl", DOCUMENTS)
    out.mkdir()
    llm = WordyWriter()
    stage.run(
        corpus,
        out,
        augmenter=augmenter,
        llm=llm,
        count_tokens=lambda text: len(text.split()),
        rules=Synthesis(token_budget=budget, **rules),
    )
    return list(read_texts(out)), sum(not request.json_schema for request in llm.requests)


@pytest.mark.parametrize("augmenter", [EntiGraph(), Rephrase()], ids=lambda augmenter: augmenter.name)
@pytest.mark.parametrize("texts", [3, 6, 8, 13, 20, 35])
def test_small_budget_is_spread_evenly(augmenter: Augmenter, texts: int, tmp_path: Path) -> None:
    written, requests = synthesize(tmp_path, augmenter, texts * WORDS)
    counts = Counter({document.id: 0 for document in DOCUMENTS}) + Counter(text.document_id for text in written)
    assert len(written) == texts and len({text.id for text in written}) == texts
    assert len(counts) == min(texts, len(DOCUMENTS))
    within_first_round = texts < len(DOCUMENTS) * RUNS[augmenter.name]
    tolerance = 1 if within_first_round else RUNS[augmenter.name]
    assert max(counts.values()) - min(counts.values()) <= tolerance
    assert requests <= max(len(DOCUMENTS), texts + 2), "the documents are probed, and little else is requested in vain"


def test_large_budget_keeps_the_order_of_the_augmenter(tmp_path: Path) -> None:
    written, requests = synthesize(tmp_path, EntiGraph(), 60 * WORDS)
    assert [text.document_id for text in written[:48]] == [f"d{number}" for number in range(6) for _ in range(8)]
    assert requests == 60, "tasks that were answered ahead are not requested again"


def test_runs_follow_the_first_texts(tmp_path: Path) -> None:
    written, _ = synthesize(tmp_path, EntiGraph(), 20 * WORDS)
    order = [text.document_id for text in written]
    assert order[:6] == [f"d{number}" for number in range(6)]
    assert order[6:18] == [f"d{number}" for number in range(6) for _ in range(2)], "runs share a prefix cache"
    assert order[18:] == ["d0", "d1"]


def tasks(*documents: str) -> Iterator[WritingTask]:
    for sample, name in enumerate(documents):
        yield WritingTask(document=Document(id=name, title=name, text=""), kind="k", sample=sample)


def ids(ordered: Sequence[WritingTask]) -> str:
    return "".join(task.document.id for task in ordered)


def test_first_round_ends_with_the_run_of_the_last_document() -> None:
    stream = tasks(*"aaabbbcccaaabbb")
    assert ids(first_round(stream, {"a", "b", "c"}, 3)) == "aaabbbccc"
    assert ids(list(stream)) == "aaabbb"
    assert ids(first_round(tasks(*"aab"), {"a", "b", "missing"}, 3)) == "aab"


def test_spread_keeps_every_task() -> None:
    ordered = spread(list(tasks(*"aaaabbbbcccc")), affordable=6)
    assert ids(ordered) == "abcabcabcabc" and sorted(task.sample for task in ordered) == list(range(12))
    assert ids(spread(list(tasks(*"aaaabbbbcccc")), affordable=10)) == "abcaabbccabc"


def test_tasks_without_a_graph_are_written() -> None:
    generator = TextGenerator(EntiGraph(), WordyWriter(), len, 1_000, Synthesis(), stats=None)  # type: ignore[arg-type]
    stream = tasks(*"ab")
    assert generator.start_evenly(stream, 1_000) is stream, "no document is known to have one"
