"""Compares 5-shot samples per second of the engine, which encodes the examples once, with transformers' `generate`.

Then measures the peak memory of an evaluation at QuALITY's size (4,609 questions, 64 samples, report included) with a
model that answers immediately, and compares it with a quarter of the questions and with the size of the samples.

python benchmarks/evaluation.py [--questions 3] [--samples 8] [--tokens 32]
"""

import argparse
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from entigraph.evaluation import evaluation_report, stage
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Generation, Prompt, Sampling, TaskInputs
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, Question
from entigraph.tokenization.builders import TrainedTokenizer

QUESTIONS, SAMPLES, SAMPLE = 4_609, 64, 500  # questions of QuALITY, samples of the paper, characters per sample
DOCUMENTS = 265
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--questions", type=int, default=3)
    arguments.add_argument("--samples", type=int, default=8)
    arguments.add_argument("--tokens", type=int, default=32)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        engine = build_engine(Path(folder))
    prompts = [
        Prompt(str(number), ClosedBookCoT().build_prompt(make_question(number))) for number in range(options.questions)
    ]
    lengths = [len(engine.encode(prompt.text)) for prompt in prompts]
    sampling = Sampling(samples=options.samples, temperature=1.0, max_tokens=options.tokens)
    ours = timed(lambda: list(engine.sample(prompts, sampling)))
    theirs = timed(lambda: generate(engine, prompts, options.samples, options.tokens))
    texts = options.questions * options.samples
    print(f"{texts} samples of {options.tokens} tokens, prompts of {min(lengths)} to {max(lengths)} tokens, {DEVICE}")
    print(f"{'engine':12}{texts / ours:>8.2f} samples/s")
    print(f"{'generate':12}{texts / theirs:>8.2f} samples/s")
    print(f"ratio: {theirs / ours:.1f}")
    quarter, full = (peak_megabytes(count) for count in (QUESTIONS // 4, QUESTIONS))
    print(f"\npeak memory of {QUESTIONS // 4:,} questions of {SAMPLES} samples: {quarter:,.0f} MB; ", end="")
    print(f"of {QUESTIONS:,}: {full:,.0f} MB; their samples are {QUESTIONS * SAMPLES * SAMPLE / 1e6:,.0f} MB")


def build_engine(folder: Path) -> TransformersBackend:
    from tokenizers import Tokenizer

    save_model(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return TransformersBackend(str(folder), tokenizer, None, DEVICE, bf16=False, threads=1)


def save_model(folder: Path) -> None:
    """Saves a model with 21M random weights. No token ends a text."""
    vocabulary = TrainedTokenizer(worlds=60).build(folder)["vocabulary"]
    shape = {"hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 6, "num_attention_heads": 8}
    config = LlamaConfig(
        vocab_size=vocabulary, num_key_value_heads=4, max_position_embeddings=8192, eos_token_id=None, **shape
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def make_question(number: int, document: str = "d") -> Question:
    choices = [f"It was the choice of number {letter}." for letter in "1234"]
    text = f"What did the keeper of lamp number {number} write {'again ' * (number % 3)}in the ledger?"
    return Question(id=str(number), document_id=document, text=text, choices=choices, answer=0, group="g")


class InstantBackend:
    """A model that answers immediately."""

    likelihoods = False

    @contextmanager
    def connect(self, say: Any) -> "Iterator[InstantBackend]":
        yield self

    def sample(self, prompts: list[Prompt], sampling: Sampling) -> Iterator[tuple[int, list[Generation]]]:
        for index, prompt in enumerate(prompts):
            thoughts = (f"{prompt.key} {number} ".ljust(SAMPLE - 13, "m") for number in range(sampling.samples))
            yield index, [Generation(f"{thought}\nAnswer: {'ABCD'[index % 4]}.\n") for thought in thoughts]


def peak_megabytes(count: int) -> float:
    questions = [make_question(number, f"d{number % DOCUMENTS}") for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        source = TaskInputs(Path(folder) / "questions.jsonl", Path(folder) / "documents.jsonl")
        write_jsonl(source.questions, questions)
        names = (f"d{number}" for number in range(DOCUMENTS))
        write_jsonl(source.documents, (Document(id=name, title=name, text="") for name in names))
        del questions
        tracemalloc.start()
        tasks, sources = {"cot": ClosedBookCoT(samples=SAMPLES)}, {"cot": source}
        stage.run(InstantBackend(), Path(folder), tasks=tasks, inputs=sources)  # type: ignore[arg-type]
        evaluation_report.write(Path(folder), sources, name="memory")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak / 1e6


def generate(engine: TransformersBackend, prompts: list[Prompt], samples: int, tokens: int) -> None:
    """Generates all samples of a question in one batch, for which `generate` encodes the whole prompt."""
    for prompt in prompts:
        ids = torch.tensor([engine.encode(prompt.text)], device=DEVICE)
        options = {"max_new_tokens": tokens, "do_sample": True, "top_k": 0, "num_return_sequences": samples}
        engine.model.generate(ids, attention_mask=torch.ones_like(ids), eos_token_id=None, pad_token_id=0, **options)


def timed(work) -> float:  # type: ignore[no-untyped-def]
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
