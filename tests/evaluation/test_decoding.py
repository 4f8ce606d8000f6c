"""Sampling from a local model, compared with transformers' generate and with probabilities."""

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from entigraph.errors import ArtifactError
from entigraph.evaluation.backends import decoding
from entigraph.evaluation.backends.decoding import STOP_WINDOW, BatchDecoder, DecodingRow, choose_tokens
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling
from entigraph.evaluation.parsing import ANSWER_LINE

EXAMPLES = "The answer to the question is in the document, and the document is here. " * 8
PROMPTS = [
    Prompt(f"q{number}", EXAMPLES + own)
    for number, own in enumerate(["Is the", "The question", "In the document the answer is here, and", "The"])
]


def sample_texts(backend: TransformersBackend, prompts: list[Prompt], **options: Any) -> dict[str, list[Generation]]:
    return {prompts[index].key: results for index, results in backend.sample(prompts, Sampling(**options))}


def test_greedy_decoding_matches_generate(backend: TransformersBackend) -> None:
    results = sample_texts(backend, PROMPTS, max_tokens=12)
    for prompt in PROMPTS:
        ids = torch.tensor([backend.encode(prompt.text)])
        options = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None}
        theirs = backend.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert results[prompt.key][0].text == backend.tokenizer.decode(theirs[0, ids.shape[1] :].tolist())


def test_samples_do_not_depend_on_the_batch(backend: TransformersBackend) -> None:
    options = {"samples": 3, "temperature": 1.0, "max_tokens": 70}  # more tokens than random numbers per block
    together = sample_texts(backend, PROMPTS, **options)
    alone = {prompt.key: sample_texts(backend, [prompt], **options)[prompt.key] for prompt in PROMPTS}
    assert together == alone
    assert sample_texts(backend, PROMPTS[::-1], batch_tokens=1, **options) == together, "one row at a time"
    assert len({sample.text for sample in together["q0"]}) == 3, "samples of one prompt differ"


def test_sampling_frequencies_match_probabilities(backend: TransformersBackend) -> None:
    ids = torch.tensor([backend.encode(PROMPTS[0].text)])
    with torch.no_grad():
        likely = (backend.model(ids).logits[0, -1] / 0.05).softmax(-1)
    samples = sample_texts(backend, PROMPTS[:1], samples=600, temperature=0.05, max_tokens=1)["q0"]
    counts = Counter(sample.text for sample in samples)
    probabilities: Counter[str] = Counter()  # several tokens can be one text
    for token, probability in enumerate(likely.tolist()):
        probabilities[backend.tokenizer.decode([token])] += probability
    for text, expected in probabilities.most_common(3):
        assert counts[text] / 600 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 600) ** 0.5)


def test_sampling_in_chunks_of_rows_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 500, generator=torch.Generator().manual_seed(0))
    uniforms = np.random.default_rng(0).random(7)
    whole = choose_tokens(logits, uniforms, 0.5)
    monkeypatch.setitem(decoding.MAX_PROBABILITIES, "cpu", 1_000)
    assert torch.equal(choose_tokens(logits, uniforms, 0.5), whole)


def test_nan_logits_raise_artifact_error(backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = backend.model.get_input_embeddings().weight
    monkeypatch.setattr(embeddings, "data", torch.full_like(embeddings, torch.nan))
    with pytest.raises(ArtifactError, match="the logits are NaN"):
        sample_texts(backend, PROMPTS[:1], max_tokens=2)
    with pytest.raises(ArtifactError, match="the logits are NaN"):
        list(backend.loglikelihoods([("The answer", " is here")], 100))


def test_stop_strings_until_and_max_tokens(backend: TransformersBackend) -> None:
    (whole,) = sample_texts(backend, PROMPTS[:1], max_tokens=12)["q0"]
    assert whole.finish_reason == "length"
    middle = whole.text[len(whole.text) // 2 :][:2]
    (stopped,) = sample_texts(backend, PROMPTS[:1], max_tokens=12, stop=(middle,))["q0"]
    assert stopped == Generation(whole.text.partition(middle)[0], "stop")
    (matched,) = sample_texts(backend, PROMPTS[:1], max_tokens=12, until=middle.replace("\\", "\\\\"))["q0"]
    assert matched.finish_reason == "stop" and matched.text == whole.text.partition(middle)[0] + middle


def test_answer_in_the_middle_of_a_line_does_not_end_a_sample() -> None:
    def decode(rows: Sequence[Sequence[int]]) -> list[str]:
        return ["".join(map(chr, row)) for row in rows]

    decoder = BatchDecoder(None, "cpu", frozenset(), decode, nullcontext)
    sampling = Sampling(until=ANSWER_LINE)
    for text, reason in (("The first Answer: is not one\n, because", ""), ("Thought.\nAnswer: A.\n", "stop")):
        row = DecodingRow(0, 0)
        for character in text + " " * STOP_WINDOW if not reason else text:
            decoder.append_tokens([row], [ord(character)], sampling)
        assert row.finish_reason == reason


def test_prompt_that_exceeds_the_context_has_no_samples(backend: TransformersBackend) -> None:
    kept, backend.max_length = backend.max_length, 200
    try:
        long = Prompt("long", "The document " * 200)
        results = sample_texts(backend, [long, Prompt("short", "The")], max_tokens=4, samples=2)
    finally:
        backend.max_length = kept
    assert results["long"] == [] and len(results["short"]) == 2


def test_prompts_without_shared_prefix(backend: TransformersBackend) -> None:
    kept, backend.bos = backend.bos, []
    try:
        prompts = [Prompt("a", "The answer"), Prompt("b", "Is"), Prompt("c", "document is here")]
        together = sample_texts(backend, prompts, max_tokens=6)
        assert together == {prompt.key: sample_texts(backend, [prompt], max_tokens=6)[prompt.key] for prompt in prompts}
    finally:
        backend.bos = kept
