"""Backend that runs a Hugging Face model in this process."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from tokenizers import Tokenizer

from entigraph.evaluation.backends.decoding import BatchDecoder
from entigraph.evaluation.backends.local_backend import ChatTemplate, LocalBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling, ScoredSequence
from entigraph.huggingface.models import eos_token_ids, load_model
from entigraph.runtime.devices import keep_freed_memory

UNLIMITED_CONTEXT = 1 << 30


class TransformersBackend(LocalBackend):
    """With `bf16`, the model computes in bf16; log-likelihoods are still summed in fp32."""

    def __init__(
        self,
        path: str,
        tokenizer: Tokenizer,
        bos_id: int | None,
        device: str,
        bf16: bool,
        threads: int | None,
        chat: ChatTemplate | None = None,
    ) -> None:
        if device == "cpu":
            keep_freed_memory()
            if threads:
                torch.set_num_threads(threads)
        model: Any = load_model(path)
        if bf16 and device != "cpu":  # autocast would convert all weights to bf16 again for every token
            model = model.to(torch.bfloat16)
        max_length = getattr(model.config, "max_position_embeddings", None) or UNLIMITED_CONTEXT
        super().__init__(tokenizer, bos_id, max_length, eos_token_ids(model.generation_config), chat)
        self.model = model.to(device)
        self.model.train(False)
        self.device, self.bf16 = device, bf16

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        encoded = [self.encode_prompt(prompt) for prompt in prompts]
        fitting, too_long = self.split_by_length(encoded, sampling.max_tokens)
        yield from ((index, []) for index in too_long)
        decoder = BatchDecoder(self.model, self.device, self.ends, self.decode, self.autocast)
        for position, generations in decoder.sample(
            [prompts[index].key for index in fitting], [encoded[index] for index in fitting], sampling
        ):
            yield fitting[position], generations

    def score(self, sequences: Sequence[ScoredSequence], batch_tokens: int) -> list[float]:
        scores = [0.0] * len(sequences)
        for batch in batch_by_length([len(sequence.ids) for sequence in sequences], batch_tokens):
            for index, score in zip(batch, self.score_batch([sequences[i] for i in batch]), strict=True):
                scores[index] = score
        return scores

    @torch.inference_mode()
    def score_batch(self, batch: Sequence[ScoredSequence]) -> list[float]:
        ids = self.pad([sequence.ids for sequence in batch])
        with self.autocast():
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        logprobs = torch.log_softmax(logits.float(), dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        return [
            float(logprobs[row, sequence.first - 1 : len(sequence.ids) - 1].sum()) for row, sequence in enumerate(batch)
        ]

    def pad(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Pads on the right: causal attention masks the padding for all earlier positions."""
        width = max(map(len, rows))
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        mixed = self.bf16 and self.device == "cpu"
        return torch.autocast(self.device, dtype=torch.bfloat16) if mixed else nullcontext()


def batch_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yields batches of indices sorted by length, with at most `batch_tokens` including padding, at least one each."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
