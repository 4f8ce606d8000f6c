"""Recovery after a worker process died: who is suspected, who is blamed, who runs alone."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from entigraph.runtime.progress import StatusFileProgress
from entigraph.storage import locks
from entigraph.sweep import recovery
from entigraph.sweep.recovery import SweepState, wait_for_turn


def status(job: str, state: str) -> dict[str, Any]:
    return {"overrides": job.split(), "state": state}


def test_running_jobs_are_suspects_after_first_crash() -> None:
    state = SweepState()
    assert state.record_crash([status("a=1 b=2", "running"), status("a=2", "done"), status("a=3", "waiting")])
    assert state.suspects == ["a=1 b=2"] and state.culprits == []


def test_suspect_running_at_second_crash_is_the_culprit() -> None:
    state = SweepState(suspects=["a=1", "a=2"])
    assert state.record_crash([status("a=2", "running"), status("a=1", "waiting"), status("a=3", "running")])
    assert state.culprits == ["a=2"] and state.suspects == ["a=1", "a=2", "a=3"]


def test_crash_without_running_job_ends_the_sweep() -> None:
    assert not SweepState().record_crash([status("a=1", "waiting"), status("a=2", "failed")])


def test_jobs_read_what_the_parent_wrote(tmp_path: Path) -> None:
    state = SweepState(suspects=["a=1"], culprits=["a=2"])
    state.save(tmp_path)
    assert SweepState.load(tmp_path) == state and state.parent == recovery.process_name()


def test_only_suspects_wait_for_their_turn(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(recovery, "SECONDS_FOR_THE_POOL_TO_NOTICE", 0.0)
    state, progress = SweepState(suspects=["a=1"]), StatusFileProgress(tmp_path / "job-0000.json", "a=1", ["a=1"])
    assert isinstance(wait_for_turn("a=2", state, tmp_path, progress), nullcontext)
    assert not progress.path.exists()
    with wait_for_turn("a=1", state, tmp_path, progress):
        assert '"waiting"' in progress.path.read_text()
        assert locks.is_held(locks.lease_folder(tmp_path / "suspects", tmp_path))
