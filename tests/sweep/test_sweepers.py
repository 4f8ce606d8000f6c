"""Sweepers other than Hydra's basic one: jobs are chosen from the results of earlier jobs."""

import json
from pathlib import Path

import pytest

from tests.conftest import TINY, Command

PLUGIN = """
import json
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

NODE = {"_target_": "hydra_plugins.greedy.GreedySweeper"}
ConfigStore.instance().store(group="hydra/sweeper", name="greedy", node=NODE)


class GreedySweeper(Sweeper):
    '''Runs the first value of the swept key, then the second, and stops; writes what each job returned.'''

    def setup(self, *, hydra_context, task_function, config):
        self.folder = config.hydra.sweep.dir
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        parsed = OverridesParser.create().parse_overrides(arguments)
        fixed = [override.input_line for override in parsed if not override.is_sweep_override()]
        (swept,) = [override for override in parsed if override.is_sweep_override()]
        results = []
        for number, value in zip(range(2), swept.sweep_string_iterator()):
            job = [*fixed, f"{swept.get_key_element()}={value}"]
            (returned,) = self.launcher.launch([job], initial_job_idx=number)
            results.append(returned.return_value)
        with open(f"{self.folder}/optimization_results.yaml", "w") as out:
            json.dump(results, out)
        return results
"""
SWEEP = ["-m", "hydra/sweeper=greedy", *TINY[:-2], "trainer.max_steps=2", "logger=none", "augmenter=raw"]


@pytest.fixture
def plugin_folder(tmp_path: Path) -> str:
    (tmp_path / "plugins" / "hydra_plugins").mkdir(parents=True)
    (tmp_path / "plugins" / "hydra_plugins" / "greedy.py").write_text(PLUGIN)
    return str(tmp_path / "plugins")


def test_sweeper_receives_the_accuracy_of_every_job(
    command: Command, plugin_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(plugin_folder)
    path = f"{plugin_folder}:{Path(__file__).parents[2]}"
    planned = command("plan", *SWEEP, "tokens.budget=1000,1500,2000", PYTHONPATH=path)
    assert planned.returncode == 0, planned.stderr
    assert "GreedySweeper selects its jobs at run time" in planned.stdout and "1 jobs" in planned.stdout
    assert not (tmp_path / "outputs").exists()
    result = command("run", *SWEEP, "tokens.budget=1000,1500,2000", PYTHONPATH=path)
    assert result.returncode == 0, result.stderr
    assert "jobs chosen by GreedySweeper" in result.stdout and "2 of 2 runs are complete" in result.stdout
    (file,) = (tmp_path / "outputs" / ".sweeps").glob("*/optimization_results.yaml")
    assert f"results of the sweeper: {file}" in result.stdout
    results = json.loads(file.read_text())
    (curve,) = (tmp_path / "outputs" / "studies").glob("*/curve.json")
    accuracies = {run["budget"]: run["accuracy"] for run in json.loads(curve.read_text())["runs"]}
    assert results == [accuracies[1000], accuracies[1500]]
