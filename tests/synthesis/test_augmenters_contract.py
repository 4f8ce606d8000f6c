"""What every augmenter that asks a writer promises: even coverage, budgets, resumption, provenance, plans."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.schema import NearDuplicates, Synthesis
from entigraph.errors import ConfigError
from entigraph.llm.caching import CachedAnswers
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import ResponseCache
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, SyntheticText
from entigraph.storage.texts import read_texts
from entigraph.synthesis import stage
from entigraph.synthesis.augmenters.active_reading import ActiveReading
from entigraph.synthesis.augmenters.cross_document import CrossDocument
from entigraph.synthesis.augmenters.focal import Focal
from entigraph.synthesis.augmenters.knowledge_instruct import KnowledgeInstruct
from entigraph.synthesis.augmenters.spa import SPA
from entigraph.synthesis.augmenters.summary_texts import Summaries
from entigraph.synthesis.base import BUILT_IN_PROMPTS, Augmenter
from entigraph.synthesis.document_parts import source_id
from entigraph.synthesis.request_estimate import SynthesisEstimate, estimate
from tests.commands import ForkedProcess
from tests.mock_llm_server import Handle, spawned
from tests.polling import wait_for

BUDGET, SHORT_BUDGET = 40_000, 4_000  # short: for texts of a few words, which the mock server writes as JSON
PROSE = (
    "Captain Holloway brought oil to the Lamp of Orsk on day {day}. Miriam Vale wrote one line in the Green Ledger. "
    "Tobias Reed came from the Mainland to Orsk Harbor and asked Miriam Vale about storm {day}.\n\n"
)
DOCUMENTS = [
    Document(id=f"d{number}", title=f"The Lamp of Orsk {number}", text="".join(PROSE.format(day=day) for day in days))
    for number, days in enumerate((range(20), range(20, 40), range(40, 60)))
]
SUMMARIES = partial(Summaries, kinds=["summary_detailed", "summary_extractive", "summary_qa"], checked=[])
AUGMENTERS: dict[str, Callable[..., Augmenter]] = {
    "spa": SPA,
    "active_reading": ActiveReading,
    "focal": partial(Focal, kinds=["focal_document", "focal_answers"]),
    "knowledge_instruct": KnowledgeInstruct,
    "cross_document": CrossDocument,
    "summaries": SUMMARIES,  # the mock server rejects every other text, and its lists of facts are short
}
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


def budget_of(augmenter: Augmenter) -> int:
    return SHORT_BUDGET if augmenter.name == "knowledge_instruct" else BUDGET


def synthesize(
    server: Handle, augmenter: Augmenter, corpus: Path, out: Path, budget: int | None = None
) -> tuple[list[SyntheticText], dict[str, Any]]:
    """Returns the texts and counts of a synthesis with the mock server and a response cache next to the corpus."""
    out.mkdir()
    writer = OpenAIWriter(model="mock-llm", base_url=server.base_url, concurrency=16, max_cost_usd=None)
    with writer.connect(corpus.parent / "cache.sqlite") as llm:
        counts = stage.run(
            corpus,
            out,
            augmenter=augmenter,
            llm=llm,
            count_tokens=lambda text: len(text) // 4,
            rules=Synthesis(
                token_budget=budget or budget_of(augmenter), max_failure_rate=1.0, near_duplicates=NearDuplicates.ignore
            ),
        )
    return list(read_texts(out)), counts


@every_augmenter
def test_budget_evenness_and_provenance(name: str, server: Handle, corpus: Path, tmp_path: Path) -> None:
    texts, counts = synthesize(server, AUGMENTERS[name](), corpus, tmp_path / "out")
    budget = budget_of(AUGMENTERS[name]())
    assert budget <= counts["tokens"] <= 1.01 * budget
    tokens, first_round = Counter[str](), Counter[str]()
    for text in texts:
        tokens[text.document_id] += text.tokens
        first_round[text.document_id] += text.tokens * (text.sample == 0)
    assert len(tokens) == len(DOCUMENTS) and max(tokens.values()) - min(tokens.values()) <= max(first_round.values())
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
    process = ForkedProcess(synthesize, server, augmenter, corpus, tmp_path / "killed")
    wait_for(lambda: server.stats()["ok"] >= 60, process=process)
    process.kill()
    process.wait()
    wait_for(lambda: server.stats()["in_flight"] == 0)
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
    planned = plan(augmenter, CachedAnswers(None, body))
    assert sum(part.total("requests") for part in planned) == pytest.approx(requests, rel=0.3)
    assert sum(part.total("prompt_tokens") for part in planned) == pytest.approx(counts["prompt_tokens"], rel=0.4)
    with closing(ResponseCache(tmp_path / "cache.sqlite")) as cache:
        known = plan(augmenter, CachedAnswers(cache, body), lambda text: len(text) // 4)
    assert sum(part.total("requests") for part in known) <= 0.15 * requests, "the response cache has nearly everything"


def plan(
    augmenter: Augmenter, known: CachedAnswers, count: Callable[[str], int] | None = None
) -> list[SynthesisEstimate]:
    tokens = 8 if augmenter.name == "knowledge_instruct" else 100
    parts = augmenter.divide(budget_of(augmenter))
    return [estimate(part, DOCUMENTS, budget, tokens, 20, known, count) for part, budget in parts]


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
def test_missing_prompt_file_raises_one_error(name: str, tmp_path: Path) -> None:
    first, *others = AUGMENTERS[name]().prompt_names  # type: ignore[attr-defined]
    for prompt in others:
        (tmp_path / f"{prompt}.txt").write_text((BUILT_IN_PROMPTS / f"{prompt}.txt").read_text())
    with pytest.raises(ConfigError, match=rf"augmenter.prompts: .*: {first}.txt is missing; expected exactly"):
        AUGMENTERS[name](prompts=str(tmp_path))
