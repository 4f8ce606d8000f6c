"""What training did to a model's losses on other text: evaluation=perplexity before and after, document by document."""

from collections.abc import Sequence
from math import log, sqrt
from typing import Any

import numpy as np

from entigraph.analysis.study_runs import FinishedRun
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import DocumentLoss


def losses(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """One for each run and corpus of text; `change` in bits per byte with the error of the paired documents."""
    return [
        {
            "task": task,
            "augmenter": run.augmenter,
            "synthetic_tokens": run.synthetic_tokens,
            "seed": run.seed,
            "nats_per_token": score["nats_per_token"],
            "bits_per_byte": score["bits_per_byte"],
            **against_the_start(run, task),
        }
        for run in runs
        for task, score in run.scores.items()
        if "bits_per_byte" in score
    ]


def against_the_start(run: FinishedRun, task: str) -> dict[str, Any]:
    """Empty for a run that began with random weights."""
    start = (run.baseline or {}).get(task)
    if start is None:
        return {}
    after, before = (
        {loss.document_id: loss for loss in read_jsonl(run.folder(part) / f"losses-{task}.jsonl", DocumentLoss)}
        for part in ("evaluation", "baseline")
    )
    change = np.array([after[name].nats - before[name].nats for name in after]) / log(2)
    size = np.array([float(loss.bytes) for loss in after.values()])
    ratio, count = change.sum() / size.sum(), len(size)
    error = None
    if count > 1:
        error = float(sqrt(count / (count - 1) * ((change - ratio * size) ** 2).sum()) / size.sum())
    return {
        "start": {key: start[key] for key in ("nats_per_token", "bits_per_byte")},
        "change": float(ratio),
        "change_stderr": error,
    }


def told(found: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for one in found:
        name = f"{one['task']}, {one['augmenter']} at {one['synthetic_tokens']:,}, seed {one['seed']}"
        if "start" not in one:
            lines.append(f"{name}: {one['bits_per_byte']:.4f} bits a byte")
            continue
        error = f" ± {one['change_stderr']:.4f} s.e." if one["change_stderr"] is not None else ""
        lines.append(
            f"{name}: {one['start']['bits_per_byte']:.4f} bits a byte before, {one['bits_per_byte']:.4f} after "
            f"({one['change']:+.4f}{error})"
        )
    return lines
