"""Backend that runs a model in the vLLM engine, in separate processes. Requests and replies contain token ids."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tokenizers import Tokenizer

from entigraph.errors import LLMError
from entigraph.evaluation.backends.local_backend import ChatTemplate, LocalBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling, ScoredSequence
from entigraph.llm.base import Notify
from entigraph.llm.vllm.engine_config import VLLMEngineConfig
from entigraph.llm.vllm.engine_replicas import start_engines

# The last token of a scored sequence needs no position in the model's context, although vLLM counts it.
EXTRA_POSITION = {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}

Reply = Mapping[str, Any]


class VllmBackend(LocalBackend):
    """Requests all samples of a prompt at once, with a seed derived from the prompt's key; vLLM's prefix cache reuses
    shared prefixes.

    Every call raises LLMError once the engine's processes have died.
    """

    def __init__(
        self,
        options: VLLMEngineConfig,
        path: str,
        tokenizer: Tokenizer,
        bos_id: int | None,
        *,
        max_length: int,
        end_ids: Sequence[int],
        chat: ChatTemplate | None,
        log: Path,
        notify: Notify,
    ) -> None:
        super().__init__(tokenizer, bos_id, max_length, end_ids, chat)
        self.request_ids = count()
        self.replies: SimpleQueue[Reply | LLMError] = SimpleQueue()
        arguments = options.engine_arguments(path) | {"max_model_len": max_length + 1} | options.arguments
        self.worker = start_engines(options, {"engine": arguments, "chat": None}, log, notify, self, EXTRA_POSITION)

    def sample(self, prompts: Sequence[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        encoded = [self.encode_prompt(prompt) for prompt in prompts]
        fitting, too_long = self.split_by_length(encoded, sampling.max_tokens)
        yield from ((index, []) for index in too_long)
        shared = {
            "temperature": sampling.temperature,
            "n": sampling.distinct_samples,
            "max_tokens": sampling.max_tokens,
            "stop": list(sampling.stop),
            "stop_token_ids": sorted(self.ends),
        }
        requests = [(prompt_seed(prompts[index]), {**shared, "prompt": encoded[index]}) for index in fitting]
        for position, reply in self.request(requests):
            prompt = encoded[fitting[position]]
            generations = [self.decode_choice(prompt, choice, sampling) for choice in reply["choices"]]
            yield fitting[position], sampling.repeat(generations)

    def decode_choice(self, prompt: Sequence[int], choice: Mapping[str, Any], sampling: Sampling) -> Generation:
        """Decodes a choice with this backend's tokenizer. The ids of vLLM include the end-of-text token."""
        (text,) = self.decode([[token for token in choice["token_ids"] if token not in self.ends]])
        generation = sampling.truncate(text, choice["finish_reason"])
        return replace(generation, text=self.remove_reasoning(prompt, generation.text))

    def score(self, sequences: Sequence[ScoredSequence], batch_tokens: int) -> Iterator[tuple[int, float]]:
        """Ignores `batch_tokens`: vLLM forms batches itself."""
        requests = [(0, {"prompt": list(sequence.ids), "score_from": sequence.first}) for sequence in sequences]
        for position, reply in self.request(requests):
            yield position, float(reply["loglikelihood"])

    def request(self, requests: Sequence[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, Reply]]:
        """Sends (seed, body) requests, and yields (index, reply) in order of arrival."""
        pending = {}
        for position, (seed, body) in enumerate(requests):
            request_id = next(self.request_ids)
            pending[request_id] = position
            self.worker.write(json.dumps({"number": request_id, "seed": seed, "body": body}).encode() + b"\n")
        while pending:
            reply = self.replies.get()
            if isinstance(reply, LLMError):
                self.fail(reply)  # raise it in the next call too
                raise reply
            if "refused" in reply:
                raise LLMError(f"vLLM rejected a request: {reply['refused']}")
            if reply["number"] in pending:  # others belong to a generator that was not exhausted
                yield pending.pop(reply["number"]), reply

    def receive(self, reply: Reply) -> None:
        self.replies.put(reply)

    def fail(self, error: LLMError) -> None:
        self.replies.put(error)

    def close(self) -> None:
        self.worker.close()


def prompt_seed(prompt: Prompt) -> int:
    """Returns the seed of a prompt's first sample; vLLM increments it for the others."""
    return int.from_bytes(hashlib.blake2b(prompt.key.encode(), digest_size=8).digest(), "big") >> 2
