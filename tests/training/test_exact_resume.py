"""Checkpoints: a run that ends early continues as if it had not, and nothing else is loaded."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from entigraph.errors import ArtifactError
from entigraph.runtime.processes import Preempted
from entigraph.runtime.progress import Advance, SilentProgress
from entigraph.storage import artifact, locks
from entigraph.training import checkpointing
from entigraph.training.metrics_file import truncate_metrics
from tests.commands import ForkedProcess

sys.path.insert(0, str(Path(__file__).parent))
from tiny_training import losses, train  # noqa: E402


def train_until_killed(tokens: Path, tokenizer: Path, out: Path) -> None:
    """Trains until a checkpoint exists, and kills its own process."""

    def kill(values: dict[str, float]) -> None:
        if list(out.glob("checkpoints/step-*")):
            os.kill(os.getpid(), signal.SIGKILL)

    train(tokens, tokenizer, out, record=kill)


def test_killed_run_resumes_bitwise(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    unbroken, killed = (tokens, tokenizer, tmp_path / "unbroken"), (tokens, tokenizer, tmp_path / "killed")
    assert ForkedProcess(train, *unbroken).wait() == 0
    assert ForkedProcess(train_until_killed, *killed).wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()
    assert ForkedProcess(train, *killed).wait() == 0
    one, other = (tmp_path / name / "model" / "model.safetensors" for name in ("unbroken", "killed"))
    assert one.read_bytes() == other.read_bytes(), "bitwise"

    assert losses(tmp_path / "unbroken") == losses(tmp_path / "killed")


def stopped(tokens: Path, tokenizer: Path, out: Path, **changes: object) -> Path:
    """A run that ended after a checkpoint, as if killed; returns the checkpoint."""

    def stop(values: dict[str, float]) -> None:
        if values["step"] >= 15:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(tokens, tokenizer, out, record=stop, **changes)
    (checkpoint,) = (out / "checkpoints").glob("step-*")
    return checkpoint


def test_metrics_end_at_the_checkpoint_or_at_an_unreadable_line(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 3}).encode() + b"\n" for step in range(1, 6)]
    for content in (lines, [*lines[:3], bytes(30) + b"\n", *lines[4:]], [*lines[:3], lines[3][:5]]):
        file.write_bytes(b"".join(content))
        assert [line["step"] for line in truncate_metrics(file, 3)] == [1, 2, 3]
        assert file.read_bytes() == b"".join(lines[:3]) and [*tmp_path.iterdir()] == [file]


def test_damaged_checkpoint_is_named(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    checkpoint = stopped(tokens, tokenizer, tmp_path / "out")
    assert checkpoint.name == "step-00000010"
    (shard,) = checkpoint.glob("*.distcp")
    shard.write_bytes(shard.read_bytes()[:1000])
    with pytest.raises(ArtifactError, match=r"step-00000010 is damaged \(\w+\); remove .*checkpoints and run"):
        train(tokens, tokenizer, tmp_path / "out")


def test_checkpoint_of_another_run_is_an_error(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    stopped(tokens, tokenizer, tmp_path / "out")
    with pytest.raises(ArtifactError, match="belongs to a different run: data order is .* there, .* here"):
        train(tokens, tokenizer, tmp_path / "out", seed=1)


def test_unfinished_checkpoint_is_removed(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    sealed = stopped(tokens, tokenizer, tmp_path / "out")
    unfinished = sealed.with_name(".step-00000020")
    unfinished.mkdir()
    (unfinished / "trainer.pt").write_bytes(b"half")
    assert train(tokens, tokenizer, tmp_path / "out")["resumed_from"] == "step-00000010"
    assert not unfinished.exists()


@pytest.mark.parametrize("names", [("1", "2"), ("launch", "launch")])
def test_process_that_lost_its_lease_saves_no_checkpoint(
    names: tuple[str, str], tokens: Path, tokenizer: Path, tmp_path: Path
) -> None:
    """Another host takes over while this one is suspended. All ranks of a launch use a folder with the same name."""
    final = tmp_path / "outputs" / "training" / "model-0123abcd"
    former, current = (artifact.build_folder(final, name) for name in names)
    former.mkdir(parents=True)

    def take_over(values: dict[str, float]) -> None:
        if values["step"] == 15:
            next_lease()
            former.rename(current)

    def next_lease() -> None:
        leases = locks.lease_folder(final, tmp_path / "outputs")
        leases.mkdir(parents=True, exist_ok=True)
        (leases / str(locks.current_number(leases) + 1)).write_bytes(locks.encode_lease(0, released=False))

    next_lease()
    with pytest.raises(ArtifactError, match="another process has taken over the build"):
        train(tokens, tokenizer, former, record=take_over)
    assert [checkpoint.name for checkpoint in (current / "checkpoints").iterdir()] == ["step-00000010"]
    assert former == current or not former.exists()
    counts = train(tokens, tokenizer, current)
    assert counts["resumed_from"] == "step-00000010" and counts["steps"] == 39


def test_checkpoint_of_a_later_lease_is_not_loaded(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    later = artifact.build_folder(tmp_path / "training" / "model-0123abcd", "2")
    later.parent.mkdir()
    stopped(tokens, tokenizer, later)
    earlier = later.rename(later.with_name(later.name.replace("-2", "-1")))
    with pytest.raises(ArtifactError, match="another process has taken over the build"):
        train(tokens, tokenizer, earlier)


def test_save_is_synchronous_without_memory_for_a_copy(
    tokens: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_background: list[bool] = []
    saved = checkpointing.ShardedCheckpoints.save_checkpoint

    def look(strategy: checkpointing.ShardedCheckpoints, *arguments: object, **named: object) -> None:
        saved(strategy, *arguments, **named)  # type: ignore[arg-type]
        in_background.append(strategy.pending_save is not None)

    monkeypatch.setattr(checkpointing.ShardedCheckpoints, "save_checkpoint", look)
    options = {"max_steps": 20, "checkpoint_every_n_steps": 10, "async_checkpoints": True}
    train(tokens, tokenizer, tmp_path / "roomy", trainer=options)
    monkeypatch.setattr(checkpointing, "free_memory", lambda: 1e3)
    train(tokens, tokenizer, tmp_path / "narrow", trainer=options)
    assert in_background == [True, False]


def test_split_bf16_trains_like_fp32_and_resumes_bitwise(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    settings = {"max_epochs": 2, "log_every_n_steps": 1, "checkpoint_every_n_steps": 10, "micro_batch_size": 2}
    pairs = {**settings, "precision": "bf16-true"}
    train(tokens, tokenizer, tmp_path / "whole", trainer=pairs)
    stopped(tokens, tokenizer, tmp_path / "resumed", trainer=pairs)
    assert train(tokens, tokenizer, tmp_path / "resumed", trainer=pairs)["resumed_from"] == "step-00000010"
    uninterrupted, resumed = (
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "resumed")
    )
    assert all(torch.equal(uninterrupted[name], resumed[name]) for name in uninterrupted), "bitwise"
    assert any((value != value.bfloat16().float()).any() for value in uninterrupted.values()), "all 32 bits are kept"
    train(tokens, tokenizer, tmp_path / "fp32", trainer={**settings, "precision": "32-true"})
    assert losses(tmp_path / "whole")[-1][1] == pytest.approx(losses(tmp_path / "fp32")[-1][1], abs=0.05)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 4), (4, 1)])
def test_micro_batch_size_may_change_on_resume(
    before: int, after: int, tokens: Path, tokenizer: Path, tmp_path: Path
) -> None:
    train(tokens, tokenizer, tmp_path / "whole", trainer={"micro_batch_size": after})
    stopped(tokens, tokenizer, tmp_path / "resumed", trainer={"micro_batch_size": before})
    counts = train(tokens, tokenizer, tmp_path / "resumed", trainer={"micro_batch_size": after})
    assert counts["resumed_from"] == "step-00000010" and counts["steps"] == 39
    whole, resumed = dict(losses(tmp_path / "whole")), dict(losses(tmp_path / "resumed"))
    assert {*whole} == {*resumed} and resumed == pytest.approx(whole, abs=1e-3)


class Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("planted",))


def test_untrusted_checkpoint_runs_no_code(
    tokens: Path, tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = stopped(tokens, tokenizer, tmp_path / "out") / "trainer.pt"
    torch.save({**torch.load(file, weights_only=False), "planted": Malicious()}, file)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="step-00000010 is damaged"):
        train(tokens, tokenizer, tmp_path / "out")
    assert not (tmp_path / "planted").exists()


def test_sigterm_saves_and_the_same_command_resumes(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    def terminate(values: dict[str, float]) -> None:
        if values["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as leaving:
        train(tokens, tokenizer, tmp_path / "out", record=terminate)
    assert leaving.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert train(tokens, tokenizer, tmp_path / "out")["resumed_from"] == "step-00000006", "the step after the signal"


def test_sigterm_before_the_first_step_interrupts(tokens: Path, tokenizer: Path, tmp_path: Path) -> None:
    """Where a cluster takes the machine back while a large model is being loaded."""
    amounts: list[int] = []

    class Loading(SilentProgress):
        @contextmanager
        def bar(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
            def advance(amount: int, note: str = "", *, resumed: bool = False) -> None:
                amounts.append(amount)
                if len(amounts) == 1:  # the tokens of earlier runs, reported before the first step
                    os.kill(os.getpid(), signal.SIGTERM)

            yield advance

    with pytest.raises(Preempted):
        train(tokens, tokenizer, tmp_path / "out", progress=Loading())
    assert not (tmp_path / "out" / "model").exists()
    assert train(tokens, tokenizer, tmp_path / "out")["steps"] == 39
