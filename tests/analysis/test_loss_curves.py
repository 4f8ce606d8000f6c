import json
from pathlib import Path

import numpy as np

from entigraph.analysis.scaling.loss_curves import draw_loss_curves, load_losses, measure_loss_changes
from entigraph.analysis.study_runs import StudyRun
from entigraph.storage.artifact import write_json
from tests.analysis.studies import make_run


def test_training_and_validation_loss_are_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path, "raw", 1000, 0, 0.5, np.random.default_rng(0))
    assert load_losses(run) == {}
    draw_loss_curves([run], tmp_path, "")
    assert not (tmp_path / "losses.svg").exists(), "a run without logged losses draws nothing"
    lines = [
        {"step": 1, "tokens_seen": 10, "loss": 3.0, "loss_synthetic": 3.5},
        {"step": 2, "tokens_seen": 20, "loss": 2.0, "loss_synthetic": 2.5},
        {"step": 2, "tokens_seen": 20, "val_loss": 2.75},
    ]
    metrics = run.folder("training") / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert load_losses(run) == {"loss_synthetic": [(10, 3.5), (20, 2.5)], "val_loss": [(20, 2.75)]}
    draw_loss_curves([run], tmp_path, "a note")
    figure = (tmp_path / "losses.svg").read_text()
    assert "Training loss on synthetic tokens" in figure and "Validation loss" in figure and "a note" in figure


def test_losses_of_answers_are_no_perplexities(tmp_path: Path) -> None:
    run = make_run(tmp_path, "raw", 1000, 0, 0.5, np.random.default_rng(0))
    losses = {"answer_loss": {"nats_per_answer": 9.0, "bits_per_byte": 0.7}, "background": {"nats_per_token": 2.0}}
    losses["background"]["bits_per_byte"] = 0.9
    write_json(run.folder("evaluation") / "scores.json", {**run.scores, **losses})
    (change,) = measure_loss_changes([StudyRun(run.root, run.entry)])
    assert (change["task"], change["bits_per_byte"]) == ("background", 0.9)
