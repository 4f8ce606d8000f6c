"""Plans estimate the time of evaluations by earlier ones of the same kind on the same machine."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from entigraph.pipeline.dry_run import render_plan
from entigraph.pipeline.evaluation_estimate import (
    TIMES,
    evaluation_lines,
    measured_seconds,
    record_time,
    workload_key,
)
from entigraph.pipeline.run import Run
from entigraph.storage.artifact import CHECKPOINTS

Configured = Callable[..., Run]


def write_times(run: Run, *seconds: float, **others: str) -> None:
    with (run.root / TIMES).open("a") as file:
        file.writelines(json.dumps({**workload_key(run), **others, "seconds": value}) + "\n" for value in seconds)


def test_plan_uses_the_time_of_earlier_evaluations(configured: Configured, tmp_path: Path) -> None:
    run = configured("trainer=cpu", f"paths.root={tmp_path}")
    unknown = "evaluation: 1 model to evaluate, time unknown; the first evaluation measures it"
    assert unknown in list(render_plan(run))
    write_times(run, 20.0, 90.0, 22.0)
    known = "evaluation: 1 model to evaluate, about 22 s sequentially, as long as earlier ones on this machine"
    assert known in list(render_plan(run))


def test_only_evaluations_of_the_same_kind_count(configured: Configured, tmp_path: Path) -> None:
    root = f"paths.root={tmp_path}"
    run, other_seed = configured(root), configured(root, "seed=5")
    fewer = configured(root, "evaluation.closed_book.limit=3")
    write_times(run, 40.0)
    write_times(run, 1.0, machine="another")
    assert measured_seconds(other_seed) == 40.0 and measured_seconds(fewer) is None
    (line,) = evaluation_lines({tmp_path / str(number): item for number, item in enumerate((run, other_seed, fewer))})
    assert "about 80 s sequentially, and 1 of unknown duration, " in line


def test_resumed_evaluations_are_not_recorded(configured: Configured, tmp_path: Path) -> None:
    run = configured(f"paths.root={tmp_path}")
    (tmp_path / "resumed" / CHECKPOINTS).mkdir(parents=True)
    with record_time(run, tmp_path / "resumed"):
        pass
    assert not (tmp_path / TIMES).exists()
    with record_time(run, tmp_path / "new"):
        time.sleep(0.02)
    assert (measured_seconds(run) or 0) >= 0.02


def test_every_evaluation_of_a_study_is_recorded(smoke: Path) -> None:
    lines = [json.loads(line) for line in (smoke / TIMES).read_text().splitlines()]
    assert len(lines) == 7 and len({line["settings"] for line in lines}) == 1, "of the base model and of 6 jobs"
