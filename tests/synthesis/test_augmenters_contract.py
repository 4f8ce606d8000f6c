"""What every augmenter that asks a writer promises: even coverage, budgets, resumption, provenance, plans."""

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import NearDuplicates, Synthesis
from entigraph.errors import ConfigError
from entigraph.llm.caching import CachedAnswers
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import ResponseCache
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import stage
from entigraph.synthesis.augmenters.spa import SPA
from entigraph.synthesis.base import BUILT_IN_PROMPTS, Augmenter
from entigraph.synthesis.document_parts import source_id
from entigraph.synthesis.request_estimate import estimate
from tests.mock_llm_server import Handle, spawned

BUDGET = 40_000
PROSE = (
    "Captain Holloway brought oil to the Lamp of Orsk on day {day}. Miriam Vale wrote one line in the Green Ledger. "
    "Tobias Reed came from the Mainland to Orsk Harbor and asked Miriam Vale about storm {day}.\n\n"
)
DOCUMENTS = [
    Document(id=f"d{number}", title=f"The Lamp of Orsk {number}", text="".join(PROSE.format(day=day) for day in days))
    for number, days in enumerate((range(20), range(20, 40), range(40, 60)))
]
AUGMENTERS: dict[str, Callable[..., Augmenter]] = {"spa": SPA}
every_augmenter = pytest.mark.parametrize("name", AUGMENTERS)


@pytest.fixture(scope="module")
def server() -> Iterator[Handle]:
    with spawned(latency_s=0.01, output_tokens=100) as handle:
        yield handle


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    write_jsonl(folder / "documents.jsonl", DOCUMENTS)
    return folder


def synthesize(
    server: Handle, augmenter: Augmenter, corpus: Path, out: Path, budget: int = BUDGET
) -> tuple[list[SyntheticText], dict[str, Any]]:
    """Returns the texts and counts of a synthesis with the mock server and a response cache beside the corpus."""
    out.mkdir()
    writer = OpenAIWriter(model="mock-llm", base_url=server.base_url, concurrency=16, max_cost_usd=None)
    with writer.connect(corpus.parent / "cache.sqlite") as llm:
        counts = stage.run(
            corpus,
            out,
            augmenter=augmenter,
            llm=llm,
            count_tokens=lambda text: len(text) // 4,
            rules=Synthesis(token_budget=budget, max_failure_rate=1.0, near_duplicates=NearDuplicates.ignore),
            progress=SilentProgress(),
        )
    return list(read_texts(out)), counts


@every_augmenter
def test_budget_evenness_and_provenance(name: str, server: Handle, corpus: Path, tmp_path: Path) -> None:
    texts, counts = synthesize(server, AUGMENTERS[name](), corpus, tmp_path / "out")
    assert BUDGET <= counts["tokens"] <= 1.01 * BUDGET
    tokens = Counter[str]()
    for text in texts:
        tokens[text.document_id] += text.tokens
    one_round = sum({text.kind: text.tokens for text in texts}.values())
    assert len(tokens) == len(DOCUMENTS) and max(tokens.values()) - min(tokens.values()) < max(one_round, 300)
    kinds = Counter(text.kind for text in texts)
    assert max(kinds.values()) - min(kinds.values()) <= 0.1 * len(texts)
    assert len({text.id for text in texts}) == len(texts)
    assert {text.augmenter for text in texts} == {name}
    assert all(text.prompt_hash and text.writer == "mock-llm" for text in texts)


@every_augmenter
def test_killed_synthesis_continues_without_paying_twice(
    name: str, server: Handle, corpus: Path, tmp_path: Path
) -> None:
    augmenter = AUGMENTERS[name](temperature=0.9)  # no other test sends the same requests
    server.reset()
    process = multiprocessing.get_context("fork").Process(
        target=synthesize, args=(server, augmenter, corpus, tmp_path / "killed")
    )
    process.start()
    deadline = time.monotonic() + 60
    while server.stats()["ok"] < 60:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    resumed, _ = synthesize(server, augmenter, corpus, tmp_path / "resumed")
    assert server.stats()["duplicates"] <= 16, "at most the answers that were on their way at the kill"
    sent = server.stats()["requests"]
    repeated, _ = synthesize(server, augmenter, corpus, tmp_path / "repeated")
    assert repeated == resumed and server.stats()["requests"] == sent


@every_augmenter
def test_plan_counts_requests_and_known_answers(name: str, server: Handle, corpus: Path, tmp_path: Path) -> None:
    augmenter = AUGMENTERS[name]()
    server.reset()
    _, counts = synthesize(server, augmenter, corpus, tmp_path / "out")
    requests = server.stats()["requests"]
    body = OpenAIWriter(model="mock-llm", base_url=server.base_url).body
    planned = estimate(augmenter, DOCUMENTS, BUDGET, 100, 20, CachedAnswers(None, body))
    assert planned.total("requests") == pytest.approx(requests, rel=0.3)
    assert planned.total("prompt_tokens") == pytest.approx(counts["prompt_tokens"], rel=0.3)
    with closing(ResponseCache(tmp_path / "cache.sqlite")) as cache:
        known = estimate(augmenter, DOCUMENTS, BUDGET, 100, 20, CachedAnswers(cache, body), lambda text: len(text) // 4)
    assert known.total("requests") <= 0.15 * requests, "nearly everything is in the response cache"


@every_augmenter
def test_long_documents_are_split(name: str, server: Handle, corpus: Path, tmp_path: Path) -> None:
    long = Document(id="long", title="The Year of Orsk", text="".join(PROSE.format(day=day) for day in range(100)))
    write_jsonl(corpus / "documents.jsonl", [*DOCUMENTS, long])
    augmenter = AUGMENTERS[name](max_document_tokens=2000)
    parts = augmenter.split(long)
    assert len(parts) > 2 and {source_id(part) for part in parts} == {"long"}
    texts, _ = synthesize(server, augmenter, corpus, tmp_path / "out", budget=12_000)
    assert {text.document_id for text in texts} == {*(document.id for document in DOCUMENTS), "long"}
    assert len({text.id.partition("/")[0] for text in texts if text.document_id == "long"}) == len(parts)


@every_augmenter
def test_missing_prompt_file_is_one_error(name: str, tmp_path: Path) -> None:
    first, *others = AUGMENTERS[name]().prompt_names  # type: ignore[attr-defined]
    for prompt in others:
        (tmp_path / f"{prompt}.txt").write_text((BUILT_IN_PROMPTS / f"{prompt}.txt").read_text())
    with pytest.raises(ConfigError, match=rf"augmenter.prompts: .*: {first}.txt is missing; expected exactly"):
        AUGMENTERS[name](prompts=str(tmp_path))
