"""Compares likelihoods of 20 questions with four options with lm-eval in bf16: seconds, peak memory and differences.

Both score the same requests on the same model, each in a process of its own. Without `--model`, the model has the shape
of Gemma 3 270M (a vocabulary of 262,144) and random weights. Then measures one long document's perplexity.

python benchmarks/likelihood.py [--model FOLDER] [--questions 20] [--threads 2]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import mean
from typing import Any

GIB = 2**30
SUBJECTS = ("keeper of the lamp", "second mate of the barque", "clerk in the harbor office", "widow who kept the inn")
ENGINES: dict[str, dict[str, Any]] = {
    "ours": {"engine": "ours"},
    "ours, fp32": {"engine": "ours", "fp32": True},
    "lm-eval, batch 8": {"engine": "lm_eval", "batch": 8},
    "lm-eval, batch 1": {"engine": "lm_eval", "batch": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--measure", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.model, options.questions, options.threads, **options.measure)))
        return
    engines = {name: job for name, job in ENGINES.items() if job["engine"] == "ours" or find_spec("lm_eval")}
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or build_model(Path(folder))
        results = {
            name: run_child(model, options.questions, options.threads, job)
            for name, job in {**engines, "perplexity": {"engine": "perplexity"}}.items()
        }
    perplexity = results.pop("perplexity")
    exact = results["ours, fp32"]["scores"]
    print(
        f"{options.questions} questions of four options, {results['ours']['tokens']:,} tokens, "
        f"{options.threads} threads"
    )
    print(f"{'':18}{'seconds':>9}{'peak GiB':>10}   mean and largest difference from fp32, in nats")
    for name, result in results.items():
        gaps = differences(result["scores"], exact)
        print(f"{name:18}{result['seconds']:>9.2f}{result['peak'] / GIB:>10.2f}   {mean(gaps):.4f}  {max(gaps):.4f}")
    if "lm-eval, batch 8" in results:
        theirs, single = results["lm-eval, batch 8"], results["lm-eval, batch 1"]
        gaps = differences(theirs["scores"], single["scores"])
        print(f"between lm-eval's batch sizes 1 and 8: {mean(gaps):.4f}  {max(gaps):.4f}")
        print(f"ratio of seconds, lm-eval batch 8 to ours: {theirs['seconds'] / results['ours']['seconds']:.1f}")
    else:
        print("no comparison: lm-eval is not installed (pip install 'entigraph[lm-eval]')")
    print(
        f"perplexity of a document of {perplexity['tokens']:,} tokens, windows of 2,048: "
        f"{perplexity['seconds']:.1f} s, peak {perplexity['peak'] / GIB:.2f} GiB"
    )


def run_child(model: Path, questions: int, threads: int, job: dict[str, Any]) -> dict[str, Any]:
    options = ["--model", model, "--questions", questions, "--threads", threads, "--measure", json.dumps(job)]
    command = [sys.executable, __file__, *map(str, options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(
    folder: Path, questions: int, threads: int, engine: str, fp32: bool = False, batch: int = 8
) -> dict[str, Any]:
    """Returns the seconds without loading the model, and the peak memory of this process."""
    import torch

    torch.set_num_threads(threads)
    if engine == "lm_eval":
        result = score_with_lm_eval(folder, questions, batch)
    else:
        from entigraph.evaluation.backends.transformers_backend import TransformersBackend
        from entigraph.evaluation.models_under_test import load_pretrained_tokenizer

        backend = TransformersBackend(str(folder), *load_pretrained_tokenizer(str(folder)), "cpu", not fp32, threads)
        result = (score_document if engine == "perplexity" else score_pairs)(backend, questions)
    return {**result, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def score_pairs(backend: Any, questions: int) -> dict[str, Any]:
    pairs = make_pairs(questions)
    dict(backend.loglikelihoods(pairs[:8], 8192))
    started = time.perf_counter()
    scores = dict(backend.loglikelihoods(pairs, 8192))
    seconds = time.perf_counter() - started
    tokens = sum(len(backend.encode_pair(*pair).ids) for pair in pairs)
    return {"seconds": seconds, "scores": [scores[index] for index in range(len(pairs))], "tokens": tokens}


def score_document(backend: Any, questions: int) -> dict[str, Any]:
    from entigraph.evaluation.tasks.perplexity import Perplexity
    from entigraph.storage.schemas import Document

    ids = backend.encode(" ".join(prompt for prompt, _ in make_pairs(120)))[:6_411]
    document = Document(id="d", title="", text=backend.decode([ids])[0])
    started = time.perf_counter()
    (loss,) = Perplexity(context=2_048).compute_losses([document], backend)
    return {"seconds": time.perf_counter() - started, "tokens": loss.tokens}


def score_with_lm_eval(folder: Path, questions: int, batch: int) -> dict[str, Any]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(folder), dtype="bfloat16", batch_size=batch, device="cpu")

    def loglikelihoods(pairs: Sequence[tuple[str, str]]) -> list[float]:
        requests = [Instance("loglikelihood", {}, pair, index) for index, pair in enumerate(pairs)]
        return [float(score) for score, _ in model.loglikelihood(requests, disable_tqdm=True)]

    pairs = make_pairs(questions)
    loglikelihoods(pairs[:8])
    started = time.perf_counter()
    scores = loglikelihoods(pairs)
    return {"seconds": time.perf_counter() - started, "scores": scores}


def make_pairs(questions: int) -> list[tuple[str, str]]:
    """Returns (prompt, option) pairs with prompts of different lengths."""
    pairs = []
    for number in range(questions):
        subject = SUBJECTS[number % len(SUBJECTS)]
        detail = " after the storm of that winter" * (number % 3)
        prompt = f"Question: What did the {subject} write in ledger number {number}{detail}, and for whom? Answer:"
        options = (f"A list of {number} names.", f"The price of {subject}s.", "Nothing.", "A letter to a brother.")
        pairs += [(prompt, f" {option}") for option in options]
    return pairs


def build_model(folder: Path) -> Path:
    """Saves a model with the shape of Gemma 3 270M and random weights."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

    from entigraph.tokenization.builders import TrainedTokenizer

    TrainedTokenizer(worlds=60).build(folder)
    PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json")).save_pretrained(folder)  # type: ignore[no-untyped-call]
    config = Gemma3TextConfig(
        vocab_size=262_144, hidden_size=640, intermediate_size=2_048, num_hidden_layers=18, num_attention_heads=4,
        num_key_value_heads=1, head_dim=256, query_pre_attn_scalar=256, sliding_window=512,
    )  # fmt: skip
    Gemma3ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def differences(scores: Sequence[float], reference: Sequence[float]) -> list[float]:
    return [abs(score - exact) for score, exact in zip(scores, reference, strict=True)]


if __name__ == "__main__":
    main()
