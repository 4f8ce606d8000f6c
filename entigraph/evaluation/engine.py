"""A Hugging Face model that answers on this machine: samples, greedy continuations, log-likelihoods."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from tokenizers import Tokenizer

from entigraph.evaluation.base import Pair, Prompt, Sampled, Sampling, Window
from entigraph.evaluation.chat import ChatTemplate
from entigraph.evaluation.decoding import Decoder
from entigraph.hardware import keep_freed_memory
from entigraph.models import load_model

Encoded = tuple[list[int], int]  # the ids of prompt and continuation, and how many of them are the prompt's


class TransformersEngine:
    """`bos_id` stands before every prompt, as it stood before every text in training; None where none did.

    `bf16`: the model computes in it; log-likelihoods are summed in fp32 all the same. `chat` is what instructions are
    put in.
    """

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
        self.model = model.to(device)
        self.model.train(False)
        self.tokenizer, self.chat = tokenizer, chat
        self.bos = [bos_id] if bos_id is not None else []
        self.device, self.bf16 = device, bf16
        self.positions: int = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30

    def encode(self, text: str) -> list[int]:
        return [*self.bos, *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        return [self.tokenizer.decode(list(row)) for row in rows]

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Sampled]]]:
        decoder = Decoder(self.model, self.device, self.positions, self.ends(), self.decode, self.autocast)
        return decoder.sample(prompts, [self.encode_prompt(prompt) for prompt in prompts], sampling)

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        if self.chat is None or not prompt.instruction:
            return self.encode(prompt.text)
        ids: list[int] = self.tokenizer.encode(self.chat.rendered(prompt.text), add_special_tokens=False).ids
        return ids

    def ends(self) -> frozenset[int]:
        """What ends a text: as the model says, what stood before each in training, and what ends a turn."""
        found: Any = getattr(self.model.generation_config, "eos_token_id", None)
        own = found if isinstance(found, list) else [found]
        return frozenset(
            [*(token for token in own if token is not None), *self.bos, *(self.chat.ends if self.chat else ())]
        )

    def loglikelihoods(self, pairs: Sequence[Pair], batch_tokens: int) -> list[float | None]:
        """Both are encoded together, and the continuation is what follows the prompt's own tokens."""
        encoded = [self.encode_pair(*pair) for pair in pairs]
        scores: list[float | None] = [None] * len(pairs)
        fitting = [index for index, (ids, _) in enumerate(encoded) if len(ids) <= self.positions]
        for batch in batches(fitting, [len(ids) for ids, _ in encoded], batch_tokens):
            for index, score in zip(batch, self.score([encoded[index] for index in batch]), strict=True):
                scores[index] = score
        return scores

    def encoded(self, text: str) -> tuple[list[int], int]:
        return self.encode(text), 0 if self.bos else 1

    def losses(self, windows: Sequence[Window], batch_tokens: int) -> list[float]:
        found = [0.0] * len(windows)
        for batch in batches(range(len(windows)), [len(window.ids) for window in windows], batch_tokens):
            pairs = [(list(windows[index].ids), windows[index].first) for index in batch]
            for index, score in zip(batch, self.score(pairs), strict=True):
                found[index] = -score
        return found

    def encode_pair(self, prompt: str, continuation: str) -> Encoded:
        before = len(self.encode(prompt))
        whole = self.encode(prompt + continuation)
        return whole, min(before, len(whole) - 1)

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
