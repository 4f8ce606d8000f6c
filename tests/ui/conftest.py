from pathlib import Path

import pytest

from entigraph.storage.artifact import write_json
from entigraph.sweep.job_table import job_file
from tests.chat.finished_runs import write_run

SWEEP = "2026-01-01_00-00-00_000000"


@pytest.fixture(scope="module")
def outputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of a finished run, a study without a curve, and a running sweep."""
    root = tmp_path_factory.mktemp("ui") / "outputs"
    write_run(root, tiny_model)
    (root / "studies" / "lamps-00000005" / "runs").mkdir(parents=True)
    (root / ".sweeps" / SWEEP).mkdir(parents=True)
    write_job(root, "training:   2%")
    return root


def write_job(root: Path, doing: str) -> None:
    status = {"job": "lamps-seed0", "overrides": [], "state": "running", "doing": doing}
    write_json(job_file(root / ".sweeps" / SWEEP, 0), status)
