from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import ConfigError
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.mixed import Mixed
from entigraph.synthesis.augmenters.raw import Raw
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.synthesis.generation_stats import summary_lines
from tests.conftest import Command
from tests.mock_llm_server import Config, running
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize


def mixed(entigraph: float | None, rephrase: float | None = None, **options: Any) -> Mixed:
    parts = {"entigraph": EntiGraph(**options), "rephrase": Rephrase()}
    return Mixed(parts=parts, shares={"entigraph": entigraph, "rephrase": rephrase})


def test_parts_write_the_same_texts_as_alone(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, counts = synthesize(corpus, tmp_path / "mixed", mixed(0.25), writer, token_budget=8000)
    shares = {name: tokens / counts["tokens"] for name, tokens in counts["tokens_by_augmenter"].items()}
    assert shares == pytest.approx({"entigraph": 0.25, "rephrase": 0.75}, abs=0.03)
    assert 8000 <= counts["tokens"] < 8800 and len({text.id for text in texts}) == len(texts)
    assert len(writer.requests) < 1.15 * len(texts) + 64, "few requests exceed the budget"
    for augmenter in (EntiGraph(), Rephrase()):
        alone, _ = synthesize(corpus, tmp_path / augmenter.name, augmenter, RecordingWriter(), token_budget=8000)
        part_texts = [text for text in texts if text.augmenter == augmenter.name]
        assert part_texts == alone[: len(part_texts)]


def test_full_share_equals_the_augmenter_alone(corpus: Path, tmp_path: Path) -> None:
    full, _ = synthesize(corpus, tmp_path / "whole", mixed(1.0), RecordingWriter(), token_budget=3000)
    alone, _ = synthesize(corpus, tmp_path / "alone", EntiGraph(), RecordingWriter(), token_budget=3000)
    assert full == alone
    assert [mixed(share).name for share in (0.0, 0.25, 1.0)] == [
        "rephrase100",
        "entigraph25-rephrase75",
        "entigraph100",
    ]


def test_exhausted_part_is_not_replaced_by_the_other(corpus: Path, tmp_path: Path) -> None:
    augmenter = mixed(0.9, triples_per_document=0)
    _, counts = synthesize(corpus, tmp_path / "out", augmenter, RecordingWriter(), token_budget=60_000)
    assert counts["kinds"]["pair"] == 380 and counts["tokens_by_augmenter"]["rephrase"] < 7000
    lines = summary_lines(counts, 2, 60_000)
    assert "of 60,000 tokens exist" in lines[-1] and lines[1].startswith("  tokens by augmenter: entigraph ")


@pytest.mark.parametrize(
    ("parts", "shares", "problem"),
    [
        ({"entigraph": EntiGraph(), "rephrase": Rephrase()}, {"entigraph": 0.5, "rephrase": 0.4}, "and sum to 1"),
        (
            {"entigraph": EntiGraph(), "rephrase": Rephrase()},
            {"entigraph": 1.5, "rephrase": None},
            "at least 0 and sum",
        ),
        (
            {"entigraph": EntiGraph(), "rephrase": Rephrase()},
            {"entigraph": None, "rephrase": None},
            "at most one null",
        ),
        ({"entigraph": EntiGraph()}, {"entigraph": 0.5, "qa": 0.5}, r"only one of them has \['qa'\]"),
        (
            {"entigraph": EntiGraph(), "raw": Raw()},
            {"entigraph": 0.5, "raw": 0.5},
            "parts.raw must be .* uses the writer",
        ),
        ({"one": Rephrase(), "two": Rephrase()}, {"one": 0.5, "two": 0.5}, "one and two send the same"),
    ],
)
def test_invalid_mixtures_raise(parts: Any, shares: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Mixed(parts=parts, shares=shares)


def test_mixture_reuses_cached_answers_of_its_parts(command_here: Command, tmp_path: Path) -> None:
    common = ["llm=openai", "llm.model=mock-llm", "corpus.documents=2", "logger=none", "synthesis.token_budget=20000"]
    common.append("+llm.prices.mock-llm={prompt: 1.0, cached: 0.5, completion: 4.0}")
    with running(Config(output_tokens=200)) as server:
        common.append(f"llm.base_url={server.base_url}")
        assert command_here(*common, "stage=corpus").returncode == 0
        planned = command_here(*common, "augmenter=mixed").stdout
        for augmenter in ("entigraph", "rephrase"):
            result = command_here(*common, f"augmenter={augmenter}", "stage=synthesis", OPENAI_API_KEY="sk-x")
            assert result.returncode == 0, result.stderr
        request_count = server.stats()["requests"]
        result = command_here(*common, "augmenter=mixed", "stage=synthesis", OPENAI_API_KEY="sk-x")
        assert result.returncode == 0, result.stderr
        assert server.stats()["requests"] == request_count
    assert "synthesis with entigraph and mock-llm:" in planned and "synthesis with rephrase and mock-llm:" in planned
    analysis = command_here("analyze", *common, "augmenter=mixed", "analysis=overlap")
    assert analysis.returncode == 0 and "entigraph50-rephrase50" in analysis.stdout, analysis.stderr
    assert "tokens by augmenter: entigraph" in result.stdout + result.stderr
    (folder,) = (tmp_path / "outputs" / "synthesis").glob("*-entigraph50-rephrase50-*")
    assert 'id="mixture">Of the tokens 5' in (folder / "report.html").read_text("utf-8")
    assert "| augmenter.shares.entigraph | 0.5 |" in (folder / "README.md").read_text("utf-8")
