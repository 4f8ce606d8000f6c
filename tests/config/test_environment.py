"""Values of environment variables, which may be secrets: components receive them; files and trackers do not."""

import json
from collections.abc import Callable

import pytest

from entigraph.pipeline.run import Run
from entigraph.pipeline.run_tracking import job_info
from entigraph.pipeline.study import study_settings
from entigraph.training.component_nodes import build_callbacks, resolved_nodes

Configured = Callable[..., Run]
STOP = "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: '${oc.env:TOKEN}'}"


def test_secrets_reach_components_but_no_file_or_tracker(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "tok_1")
    run = configured(STOP, "study.name=${callbacks.stop.monitor}-x", '+trainer.max_steps="${oc.decode:${oc.env:N,7}}"')
    nodes = resolved_nodes(run.config)  # what the ranks of a training read from a file
    assert [callback.monitor for callback in build_callbacks(nodes) if hasattr(callback, "monitor")] == ["tok_1"]
    assert run.trainer.max_steps == 7
    stored = [run.artifacts.training.cache_key, study_settings(run), nodes, job_info(run).config]
    assert not [value for value in stored if "tok_1" in json.dumps(value, default=str)]
    assert job_info(run).config["study"]["name"] == "${oc.env:TOKEN}-x" and "logger" not in job_info(run).config


def test_cache_keys_follow_the_values_of_environment_variables(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    rate = 'optim.lr="${oc.decode:${oc.env:RATE,0.01}}"'
    default = configured(rate).artifacts.training
    monkeypatch.setenv("RATE", "0.01")
    assert configured(rate).artifacts.training.folder == default.folder
    monkeypatch.setenv("RATE", "0.02")
    assert configured(rate).artifacts.training.folder != default.folder
