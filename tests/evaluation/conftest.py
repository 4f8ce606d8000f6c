from pathlib import Path

import pytest

from entigraph.evaluation.backends.transformers_backend import TransformersEngine
from entigraph.evaluation.models_under_test import own_tokenizer


@pytest.fixture(scope="session")
def engine(tiny_model: Path) -> TransformersEngine:
    tokenizer, _ = own_tokenizer(str(tiny_model))
    return TransformersEngine(str(tiny_model), tokenizer, 0, "cpu", bf16=False, threads=1)
