"""The vLLM backend with its real worker process and a stand-in for vLLM."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from entigraph.errors import ConfigError, LLMError
from entigraph.evaluation.backends.vllm_backend import VllmBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling
from entigraph.evaluation.models_under_test import LocalModel, VllmEngine
from tests.conftest import Command, interpreter
from tests.evaluation.sample_questions import in_order
from tests.llm.test_vllm_transport import noted

POSITIONS = 100


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """A model folder without weights whose tokens are characters with their code points."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {chr(number): number for number in range(128)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    folder = tmp_path / "letters"
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"model_type": "llama", "max_position_embeddings": POSITIONS, "eos_token_id": 126, "vocab_size": 128}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@contextmanager
def open_backend(folder: Path, python: str, **options: object) -> Iterator[VllmBackend]:
    engines = VllmEngine(python=python, **options)  # type: ignore[arg-type]
    candidate = LocalModel(str(folder), "cpu", 1, folder, None, engines, folder.parent / "vllm.log")
    with candidate.connect(lambda words: None) as backend:
        assert isinstance(backend, VllmBackend)
        yield backend


def test_samples_of_a_prompt_are_one_request(
    python: str,
    letters: Path,
    tmp_path: Path,
) -> None:
    prompts = [Prompt(f"q{number}", f"Question {number}") for number in range(6)]
    sampling = Sampling(samples=5, temperature=1.0, max_tokens=10)
    with open_backend(letters, python) as backend:
        together = dict(backend.sample(prompts, sampling))
        alone = dict(backend.sample(prompts[3:4], sampling))
        greedy = dict(backend.sample(prompts, Sampling(samples=5, max_tokens=10)))
    assert all(f"Question {index} (" in sample.text for index, results in together.items() for sample in results)
    assert len({sample.text for results in together.values() for sample in results}) == 30 and alone[0] == together[3]
    assert len(noted(tmp_path, "took")) == 6 + 1 + 6
    assert all(len(results) == 5 and len({*results}) == 1 for results in greedy.values())


def test_stop_string_until_and_end_token(python: str, letters: Path) -> None:
    with open_backend(letters, python) as backend:
        assert backend.ends == {126}
        ((_, (stopped,)),) = backend.sample([Prompt("q", "A lamp. And")], Sampling(max_tokens=5, stop=(" And",)))
        ((_, (matched,)),) = backend.sample([Prompt("q", "A lamp. And")], Sampling(max_tokens=5, until=r"l.m"))
        ((_, (ended,)),) = backend.sample([Prompt("q", "A~")], Sampling(max_tokens=5))
    assert (stopped, matched) == (Generation("On A lamp."), Generation("On A lam"))
    assert "~" not in ended.text


def test_loglikelihoods_of_continuations(python: str, letters: Path) -> None:
    with open_backend(letters, python) as backend:
        pairs = [("Answer:", "ab"), ("Answer:", "a"), ("x" * 98, "ab"), ("x" * 99, "ab")]
        assert in_order(backend.loglikelihoods(pairs, 512)) == [-97.0 - 98.0, -97.0, -97.0 - 98.0, None]
        results = dict(backend.sample([Prompt("q", "x" * 95), Prompt("r", "x" * 96)], Sampling(max_tokens=5)))
    assert results[1] == [] and len(results[0]) == 1


def test_dead_engine_raises_llm_error(python: str, letters: Path, tmp_path: Path) -> None:
    with (
        open_backend(letters, python) as backend,
        pytest.raises(LLMError, match="vLLM rejected .* longer than the context"),
    ):
        list(backend.sample([Prompt("q", "REFUSE")], Sampling(max_tokens=5)))
    with open_backend(letters, python) as backend:
        for question in ("DIE", "and then"):
            with pytest.raises(LLMError, match=rf"the card fell off. Its log is {tmp_path}/vllm.log. All"):
                list(backend.sample([Prompt("q", question)], Sampling(max_tokens=5)))


def test_invalid_engine_is_reported_before_the_run(command_here: Command, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="engine.concurrency must be positive, got 0"):
        VllmEngine(concurrency=0)
    bare = interpreter(tmp_path / "bare", "exec /bin/false")
    result = command_here("run", "engine=vllm", f"engine.python={bare}", "logger=none")
    assert result.returncode == 1 and f"engine.python: {bare} has no vLLM" in result.stderr, result.stderr
    held = command_here("engine=vllm", "evaluation=lm_eval")
    assert held.returncode == 1 and "evaluation.lm_eval uses the Hugging Face model itself" in held.stderr
    assert not list(tmp_path.rglob("manifest.json"))
