"""Losses of a study's runs: in training, from its metrics.jsonl, and on other text (evaluation=perplexity) before and
after it, document by document.
"""

import json
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import ratio_of_sums
from entigraph.analysis.study_runs import StudyRun, list_augmenters
from entigraph.reporting import figures
from entigraph.reporting.figures import Axes
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import DocumentLoss

METRICS = "metrics.jsonl"
Losses = Sequence[tuple[int, float]]  # tokens seen, nats per token
LOSSES = {"loss_synthetic": "training loss on synthetic tokens", "val_loss": "validation loss"}


def load_losses(run: StudyRun) -> dict[str, Losses]:
    """Returns (tokens seen, loss) for each loss that the run logged."""
    file = run.folder("training") / METRICS
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    losses: dict[str, Losses] = {
        key: [(line["tokens_seen"], line[key]) for line in lines if key in line] for key in LOSSES
    }
    return {key: values for key, values in losses.items() if values}


def draw_loss_curves(runs: Sequence[StudyRun], out: Path, note: str) -> None:
    """Writes losses.png and losses.svg, one panel per kind of loss and one line per run; nothing without losses."""
    losses = [(run, load_losses(run)) for run in runs]
    kinds = [kind for kind in LOSSES if any(kind in by_kind for _, by_kind in losses)]
    if not kinds:
        return
    names = sorted(list_augmenters(runs))  # which determine the colors, as in the figure of the curve
    figure, (panels,) = figures.create_figure(1, len(kinds), figsize=(5.4 * len(kinds), 3.6))
    for axes, kind in zip(panels, kinds, strict=True):
        for name in list_augmenters(runs):
            series = [by_kind[kind] for run, by_kind in losses if run.augmenter == name and kind in by_kind]
            draw_series(axes, name, names.index(name), series)
        axes.set_xlabel("tokens seen in training")
        axes.set_title(LOSSES[kind].capitalize(), fontsize=9)
        axes.legend(frameon=False, fontsize=8)
        figures.format_count_axis(axes)
    panels[0].set_ylabel("nats per token")
    figures.save_figure(figure, out, "losses", note)


def draw_series(axes: Axes, name: str, index: int, losses: Sequence[Losses]) -> None:
    color, _ = figures.series_style(name, index)
    for number, values in enumerate(losses):
        tokens, nats = zip(*values, strict=True)
        label = None if number else figures.display_name(name)
        axes.plot(tokens, nats, color=color, linewidth=0.9, alpha=0.8, label=label)


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
        if "nats_per_token" in score  # not every loss in bits per byte is a perplexity
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
    ratio, stderr = ratio_of_sums(change, size)
    losses = {key: start[key] for key in ("nats_per_token", "bits_per_byte")}
    return {"start": losses, "change": ratio, "change_stderr": stderr}


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
