"""What a plan says of the training runs of a sweep."""

import json
from collections.abc import Callable

import pytest

from entigraph.pipeline.run import Run
from entigraph.pipeline.training_estimate import sweep_training_lines, training_hours, training_lines, training_tokens
from entigraph.training import memory
from tests.pipeline.finished_stages import finish

Configured = Callable[..., Run]
SMALL = ["synthesis.token_budget=12800", "data.context_length=128", "trainer.max_epochs=2", "data.replay_rate=0"]


def finish_training(run: Run, seconds: float) -> None:
    """Finalizes the training of 25,600 tokens in so many seconds, and what it needs."""
    counts = {"vocabulary": 512, "synthetic_tokens": 12_800, "tokens": 25_600, "parameters": 5}
    finish(run, "corpus", "tokenizer", "synthesis", "tokens", "training", **counts)
    manifest = run.artifacts.training.folder / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "seconds": seconds}))


def test_tokens_of_all_epochs_are_counted(configured: Configured) -> None:
    assert training_tokens(configured(*SMALL)) == 2 * 12_800
    assert training_tokens(configured(*SMALL, "tokens.budget=6400")) == 2 * 6_400
    assert training_tokens(configured(*SMALL, "augmenter=raw")) is None, "its texts are not counted yet"


def test_offloading_needs_memory_of_the_cpu(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "nvidia_gpu", lambda: "NVIDIA H200, 143771")
    runs = [configured(*SMALL, "trainer=gpu", "trainer.precision=bf16-mixed", f"seed={seed}") for seed in range(2)]
    offloaded = configured(*SMALL, "trainer=fsdp", "trainer.devices=1", "trainer.cpu_offload=true")
    assert "of CPU memory" in training_lines(offloaded)[0] and "it fits: " in training_lines(offloaded)[-1]
    monkeypatch.setattr(memory, "cpu_memory", lambda: 2.0**20)
    problem = "it will not fit: trainer.cpu_offload needs 0.0 GiB of CPU memory, and this machine has 0.0"
    assert problem in training_lines(offloaded)[-1] and "or a machine with more memory" in training_lines(offloaded)[-1]
    (verdict,) = [line for line in sweep_training_lines([*runs, offloaded]) if " fit" in line]
    assert problem in verdict and verdict.endswith("(1 of 3 models do not fit)")


def test_offloading_on_a_cpu_does_not_leave_its_memory(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    run = configured(*SMALL, "trainer=cpu", "trainer.cpu_offload=true")
    assert "of CPU memory" not in training_lines(run)[0] and "it fits: " in training_lines(run)[-1]
    monkeypatch.setattr(memory, "cpu_memory", lambda: 2.0**20)
    assert "it will not fit: this machine's CPU has room for 0.0 GiB" in training_lines(run)[-1]


def test_throughput_of_finished_runs_gives_the_time(configured: Configured) -> None:
    run = configured(*SMALL)
    assert training_hours(run, 3600.0, []) is None, "too small a model for arithmetic"
    assert training_hours(run, 3600.0, [{"seconds": 10, "counts": {"tokens": 20}}]) == 0.5


def test_models_of_unknown_size_are_counted(configured: Configured) -> None:
    known = configured(*SMALL)
    later = configured(*SMALL, "model=pretrained", f"model.path={known.artifacts.training.folder}/model")
    (disk,) = [line for line in sweep_training_lines([known, later]) if "disk" in line]
    assert "MB for the trained models, and 1 of unknown size; " in disk


def test_lines_cover_the_runs_that_are_not_trained(configured: Configured) -> None:
    runs = [configured(*SMALL, f"seed={seed}") for seed in range(3)]
    finish_training(runs[0], seconds=3600.0)
    assert training_lines(runs[0]) == [] and "parameters" in training_lines(runs[1])[0]
    first, *others = sweep_training_lines(runs)
    assert first.startswith("training: 2 models to train, 51,200 tokens in total")
    assert "  time: about 2.00 h sequentially, 2.00 device-hours" in others
    for run in runs[1:]:
        finish_training(run, seconds=1.0)
    assert list(sweep_training_lines(runs)) == []
