"""A model that answers: log-likelihoods of continuations, and greedy continuations, in batches of like length."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from tokenizers import Tokenizer

from entigraph.models import load_model
from entigraph.progress import Advance

Encoded = tuple[list[int], int]  # the ids of prompt and continuation, and how many of them are the prompt's


class Engine:
    """`bos_id` stands before every prompt, as it stood before every text in training; None where none did.

    `bf16`: the model computes in it; log-likelihoods are summed in fp32 all the same.
    """

    def __init__(
        self, path: str, tokenizer: Path, bos_id: int | None, device: str, bf16: bool, threads: int | None
    ) -> None:
        if device == "cpu" and threads:
            torch.set_num_threads(threads)
        self.model = load_model(path).to(device)  # type: ignore[arg-type]
        self.model.train(False)
        self.tokenizer = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
        self.bos = [bos_id] if bos_id is not None else []
        self.device, self.bf16 = device, bf16
        self.positions: int = getattr(self.model.config, "max_position_embeddings", None) or 1 << 30

    def encode(self, text: str) -> list[int]:
        return [*self.bos, *self.tokenizer.encode(text, add_special_tokens=False).ids]

    def loglikelihoods(
        self, pairs: Sequence[tuple[str, str]], batch_tokens: int, advance: Advance
    ) -> list[float | None]:
        """Each continuation's summed log-likelihood after its prompt; None where both exceed the context.

        Both are encoded together, and the continuation is what follows the prompt's own tokens.
        """
        encoded = [self.encode_pair(*pair) for pair in pairs]
        scores: list[float | None] = [None] * len(pairs)
        fitting = [index for index, (ids, _) in enumerate(encoded) if len(ids) <= self.positions]
        for batch in batches(fitting, [len(ids) for ids, _ in encoded], batch_tokens):
            for index, score in zip(batch, self.score([encoded[index] for index in batch]), strict=True):
                scores[index] = score
            advance(len(batch))
        return scores

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

    @torch.inference_mode()
    def greedy(self, prompts: Sequence[str], max_tokens: int, stop: str) -> list[str]:
        """Continuations up to `stop` (left out) or `max_tokens`; nothing where the prompt leaves no room."""
        found = [""] * len(prompts)
        encoded = [self.encode(prompt) for prompt in prompts]
        by_length: dict[int, list[int]] = {}
        for index, ids in enumerate(encoded):
            if len(ids) + max_tokens <= self.positions:
                by_length.setdefault(len(ids), []).append(index)
        for indices in by_length.values():
            continued = self.continued([encoded[index] for index in indices], max_tokens, stop)
            for index, ids in zip(indices, continued, strict=True):
                found[index] = self.tokenizer.decode(ids).partition(stop)[0]
        return found

    def continued(self, prompts: Sequence[list[int]], max_tokens: int, stop: str) -> list[list[int]]:
        ids = torch.tensor(prompts, device=self.device)
        start, cache = ids.shape[1], None
        step = ids
        for _ in range(max_tokens):
            with self.autocast():
                output = self.model(input_ids=step, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            step = output.logits[:, -1].argmax(-1, keepdim=True)
            ids = torch.cat([ids, step], dim=1)
            if all(stop in self.tokenizer.decode(row) for row in ids[:, start:].tolist()):
                break
        return ids[:, start:].tolist()

    def padded(self, rows: Sequence[list[int]]) -> torch.Tensor:
        """Padding stands behind, where a causal model's earlier positions cannot see it."""
        width = max(map(len, rows))
        return torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device, dtype=torch.bfloat16) if self.bf16 else nullcontext()


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
