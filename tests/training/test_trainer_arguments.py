"""The trainer's arguments are those of the installed lightning.Trainer."""

import inspect
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import lightning as L
import pytest
import torch

from entigraph.errors import ConfigError
from entigraph.training.trainer import TrainerSettings, check_attention

LEFT_OUT = {
    "strategy": "exact resume needs ours",
    "callbacks": "a config group",
    "logger": "a config group",
    "plugins": "follow from the launcher",
    "use_distributed_sampler": "the data schedule divides batches",
    "default_root_dir": "the artifact's folder",
    "barebones": "disables callbacks and loggers",
    "model_registry": "checkpoints are in the artifact's folder",
    "enable_checkpointing": "follows from callbacks, which cannot contain a checkpoint if it is false",
    "inference_mode": "applies to validate, test and predict, not to fit",
    "limit_test_batches": "nothing is tested by Lightning",
    "limit_predict_batches": "nothing is predicted by Lightning",
    "check_val_every_n_epoch": "Lightning sees one epoch, so that 2 would disable validation",
}


def test_settings_cover_lightnings_arguments() -> None:
    ours = {field.name for field in fields(TrainerSettings)}
    lightnings = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert ours & lightnings == lightnings - {*LEFT_OUT}


def test_documentation_lists_the_arguments_that_are_left_out() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    assert [name for name in LEFT_OUT if f"`{name}`" not in page] == []


def test_accumulation_divides_the_batch() -> None:
    assert TrainerSettings(micro_batch_size=2).accumulation(8) == 4
    assert TrainerSettings(accumulate_grad_batches=4).accumulation(8) == 4
    with pytest.raises(ConfigError, match="accumulate_grad_batches: 3 does not divide"):
        TrainerSettings(accumulate_grad_batches=3).accumulation(8)
    with pytest.raises(ConfigError, match="set one of them"):
        TrainerSettings(micro_batch_size=2, accumulate_grad_batches=4).accumulation(8)


@pytest.mark.skipif(torch.cuda.is_available() or find_spec("kernels") is not None, reason="may be available")
def test_flash_attention_needs_a_package_and_16_bits() -> None:
    check_attention("sdpa")
    with pytest.raises(ConfigError, match="needs a GPU and the package flash-attn or kernels"):
        check_attention("flash_attention_2")
    with pytest.raises(ConfigError, match="needs 16-bit weights, got trainer.precision=32-true"):
        TrainerSettings(attention="flash_attention_2", precision="32-true")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit_train_batches", 2.5),
        ("limit_val_batches", "foo"),
        ("overfit_batches", -1),
        ("val_check_interval", 5.0),
        ("val_check_interval", "foo"),
        ("fast_dev_run", "foo"),
        ("max_time", "foo"),
        ("max_time", {"days": "one"}),
        ("deterministic", "banana"),
        ("profiler", "foo"),
        ("num_sanity_val_steps", -2),
        ("reload_dataloaders_every_n_epochs", -1),
    ],
)
def test_argument_that_lightning_would_reject_is_an_error(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^trainer\.{name} must be"):
        TrainerSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "arguments",
    [
        {"limit_train_batches": 0.5, "limit_val_batches": 0, "num_sanity_val_steps": -1, "deterministic": "warn"},
        {"overfit_batches": 2, "fast_dev_run": True, "max_time": "00:12:00:00", "val_check_interval": 1.0},
        {"fast_dev_run": 3, "max_time": {"hours": 2, "minutes": 30}, "val_check_interval": 7, "deterministic": True},
    ],
)
def test_valid_arguments_are_those_that_lightning_accepts(arguments: dict[str, object]) -> None:
    settings = TrainerSettings(**arguments)  # type: ignore[arg-type]
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        passed = settings.lightning_arguments(inspect.signature(L.Trainer.__init__).parameters)
        L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **passed)
    finally:
        torch.use_deterministic_algorithms(deterministic)
