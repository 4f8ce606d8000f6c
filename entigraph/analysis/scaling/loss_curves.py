"""Training and validation loss of a study's runs, from the metrics.jsonl of their training."""

import json
from collections.abc import Sequence
from pathlib import Path

from entigraph.analysis.study_runs import StudyRun, list_augmenters
from entigraph.reporting import figures
from entigraph.reporting.figures import Axes

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
    figure, (panels,) = figures.create_figure(1, len(kinds), figsize=(5.4 * len(kinds), 3.6))
    for axes, kind in zip(panels, kinds, strict=True):
        for index, name in enumerate(list_augmenters(runs)):
            series = [by_kind[kind] for run, by_kind in losses if run.augmenter == name and kind in by_kind]
            draw_series(axes, name, index, series)
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
