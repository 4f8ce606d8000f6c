"""The same model in vLLM's engine, in a process tree of its own: the prompts' tokens go there, others come back."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tokenizers import Tokenizer

from entigraph.errors import LLMError
from entigraph.evaluation.backends.local_backend import Encoded, LocalEngine
from entigraph.evaluation.base import Prompt, Sampled, Sampling
from entigraph.evaluation.chat_prompts import ChatTemplate
from entigraph.llm.base import Say
from entigraph.llm.vllm.engine_process import EngineProcess
from entigraph.llm.vllm.vllm_writer import VLLMEngineConfig

# The last token of a row that is scored takes no position of the model's, but vLLM counts it.
ONE_MORE = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}

Told = Mapping[str, Any]


class VllmEngine(LocalEngine):
    """All samples of a prompt are one request, each with a seed that follows from the prompt's key; what prompts begin
    with stays in the prefix cache.

    Raises LLMError, whoever asks, once its processes are gone.
    """

    def __init__(
        self,
        options: VLLMEngineConfig,
        path: str,
        tokenizer: Tokenizer,
        bos_id: int | None,
        *,
        positions: int,
        own_ends: Sequence[int],
        chat: ChatTemplate | None,
        log: Path,
        say: Say,
    ) -> None:
        super().__init__(tokenizer, bos_id, positions, own_ends, chat)
        self.numbers = count()
        self.heard: SimpleQueue[Told | LLMError] = SimpleQueue()
        arguments = options.own_arguments(path) | {"max_model_len": positions + 1} | options.arguments
        self.worker = EngineProcess(options, {"engine": arguments, "chat": None}, log, say, self, ONE_MORE)

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Sampled]]]:
        encoded = [self.encode_prompt(prompt) for prompt in prompts]
        fitting = [index for index, ids in enumerate(encoded) if len(ids) + sampling.max_tokens <= self.positions]
        yield from ((index, []) for index in sorted(set(range(len(prompts))) - set(fitting)))
        shared = {
            "temperature": sampling.temperature,
            "n": sampling.drawn,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "stop_token_ids": sorted(self.ends),
        }
        asked = [(seed_of(prompts[index]), {**shared, "prompt": encoded[index]}) for index in fitting]
        for place, told in self.ask(asked):
            samples = [self.sampled(choice, sampling) for choice in told["choices"]]
            yield fitting[place], samples * (sampling.samples // sampling.drawn)

    def sampled(self, choice: Mapping[str, Any], sampling: Sampling) -> Sampled:
        """Decoded here, as every engine's tokens are; vLLM's include the one that ended the text."""
        (text,) = self.decode([[token for token in choice["token_ids"] if token not in self.ends]])
        return sampling.ended(text, choice["finish_reason"])

    def scored(self, rows: Sequence[Encoded], batch_tokens: int) -> list[float]:
        """vLLM makes its own batches: `batch_tokens` decides nothing."""
        asked = [(0, {"prompt": ids, "score_from": before}) for ids, before in rows]
        found = {place: float(told["loglikelihood"]) for place, told in self.ask(asked)}
        return [found[place] for place in range(len(rows))]

    def ask(self, asked: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Told]]:
        """The place of each request of (seed, body) with its answer, as they come."""
        waiting = {}
        for place, (seed, body) in enumerate(asked):
            number = next(self.numbers)
            waiting[number] = place
            self.worker.write(json.dumps({"number": number, "seed": seed, "body": body}).encode() + b"\n")
        while waiting:
            told = self.heard.get()
            if isinstance(told, LLMError):
                self.fail(told)  # for whoever asks next
                raise told
            if "refused" in told:
                raise LLMError(f"vLLM refused what it was asked: {told['refused']}")
            if told["number"] in waiting:  # else asked by somebody who saw enough
                yield waiting.pop(told["number"]), told

    def receive(self, told: Told) -> None:
        self.heard.put(told)

    def fail(self, error: LLMError) -> None:
        self.heard.put(error)

    def close(self) -> None:
        self.worker.close()


def seed_of(prompt: Prompt) -> int:
    """Of its first sample; vLLM counts on from there."""
    return int.from_bytes(hashlib.blake2b(prompt.key.encode(), digest_size=8).digest(), "big") >> 2
