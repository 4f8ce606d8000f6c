"""Samples a second of engine=vllm beside vLLM's own `LLM.generate`: same model, prompts, settings, machine and run.

python benchmarks/vllm_engine.py [--python .venv-vllm/bin/python] [--questions 16] [--samples 8] [--rounds 12]

Both start first (make vllm-env makes the environment), and answer a round that does not count; then they take turns,
each round on questions of its own and begun by the other. Ours reads and writes tokens here and sends them to another
process and back. This file is also that of the rival, which the Python with vLLM runs.
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

# vLLM on CPUs ends at a prompt that is read in parts and drawn from with a seed.
SETTINGS = {"dtype": "float32", "max_model_len": 4096, "gpu_memory_utilization": 0.1}
ARGUMENTS = {"enable_chunked_prefill": False}
CONCURRENCY = 256
RIVAL = "--rival"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--python", default=".venv-vllm/bin/python")
    arguments.add_argument("--questions", type=int, default=16)
    arguments.add_argument("--samples", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=32)
    arguments.add_argument("--rounds", type=int, default=12)
    asked = arguments.parse_args()
    from evaluation import a_model, a_question

    from entigraph.evaluation.base import Prompt, Sampling
    from entigraph.evaluation.models_under_test import LocalModel, Vllm
    from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT

    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    sampling = Sampling(samples=asked.samples, temperature=1.0, max_tokens=asked.tokens)
    engines = Vllm(python=asked.python, concurrency=CONCURRENCY, arguments=ARGUMENTS, **SETTINGS)
    with tempfile.TemporaryDirectory() as temporary:
        model, log = Path(temporary) / "model", Path(temporary) / "vllm.log"
        model.mkdir()
        a_model(model)
        subject = LocalModel(str(model), "auto", 1, model, None, engines, log)
        with subject.connect(print) as engine, Rival(asked.python, model, asked) as rival:
            seconds: dict[str, list[float]] = {"engine=vllm": [], "LLM.generate": []}
            for number in range(asked.rounds + 1):
                questions = [a_question(number * asked.questions + each) for each in range(asked.questions)]
                prompts = [Prompt(question.id, ClosedBookCoT().prompt(question)) for question in questions]
                turns = {
                    "engine=vllm": lambda prompts=prompts: timed(lambda: list(engine.sample(prompts, sampling))),
                    "LLM.generate": lambda prompts=prompts: rival.seconds([prompt.text for prompt in prompts]),
                }
                for name in sorted(turns, reverse=bool(number % 2)):
                    took = turns[name]()
                    if number:
                        seconds[name].append(took)
    texts = asked.questions * asked.samples
    print(f"{texts} samples of {asked.tokens} tokens a round, {asked.rounds} rounds by turns, medians")
    for name, found in seconds.items():
        print(f"{name:14}{texts / median(found):>8.2f} samples/s   {min(found):.2f} to {max(found):.2f} s a round")
    ratios = [theirs / ours for ours, theirs in zip(*seconds.values(), strict=True)]
    print(f"engine=vllm takes {median(ratios):.2f} times as many as LLM.generate (median of the rounds' ratios)")


class Rival:
    """`LLM.generate` in the environment that has vLLM, started."""

    def __init__(self, python: str, model: Path, asked: argparse.Namespace) -> None:
        settings = {"model": str(model), "samples": asked.samples, "tokens": asked.tokens}
        self.process = subprocess.Popen(
            [python, __file__, RIVAL, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # as ours: its processes are ended together, and the system shares alike
        )

    def __enter__(self) -> "Rival":
        return self

    def __exit__(self, *raised: object) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def seconds(self, texts: list[str]) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(texts) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def be_rival(settings: dict[str, Any]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints there
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
    if sys.argv[1:2] == [RIVAL]:
        be_rival(json.loads(sys.argv[2]))
    else:
        main()
