"""Compares samples per second of engine=vllm with vLLM's `LLM.generate`: same model, prompts, settings and machine.

python benchmarks/vllm_engine.py [--python .venv-vllm/bin/python] [--questions 16] [--samples 8] [--rounds 12]

Both start first (make vllm-env creates the environment) and run a warm-up round. Then they alternate, with new
questions and swapped order in each round. Ours encodes and decodes here and exchanges tokens with another process.
This file also runs the `LLM.generate` side, in the Python that has vLLM.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

# On CPUs, vLLM crashes with chunked prefill and seeded sampling.
SETTINGS = {"dtype": "float32", "max_model_len": 4096, "gpu_memory_utilization": 0.1}
ARGUMENTS = {"enable_chunked_prefill": False}
CONCURRENCY = 256
DIRECT = "--direct"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--python", default=".venv-vllm/bin/python")
    arguments.add_argument("--questions", type=int, default=16)
    arguments.add_argument("--samples", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=12)
    options = arguments.parse_args()
    from evaluation import make_question, save_model

    from entigraph.evaluation.base import Prompt, Sampling
    from entigraph.evaluation.models_under_test import LocalModel, VllmEngine
    from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    sampling = Sampling(samples=options.samples, temperature=1.0, max_tokens=options.tokens)
    engines = VllmEngine(python=options.python, concurrency=CONCURRENCY, arguments=ARGUMENTS, **SETTINGS)
    with tempfile.TemporaryDirectory() as temporary:
        model, log = Path(temporary) / "model", Path(temporary) / "vllm.log"
        model.mkdir()
        save_model(model)
        subject = LocalModel(str(model), "auto", 1, model, None, engines, log)
        with subject.connect(print) as engine, DirectVLLM(options.python, model, options) as direct:
            seconds: dict[str, list[float]] = {"engine=vllm": [], "LLM.generate": []}
            for number in range(options.rounds + 1):
                questions = [make_question(number * options.questions + index) for index in range(options.questions)]
                prompts = [Prompt(question.id, ClosedBookCoT().build_prompt(question)) for question in questions]
                turns = {
                    "engine=vllm": lambda prompts=prompts: timed(lambda: list(engine.sample(prompts, sampling))),
                    "LLM.generate": lambda prompts=prompts: direct.seconds([prompt.text for prompt in prompts]),
                }
                for name in sorted(turns, reverse=bool(number % 2)):
                    took = turns[name]()
                    if number:
                        seconds[name].append(took)
    texts = options.questions * options.samples
    print(f"{texts} samples of {options.tokens} tokens per round, {options.rounds} alternating rounds, medians")
    for name, values in seconds.items():
        print(f"{name:14}{texts / median(values):>8.2f} samples/s   {min(values):.2f} to {max(values):.2f} s per round")
    ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    print(f"engine=vllm / LLM.generate: {median(ratios):.2f} (median of the ratios per round)")


class DirectVLLM:
    """A process that runs `LLM.generate` in the environment that has vLLM."""

    def __init__(self, python: str, model: Path, options: argparse.Namespace) -> None:
        settings = {"model": str(model), "samples": options.samples, "tokens": options.tokens}
        self.process = subprocess.Popen(
            [python, __file__, DIRECT, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # as ours, so that its processes end together and are scheduled alike
        )

    def __enter__(self) -> "DirectVLLM":
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def seconds(self, texts: list[str]) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def serve_direct(settings: dict[str, Any]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints to stdout
    from vllm import LLM, SamplingParams

    llm = LLM(settings["model"], max_num_seqs=CONCURRENCY, enable_prefix_caching=True, **SETTINGS, **ARGUMENTS)
    for line in sys.stdin:
        texts = json.loads(line)
        shared = {"n": settings["samples"], "temperature": 1.0, "max_tokens": settings["tokens"], "ignore_eos": True}
        params = [SamplingParams(**shared, seed=1000 * number) for number in range(len(texts))]
        took = timed(lambda texts=texts, params=params: llm.generate(texts, params, use_tqdm=False))
        answers.write(f"{took}\n")
        answers.flush()


def timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    if sys.argv[1:2] == [DIRECT]:
        serve_direct(json.loads(sys.argv[2]))
    else:
        main()
