"""The part of vLLM that the worker uses, without a model: answers are a function of the prompt and the seed.

A prompt that contains REFUSE is rejected, and one with DIE ends the engine. Each step takes STAND_IN_STEP_S seconds.
Every request, and the batch size of every step, is logged to the file STAND_IN_LOG. Tokens are characters, and the
log-likelihood of each is its negative code point: -97 for an "a".
"""

import os
import time
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import SamplingParams

__all__ = ["LLM", "SamplingParams"]
__version__ = "stand-in"
STEPS = range(3, 11)  # per answer


class EngineDeadError(Exception):
    pass


class Tokenizer:
    chat_template = os.environ.get("STAND_IN_TEMPLATE", "yes") or None

    def apply_chat_template(self, messages: list[dict[str, str]], **options: Any) -> list[int]:
        return list("".join(message["content"] for message in messages).encode())


class Engine:
    model_config = SimpleNamespace(get_diff_sampling_param=lambda: {"top_p": 0.9})

    def __init__(self, most: int) -> None:
        self.most = most
        self.running: dict[str, list[Any]] = {}

    def add_request(self, number: str, prompt: dict[str, list[int]], sampling: SamplingParams) -> None:
        text = "".join(map(chr, prompt["prompt_token_ids"]))
        if "REFUSE" in text:
            raise ValueError("longer than the context")
        if "DIE" in text:
            raise EngineDeadError("the card fell off")
        self.running[number] = [text, sampling, 0]
        note("took", text[-40:])

    def step(self) -> list[Any]:
        note("step", len(self.running))
        time.sleep(float(os.environ.get("STAND_IN_STEP_S", "0.001")))
        result = []
        for number, state in list(self.running.items())[: self.most]:
            state[2] += 1
            if state[2] == STEPS[state[1].given.get("seed", 0) % len(STEPS)]:
                result.append(self.output(number, *state[:2]))
                del self.running[number]
        return result

    def output(self, number: str, text: str, sampling: SamplingParams) -> Any:
        schema = sampling.given.get("structured_outputs")
        written = '{"summary": "Of lamps.", "entities": ["Orsk", "Vale"]}' if schema else f"On {text[-40:]}"
        first = sampling.given.get("seed", 0)
        seeds = range(first, first + sampling.given.get("n", 1))
        if allowed := sampling.given.get("allowed_token_ids"):
            answers = [an_answer(chr(allowed[0]))]
        else:
            answers = [an_answer(written + ("" if schema else f" ({seed})")) for seed in seeds]
        prompt = [*map(ord, text)]
        return SimpleNamespace(
            request_id=number,
            finished=True,
            outputs=answers,
            prompt_token_ids=prompt,
            num_cached_tokens=7,
            prompt_logprobs=[likely(token) for token in prompt] if "prompt_logprobs" in sampling.given else None,
        )


def an_answer(text: str) -> Any:
    ids = [*map(ord, text)]
    return SimpleNamespace(text=text, finish_reason="stop", token_ids=ids, logprobs=[likely(token) for token in ids])


def likely(token: int) -> dict[int, Any]:
    return {token: SimpleNamespace(logprob=-float(token))}


def note(what: str, value: Any) -> None:
    with open(os.environ["STAND_IN_LOG"], "a") as log:
        log.write(f"{what}\t{value!r}\n")


class LLM:
    def __init__(self, **arguments: Any) -> None:
        print("vLLM prints where it likes")
        note("gpus", os.environ.get("CUDA_VISIBLE_DEVICES"))
        self.llm_engine = Engine(arguments["max_num_seqs"])

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()
