"""Summaries: kinds, facts shared by texts, and the support check."""

from collections import Counter
from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.llm.base import Completion, Request
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Failure
from entigraph.synthesis.augmenters.summary_texts import Summaries
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize


def test_kinds_have_equal_tokens_and_facts_are_shared(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, counts = synthesize(corpus, tmp_path / "out", Summaries(), writer, token_budget=12_000)
    tokens = Counter[str]()
    for text in texts:
        tokens[text.kind] += text.tokens
    assert len(tokens) == 4 and max(tokens.values()) - min(tokens.values()) < 200
    pairs = [request for request in writer.requests if "one fact" in request.system]
    lists = {request.hash for request in writer.requests if "atomic facts" in request.system}
    assert pairs and all(len(request.user) < 200 for request in pairs), "pairs are written from the fact alone"
    assert len(lists) < 0.2 * len(pairs) + counts["kinds"]["summary_facts"] + 8
    assert not counts["failures"]


def test_unsupported_texts_are_dropped_and_counted(corpus: Path, tmp_path: Path) -> None:
    augmenter = Summaries(kinds=["summary_qa"], facts=30, rounds=40)
    _, counts = synthesize(corpus, tmp_path / "out", augmenter, OfflineWriter(errors=0.2), max_failure_rate=1.0)
    assert set(counts["failures"]) == {"judged not supported by the document"}
    failures = list(read_jsonl(tmp_path / "out" / "failures.jsonl", Failure))
    assert 10 < len(failures) == 80 - counts["texts"] < 60


def test_unchecked_texts_are_not_judged(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    synthesize(corpus, tmp_path / "out", Summaries(checked=[], rounds=2), writer)
    assert not [request for request in writer.requests if request.system.startswith("Check")]


def test_verdict_that_is_not_json_is_a_failure(corpus: Path, tmp_path: Path) -> None:
    def praise(request: Request, answer: Completion) -> Completion:
        return Completion(text="All good!", model="m") if request.system.startswith("Check") else answer

    augmenter = Summaries(kinds=["summary_qa", "summary_detailed"], rounds=2)
    _, counts = synthesize(corpus, tmp_path / "out", augmenter, RecordingWriter(praise), max_failure_rate=1.0)
    assert counts["failures"] == {"no JSON with supported": 4} and counts["kinds"] == {"summary_detailed": 4}


def test_unknown_checked_kind_raises() -> None:
    with pytest.raises(ConfigError, match=r"augmenter.checked must be some of summary_detailed"):
        Summaries(checked=["qa"])
