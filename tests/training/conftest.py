"""Inputs of a training run: a few tokens and a tokenizer of bytes."""

import random
from pathlib import Path

import pytest

from entigraph.tokenization.builders import ByteTokenizer
from tests.conftest import write_shards


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (tmp_path / "tokens").mkdir()
    rng = random.Random(0)
    write_shards(tmp_path / "tokens", [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(40)])
    return tmp_path / "tokens"


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer").mkdir()
    ByteTokenizer().build(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"
