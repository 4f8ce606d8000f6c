"""How training changed a model's loss on other text: evaluation=perplexity before and after, document by document."""

from collections.abc import Mapping, Sequence
from math import log, sqrt
from typing import Any

import numpy as np

from entigraph.analysis.study_runs import StudyRun
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import DocumentLoss


def measure_loss_changes(runs: Sequence[StudyRun]) -> list[dict[str, Any]]:
    """Returns one entry per run and perplexity task; `change` is in bits per byte, with its paired standard error."""
    return [
        {
            "task": task,
            "augmenter": run.augmenter,
            "synthetic_tokens": run.synthetic_tokens,
            "seed": run.seed,
            "nats_per_token": score["nats_per_token"],
            "bits_per_byte": score["bits_per_byte"],
            **compare_with_base(run, task),
        }
        for run in runs
        for task, score in run.scores.items()
        if "bits_per_byte" in score
    ]


def compare_with_base(run: StudyRun, task: str) -> dict[str, Any]:
    """Returns an empty dictionary for a run that started from random weights."""
    start = (run.base_model_scores or {}).get(task)
    if start is None:
        return {}
    after, before = (
        {loss.document_id: loss for loss in read_jsonl(run.folder(stage) / f"losses-{task}.jsonl", DocumentLoss)}
        for stage in ("evaluation", "baseline")
    )
    change = np.array([after[name].nats - before[name].nats for name in after]) / log(2)
    size = np.array([float(loss.bytes) for loss in after.values()])
    ratio, count = change.sum() / size.sum(), len(size)
    stderr = None
    if count > 1:
        stderr = float(sqrt(count / (count - 1) * ((change - ratio * size) ** 2).sum()) / size.sum())
    return {
        "start": {key: start[key] for key in ("nats_per_token", "bits_per_byte")},
        "change": float(ratio),
        "change_stderr": stderr,
    }


def loss_change_lines(changes: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for entry in changes:
        name = f"{entry['task']}, {entry['augmenter']} at {entry['synthetic_tokens']:,}, seed {entry['seed']}"
        if "start" not in entry:
            lines.append(f"{name}: {entry['bits_per_byte']:.4f} bits per byte")
            continue
        stderr = f" ± {entry['change_stderr']:.4f} s.e." if entry["change_stderr"] is not None else ""
        lines.append(
            f"{name}: {entry['start']['bits_per_byte']:.4f} bits per byte before, {entry['bits_per_byte']:.4f} after "
            f"({entry['change']:+.4f}{stderr})"
        )
    return lines
