"""Focal documents and question-answer pairs, and their half-and-half mixture."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.pipeline.run import Run
from entigraph.synthesis.augmenters.focal import Focal
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize


def test_documents_cycle_through_the_questions(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    texts, _ = synthesize(corpus, tmp_path / "out", Focal(questions=4, rounds=8), writer)
    lists = {request.hash for request in writer.requests if request.json_schema}
    focuses = Counter(request.suffix for request in writer.requests if "Question in focus" in request.suffix)
    assert len(lists) == 2 * 2 and len(texts) == 16 == focuses.total() and len(focuses) >= 12
    assert all(text.text.startswith(("How does", "What is there to know")) for text in texts)


def test_mixture_has_as_many_tokens_of_documents_as_of_pairs(
    configured: Callable[..., Run], corpus: Path, tmp_path: Path
) -> None:
    augmenter = configured("augmenter=focal_mixed").augmenter
    assert augmenter.name == "focal_mixed"
    texts, counts = synthesize(corpus, tmp_path / "out", augmenter, RecordingWriter(), token_budget=40_000)
    shares = {name: tokens / counts["tokens"] for name, tokens in counts["tokens_by_augmenter"].items()}
    assert shares == pytest.approx({"focal": 0.5, "focal_answers": 0.5}, abs=0.03)
    assert {text.kind for text in texts} == {"focal_document", "focal_answers"}


def test_invalid_options_raise() -> None:
    with pytest.raises(ConfigError, match=r"augmenter.questions must be at least 1, got 0"):
        Focal(questions=0)
    with pytest.raises(ConfigError, match=r"augmenter.kinds must be some of focal_document"):
        Focal(kinds=["answers"])
