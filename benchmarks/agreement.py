"""Compares accuracy by likelihood with lm-evaluation-harness, question by question.

python benchmarks/agreement.py [--steps 1500] [--limit 300] [--model FOLDER] (pip install 'entigraph[lm-eval]')

Without `--model`, a small model is trained on three worlds for some minutes and evaluated on questions that its texts
answer (`seen`) and do not answer (`held_out`). With `--model`, an existing model folder answers the same questions.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.models_under_test import load_pretrained_tokenizer
from entigraph.evaluation.tasks.closed_book import ClosedBook
from entigraph.evaluation.tasks.lm_eval_harness import adapter
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer, Question

TASK = """\
task: ours
dataset_path: json
dataset_kwargs: {{data_files: {{test: {items}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{text}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
TINY = ["corpus.worlds=3", "tokenizer.worlds=20", "tokenizer.vocab_size=512", "logger=none"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--steps", type=int, default=1500)
    arguments.add_argument("--limit", type=int, default=300, help="questions per split")
    arguments.add_argument("--model", type=Path)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ |= {"HF_DATASETS_CACHE": f"{temporary}/cache", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        root = Path(temporary) / "outputs"
        run("stage=corpus" if options.model else "run", root, options.steps)
        model = options.model or next(root.glob("training/*/model"))
        tokenizer, bos_id = load_pretrained_tokenizer(str(model))
        engine = TransformersBackend(str(model), tokenizer, bos_id, "cpu", bf16=False, threads=1)
        (file,) = root.glob("corpus/*/questions.jsonl")
        for split in ("seen", "held_out"):
            # The harness has no intermediate generation step, so the questions are asked without one.
            items = [
                replace(question, thought=False) for question in read_jsonl(file, Question) if question.split == split
            ]
            compare(split, items[: options.limit], engine, Path(temporary))


def run(command_or_stage: str, root: Path, steps: int) -> None:
    command = [sys.executable, "-m", "entigraph", command_or_stage, "experiments=base/fictional", *TINY]
    command += [f"paths.root={root}", f"trainer.max_steps={steps}", "evaluation=none"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compare(split: str, items: Sequence[Question], engine: TransformersBackend, folder: Path) -> None:
    ours = list(ClosedBook().answers(items, engine))
    harness_scores, metrics = harness(items, engine, folder)
    choices = [(best(scores, items[index].choices, False), best(scores, items[index].choices, True))
               for index, scores in enumerate(harness_scores)]  # fmt: skip
    for name, index in (("acc", 0), ("acc_norm", 1)):
        key = "choice" if name == "acc" else "choice_norm"
        chosen = [getattr(answer, key) for answer in ours]
        same = sum(one == other[index] for one, other in zip(chosen, choices, strict=True))
        right = sum(one == item.answer for one, item in zip(chosen, items, strict=True)) / len(items)
        print(
            f"{split:9} {name:9} ours {right:.4f}, harness {metrics[f'{name},none']:.4f}; "
            f"the same choice for {same:,} of {len(items):,} questions"
        )
    largest = max(gap(answer, scores) for answer, scores in zip(ours, harness_scores, strict=True))
    print(f"{split:9} largest difference of a log-likelihood: {largest:.1e} nats")


def gap(answer: Answer, scores: Sequence[float]) -> float:
    return max(abs(one - other) for one, other in zip(answer.scores, scores, strict=True))


def harness(items: Sequence[Question], engine: TransformersBackend, folder: Path) -> tuple[list[list[float]], Any]:
    """Returns the log-likelihoods of each item, and the metrics of the harness."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tasks = Path(tempfile.mkdtemp(dir=folder))
    rows = [{"text": item.text, "choices": list(item.choices), "answer": item.answer} for item in items]
    (tasks / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tasks / "ours.yaml").write_text(TASK.format(items=tasks / "items.jsonl"))
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    results = simple_evaluate(adapter(engine, 8), tasks=["ours"], task_manager=manager, bootstrap_iters=0)
    samples = sorted(results["samples"]["ours"], key=lambda sample: sample["doc_id"])
    return [[float(score) for score, _ in sample["filtered_resps"]] for sample in samples], results["results"]["ours"]


def best(scores: Sequence[float], choices: Sequence[str], by_length: bool) -> int:
    """Returns the choice of the harness: the highest log-likelihood, per character for acc_norm."""
    values = [score / (len(choice) if by_length else 1) for score, choice in zip(scores, choices, strict=True)]
    return values.index(max(values))


if __name__ == "__main__":
    main()
