from pathlib import Path

import pytest

from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.models_under_test import load_pretrained_tokenizer


@pytest.fixture(scope="session")
def backend(tiny_model: Path) -> TransformersBackend:
    tokenizer, _ = load_pretrained_tokenizer(str(tiny_model))
    return TransformersBackend(str(tiny_model), tokenizer, 0, "cpu", bf16=False, threads=1)
