"""The trainer's arguments are those of the installed lightning.Trainer."""

import inspect
from dataclasses import fields

import lightning as L
import pytest

from entigraph.errors import ConfigError
from entigraph.training.trainer import ADDITIONAL, TrainerSettings

LEFT_OUT = {
    "strategy",
    "callbacks",
    "logger",
    "plugins",
    "use_distributed_sampler",
    "default_root_dir",
    "barebones",
    "model_registry",
}


def test_settings_cover_lightnings_arguments() -> None:
    ours = {field.name for field in fields(TrainerSettings)}
    lightnings = set(inspect.signature(L.Trainer.__init__).parameters) - {"self"}
    assert ours - set(ADDITIONAL) == lightnings - LEFT_OUT


def test_accumulation_divides_the_batch() -> None:
    assert TrainerSettings(micro_batch_size=2).accumulation(8) == 4
    assert TrainerSettings(accumulate_grad_batches=4).accumulation(8) == 4
    with pytest.raises(ConfigError, match="accumulate_grad_batches: 3 does not divide"):
        TrainerSettings(accumulate_grad_batches=3).accumulation(8)
    with pytest.raises(ConfigError, match="set one of them"):
        TrainerSettings(micro_batch_size=2, accumulate_grad_batches=4).accumulation(8)
