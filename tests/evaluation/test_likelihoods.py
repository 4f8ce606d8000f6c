"""Batched log-likelihoods with shared prefixes and few logits at a time match single sequences."""

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    Gemma3Config,
    Gemma3ForCausalLM,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)

from entigraph.evaluation.backends import likelihoods, transformers_backend
from entigraph.evaluation.backends.likelihoods import LikelihoodScorer, batch_rows, split_prefixes
from entigraph.evaluation.backends.transformers_backend import TransformersBackend, cast_weights
from entigraph.evaluation.base import ScoredSequence
from entigraph.evaluation.models_under_test import load_pretrained_tokenizer

VOCABULARY = 61
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}


def build_model(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**SIZES)).eval()
    layers = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, sliding_window=8, layer_types=layers)).eval()


def make_sequences() -> list[ScoredSequence]:
    """Questions with four choices each, a sequence without a prefix, and one that is scored from its second id."""
    rng = random.Random(0)

    def ids(length: int) -> list[int]:
        return [rng.randrange(VOCABULARY) for _ in range(length)]

    sequences = []
    for length in (3, 30, 17, 9):
        prompt = ids(length)
        sequences += [ScoredSequence([*prompt, *ids(rng.randint(1, 6))], length) for _ in range(4)]
    return [*sequences, ScoredSequence(ids(25), 1), ScoredSequence(ids(12), 11)]


@torch.inference_mode()
def score_alone(model: Any, sequence: ScoredSequence) -> float:
    ids = torch.tensor([sequence.ids])
    logprobs = torch.log_softmax(model(input_ids=ids[:, :-1], use_cache=False).logits.float(), dim=-1)
    return float(logprobs[0].gather(1, ids[0, 1:, None])[sequence.first - 1 :].sum())


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("rows_of_logits", [4, 1_000])
def test_batched_scores_match_single_sequences(
    kind: str, shares: bool, rows_of_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihoods, "MIN_PARAMETERS_TO_SHARE_PREFIXES", 0 if shares else 10**12)
    monkeypatch.setitem(likelihoods.MAX_LOGITS, "cpu", rows_of_logits * VOCABULARY)
    model, sequences = build_model(kind), make_sequences()
    scorer = LikelihoodScorer(model, "cpu", nullcontext)
    scores = dict(scorer.score(sequences, batch_tokens=128))
    assert [*sorted(scores)] == [*range(len(sequences))]
    for index, sequence in enumerate(sequences):
        assert scores[index] == pytest.approx(score_alone(model, sequence), abs=1e-4)


@pytest.mark.parametrize("shares", [True, False])
def test_first_token_without_bos_is_not_scored(
    shares: bool, backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihoods, "MIN_PARAMETERS_TO_SHARE_PREFIXES", 0 if shares else 10**12)
    monkeypatch.setattr(backend, "bos", [])
    pairs = [("", " The answer is in the document"), ("Is the answer here? ", "The answer is here")]
    scores = dict(backend.loglikelihoods(pairs, 10_000))
    for index, pair in enumerate(pairs):
        assert scores[index] == pytest.approx(score_alone(backend.model, backend.encode_pair(*pair)), abs=1e-4)
    single = next(text for text in ("a", "e", "t") if len(backend.encode(text)) == 1)
    assert list(backend.loglikelihoods([("", single)], 10_000)) == [(0, 0.0)]


def test_context_length_of_a_multimodal_model(backend: TransformersBackend, tmp_path: Path) -> None:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = Gemma3Config(
        text_config={**SIZES, "max_position_embeddings": 64},
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    loaded = TransformersBackend(str(tmp_path), backend.tokenizer, 0, "cpu", bf16=False, threads=None)
    assert loaded.max_length == 64


def test_logits_in_memory_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(likelihoods.MAX_LOGITS, "cpu", 4 * VOCABULARY)
    monkeypatch.setattr(likelihoods, "MIN_PARAMETERS_TO_SHARE_PREFIXES", 0)
    model, sizes = build_model("llama"), []
    model.lm_head.register_forward_hook(lambda module, inputs, output: sizes.append(output.numel()))
    dict(LikelihoodScorer(model, "cpu", nullcontext).score(make_sequences(), batch_tokens=10_000))
    assert max(sizes) <= 4 * VOCABULARY


def test_prefixes_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihoods, "MIN_PARAMETERS_TO_SHARE_PREFIXES", 0)
    model, tokens = build_model("llama"), []
    model.model.embed_tokens.register_forward_hook(lambda module, inputs, output: tokens.append(inputs[0].numel()))
    prompt = [1] * 100
    sequences = [ScoredSequence([*prompt, 2, number], 101) for number in range(8)]
    dict(LikelihoodScorer(model, "cpu", nullcontext).score(sequences, batch_tokens=10_000))
    assert sum(tokens) < 2 * len(prompt), "eight sequences share their first hundred ids"


def test_batches_contain_every_row_once_within_the_limits() -> None:
    rows = split_prefixes(make_sequences())
    batches = list(batch_rows(rows, batch_tokens=64, max_scored=12))
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    for batch in batches:
        members = [rows[index] for index in batch]
        tokens = max(len(row.prefix) + len(row.ids) for row in members) * len(batch)
        scored = (max(len(row.ids) for row in members) - min(row.first for row in members)) * len(batch)
        assert len(batch) == 1 or (tokens <= 64 and scored <= 12)
        assert len({bool(row.prefix) for row in members}) == 1


def test_logits_of_a_batch_come_from_one_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a large vocabulary, smaller batches are faster than batches with one column of logits at a time."""
    monkeypatch.setitem(likelihoods.MAX_LOGITS, "cpu", 12 * VOCABULARY)
    monkeypatch.setattr(likelihoods, "MIN_PARAMETERS_TO_SHARE_PREFIXES", 0)
    model, sequences, calls = build_model("llama"), make_sequences()[:16], []
    model.lm_head.register_forward_hook(lambda module, inputs, output: calls.append(output.shape[1]))
    scorer = LikelihoodScorer(model, "cpu", nullcontext)
    dict(scorer.score(sequences, batch_tokens=10_000))
    batches = list(batch_rows(split_prefixes(sequences), 10_000, 12))
    assert len(calls) == 2 * len(batches), "one pass over the prefixes and one over the scored ids"
    needed = sum(len(sequence.ids) - sequence.first for sequence in sequences)
    assert sum(calls[1::2]) == needed, "no logits of padding"


def test_rotary_frequencies_are_not_cast_to_bf16() -> None:
    model = build_model("llama")
    frequencies = model.model.rotary_emb.inv_freq.clone()
    cast_weights(model)
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())
    assert torch.equal(model.model.rotary_emb.inv_freq, frequencies)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_large_models_are_cast_once(device: str, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models on a CPU, such as the demo's, run under autocast: casting them would change published scores."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *arguments, **options: self)  # there is no GPU

    def dtypes(parameters: int) -> set[torch.dtype]:
        monkeypatch.setattr(transformers_backend, "CASTING_PARAMETERS", parameters)
        tokenizer, _ = load_pretrained_tokenizer(str(tiny_model))
        backend = TransformersBackend(str(tiny_model), tokenizer, 0, device, bf16=True, threads=None)
        return {parameter.dtype for parameter in backend.model.parameters()}

    assert dtypes(0) == {torch.bfloat16}
    monkeypatch.setattr(transformers_backend, "cast_weights", lambda model: None)
    assert dtypes(0) == ({torch.float32} if device == "cpu" else {torch.bfloat16}), "loaded in bf16 for a GPU"
    assert dtypes(10**9) == ({torch.float32} if device == "cpu" else {torch.bfloat16})
