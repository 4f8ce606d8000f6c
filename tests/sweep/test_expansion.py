"""Expansion of a sweep into jobs."""

from typing import Any

import pytest
from hydra import compose
from hydra.errors import HydraException
from omegaconf import OmegaConf

from entigraph.errors import ConfigError
from entigraph.sweep.expansion import compose_jobs, expand_jobs, first_job, has_known_jobs

pytestmark = pytest.mark.usefixtures("hydra_app")


def sweep(*overrides: str, target: str = "BasicSweeper", **params: str) -> Any:
    sweeper = {"_target_": f"some.module.{target}", "params": params}
    return OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": {"task": list(overrides)}}})


def test_first_key_varies_slowest() -> None:
    jobs = expand_jobs(sweep("seed=0,1", "augmenter=raw,qa", "x=[1,2]"))
    assert [job[:2] for job in jobs] == [
        ["seed=0", "augmenter=raw"],
        ["seed=0", "augmenter=qa"],
        ["seed=1", "augmenter=raw"],
        ["seed=1", "augmenter=qa"],
    ]
    assert {job[2] for job in jobs} == {"x=[1,2]"}


def test_command_line_replaces_configured_values_in_place() -> None:
    assert expand_jobs(sweep("seed=5", seed="0,1", augmenter="raw,qa")) == [
        ["seed=5", "augmenter=raw"],
        ["seed=5", "augmenter=qa"],
    ]


def test_glob_selects_options_of_a_group() -> None:
    assert expand_jobs(sweep("augmenter=glob(reph*)")) == [["augmenter=rephrase"]]
    with pytest.raises(ConfigError, match=r"augmenter=glob\(zz\*\): matches no option"):
        expand_jobs(sweep("augmenter=glob(zz*)"))


def test_first_job_takes_the_first_value_of_each_key() -> None:
    config = sweep("a=choice(3,4)", "b=range(1,9)", "c=interval(0.5,2)", "d=7", target="OptunaSweeper")
    assert not has_known_jobs(config)
    assert first_job(config) == ["a=3", "b=1", "c=0.5", "d=7"]


JOBS = [
    ["augmenter=raw", "tokens.budget=1000", "seed=0"],
    ["augmenter=raw", "tokens.budget=2000", "seed=1"],
    ["augmenter=rephrase", "tokens.budget=2000", "optim.lr=0.5", "tokens.budget=3000"],
    ["augmenter=rephrase", "data=packed_with_replay", "data.replay=x", "+optim.eps=0.1", "tokenizer.vocab_size=300"],
]


def test_composed_jobs_equal_those_of_hydra(hydra_app: None) -> None:
    assert list(compose_jobs(JOBS)) == [compose("config", overrides=job) for job in JOBS]


@pytest.mark.parametrize("wrong", ["optim.learning_rate=1", "seed=0.5"])
def test_error_of_a_composed_job_is_that_of_hydra(wrong: str, hydra_app: None) -> None:
    with pytest.raises(HydraException) as expected:
        compose("config", overrides=[wrong])
    with pytest.raises(HydraException) as actual:
        list(compose_jobs([[wrong]]))
    assert str(actual.value) == str(expected.value)
