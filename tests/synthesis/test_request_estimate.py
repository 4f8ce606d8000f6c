"""What a plan says of a synthesis, against what the synthesis then takes."""

import re
import time
import tracemalloc
from pathlib import Path

import pytest

from entigraph.llm.caching import CachedAnswers
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.pipeline.cost_estimate import render_duration, sum_documents, total_lines
from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.request_estimate import DocumentEstimate, SynthesisEstimate, draw_evenly, estimate
from tests.conftest import Command
from tests.mock_llm_server import Config, running

WRITER = OpenAIWriter(model="m", base_url="http://localhost:1")
NOTHING = CachedAnswers(None, WRITER.body)


def documents(count: int, characters: int = 20_000) -> list[Document]:
    return [Document(id=f"d{number}", title="T", text="word " * (characters // 5)) for number in range(count)]


def estimated(
    augmenter: EntiGraph | Rephrase, budget: int | None, entities: int = 20, count: int = 3
) -> SynthesisEstimate:
    return estimate(augmenter, documents(count), budget, 600, entities, NOTHING)


def test_estimate_without_budget_counts_all_pairs_and_triples() -> None:
    result = estimated(EntiGraph(), None)
    assert result.total("requests") == 3 * (1 + 190 + 1140) and result.total("free") == 0
    assert result.total("completion_tokens") == 3 * (500 + 1330 * 600)
    assert result.total("prompt_tokens") == pytest.approx(3 * 1331 * 5_250, rel=0.05)
    assert result.total("cached_tokens") == pytest.approx(3 * 1330 * 5_000 * 7 / 8, rel=0.05)


def test_budget_is_spread_evenly_and_pairs_come_first() -> None:
    result = estimated(EntiGraph(), 60_000)
    assert [share.requests - 1 for share in result.documents] == [34, 33, 33]
    four = estimated(EntiGraph(relations_per_request=4), 240_000)
    assert four.total("requests") == 3 + 100 and four.tokens_per_request == 2_400
    assert estimated(Rephrase(), 60_000).total("requests") == 100


def test_small_budget_is_planned_for_every_document() -> None:
    """As the synthesis spreads it, although `rephrase` writes several consecutive texts per document."""
    result = estimated(Rephrase(), 9 * 600, count=7)
    assert [document.requests for document in result.documents] == [2, 2, 1, 1, 1, 1, 1]


def test_draw_evenly() -> None:
    assert draw_evenly([5, 100, 1_000], 45) == [5, 20, 20]
    assert draw_evenly([5, 5], 100) == [5, 5] == draw_evenly([5, 5], None)


def test_estimate_of_millions_of_triples_is_fast() -> None:
    tracemalloc.start()
    started = time.monotonic()
    result = estimated(EntiGraph(), 455_000_000, entities=100, count=265)
    took, (_, peak) = time.monotonic() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.total("requests") == pytest.approx(455e6 / 600, rel=0.001) and took < 60 and peak < 100e6


@pytest.mark.parametrize(
    ("limit", "cost"), [(9.0, "$2.00-3.00; stopped at llm.max_cost_usd = 9.0"), (1.0, "$2.00-3.00, more than llm.max")]
)
def test_cost_is_ascending_and_compared_with_the_limit(limit: float, cost: str) -> None:
    price = {"prompt": 1.0, "cached": 0.0, "completion": 4.0}
    writer = OpenAIWriter(model="m", base_url="https://example.org", prices={"m": price}, max_cost_usd=limit)
    few, many = (
        SynthesisEstimate([DocumentEstimate("d", requests=requests, prompt_tokens=tokens)], 600, 3.0, 1, False)
        for requests, tokens in ((9, 3e6), (8, 2e6))
    )
    assert any(line.startswith(f"  {cost}") for line in total_lines(writer, few, many))
    assert re.match(r"\d+(-\d+)? s at", render_duration(writer, (sum_documents(few), sum_documents(many)), 3.0))


def test_cached_answers_are_free_and_correct_the_estimate(command_here: Command, tmp_path: Path) -> None:
    common = [
        "llm=openai",
        "llm.model=mock-llm",
        "corpus.documents=2",
        "logger=none",
        "llm.requests_per_minute=6000",
        "+llm.prices.mock-llm={prompt: 1.0, cached: 0.5, completion: 4.0}",
    ]
    with running(Config(latency_s=0.01, output_tokens=200)) as server:
        common.append(f"llm.base_url={server.base_url}")
        before = command_here(*common, "synthesis.token_budget=60000")
        assert command_here(*common, "stage=corpus").returncode == 0
        small = command_here(*common, "stage=synthesis", "synthesis.token_budget=20000", OPENAI_API_KEY="sk-x")
        assert small.returncode == 0, small.stderr
        planned = command_here(*common, "synthesis.token_budget=60000")
        asked_before = server.stats()["requests"]
        large = command_here(*common, "stage=synthesis", "synthesis.token_budget=60000", OPENAI_API_KEY="sk-x")
        assert large.returncode == 0, large.stderr
        request_count = server.stats()["requests"] - asked_before
    assert "; assuming 10 to 50 entities per list" in before.stdout and " s at the stated limits" in before.stdout
    assert "no answer is known yet: assuming 600 tokens for each, whatever its kind; entigraph preview" in before.stdout
    assert "no answer is known" not in planned.stdout
    assert "not known yet" not in planned.stdout and "chronicle-001" in planned.stdout
    (line,) = re.findall(r"total: (\S+) requests to send, (\S+) answers from", planned.stdout)
    requests, free = (int(number.replace(",", "")) for number in line)
    assert free == asked_before and requests == pytest.approx(request_count, rel=0.1)
