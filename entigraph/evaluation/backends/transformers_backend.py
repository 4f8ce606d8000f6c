"""A Hugging Face model that answers on this machine: samples, greedy continuations, log-likelihoods."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from tokenizers import Tokenizer

from entigraph.evaluation.backends.decoding import Decoder
from entigraph.evaluation.backends.local_backend import Encoded, LocalEngine
from entigraph.evaluation.base import Prompt, Sampled, Sampling
from entigraph.evaluation.chat_prompts import ChatTemplate
from entigraph.huggingface.models import eos_token_ids, load_model
from entigraph.runtime.devices import keep_freed_memory


class TransformersEngine(LocalEngine):
    """`bf16`: the model computes in it; log-likelihoods are summed in fp32 all the same."""

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
        if bf16 and device != "cpu":  # autocast would turn all weights into bf16 again for every token
            model = model.to(torch.bfloat16)
        positions = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        super().__init__(tokenizer, bos_id, positions, eos_token_ids(model.generation_config), chat)
        self.model = model.to(device)
        self.model.train(False)
        self.device, self.bf16 = device, bf16

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Sampled]]]:
        decoder = Decoder(self.model, self.device, self.positions, self.ends, self.decode, self.autocast)
        return decoder.sample(prompts, [self.encode_prompt(prompt) for prompt in prompts], sampling)

    def scored(self, rows: Sequence[Encoded], batch_tokens: int) -> list[float]:
        found = [0.0] * len(rows)
        for batch in batches(range(len(rows)), [len(ids) for ids, _ in rows], batch_tokens):
            for index, score in zip(batch, self.score([rows[index] for index in batch]), strict=True):
                found[index] = score
        return found

    @torch.inference_mode()
    def score(self, batch: Sequence[Encoded]) -> list[float]:
        ids = self.padded([ids for ids, _ in batch])
        with self.autocast():
            logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        logprobs = torch.log_softmax(logits.float(), dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        return [float(logprobs[row, before - 1 : len(ids) - 1].sum()) for row, (ids, before) in enumerate(batch)]

    def padded(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Padding stands behind, where a causal model's earlier positions cannot see it."""
        width = max(map(len, rows))
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        mixed = self.bf16 and self.device == "cpu"
        return torch.autocast(self.device, dtype=torch.bfloat16) if mixed else nullcontext()


def batches(indices: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Like lengths together, at most `batch_tokens` with padding, but at least one."""
    batch: list[int] = []
    for index in sorted(indices, key=lambda index: (lengths[index], index)):
        if batch and lengths[index] * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
