"""Training on two CPU processes over gloo: what several GPUs do."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from entigraph.errors import ArtifactError, ConfigError
from entigraph.runtime.processes import ProcessGroup, process_group
from entigraph.tokenization.builders import ByteTokenizer
from entigraph.training.launch import free_port, raise_failure
from entigraph.training.model_checks import NonFiniteLossError
from entigraph.training.starting_models import RandomLlama
from tests.conftest import write_shards
from tests.polling import wait_for

sys.path.insert(0, str(Path(__file__).parent))
from two_ranks import train  # noqa: E402

Start = Callable[..., "subprocess.Popen[bytes]"]
RUN = """
import json, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from two_ranks import train
train(Path({folder!r}), sys.argv[1], **json.loads(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tokens, a tokenizer and a first model that several ranks read straight into their shares."""
    root = tmp_path_factory.mktemp("ranks")
    rng = random.Random(0)
    for name in ("tokens", "tokenizer"):
        (root / name).mkdir()
    write_shards(root / "tokens", [[256] + [rng.randrange(97, 110) for _ in range(30)] for _ in range(40)])
    ByteTokenizer().build(root / "tokenizer")
    # 3 rows of heads and an odd vocabulary: not every weight divides by two.
    model = RandomLlama(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        intermediate_size=65,
        max_position_embeddings=64,
        tie_word_embeddings=False,
    )
    model.build(257).save_pretrained(root / "first")
    return root


@pytest.fixture(scope="module")
def start(folder: Path) -> Start:
    def begin(
        name: str, devices: int = 2, environment: dict[str, str] | None = None, **options: Any
    ) -> "subprocess.Popen[bytes]":
        code = RUN.format(here=str(Path(__file__).parent), folder=str(folder))
        variables = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(environment or {})}
        arguments = json.dumps({"devices": devices, **options})
        return subprocess.Popen([sys.executable, "-c", code, name, arguments], env=variables)

    return begin


@pytest.fixture(scope="module")
def unbroken(folder: Path) -> str:
    train(folder, "unbroken", devices=2)
    return "unbroken"


@pytest.fixture
def callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the processes of ranks import `rank_callbacks`."""
    folders = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))


def losses(folder: Path, name: str) -> dict[int, float]:
    return metric(folder, name, "loss")


def metric(folder: Path, name: str, key: str) -> dict[int, float]:
    lines = (folder / name / "metrics.jsonl").read_text().splitlines()
    return {line["step"]: line[key] for line in map(json.loads, lines)}


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / name / "model" / "model.safetensors")


def until_saved(folder: Path, name: str, running: "subprocess.Popen[bytes]") -> None:
    wait_for(lambda: list((folder / name / "checkpoints").glob("step-*")), process=running, interval_s=0.002)
    assert not (folder / name / "model").exists()


def ranks_of(folder: Path, name: str) -> list[int]:
    """Returns the processes of a run, by the job file on their command line."""
    job, ranks = str(folder / name / "checkpoints" / "job.json").encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if job in (process / "cmdline").read_bytes():
                ranks.append(int(process.name))
        except OSError:
            continue
    return ranks


def test_sharded_training_equals_unsharded(folder: Path, unbroken: str) -> None:
    """Ranks have different numbers of tokens that carry loss; the mean is over those of the whole step."""
    train(folder, "alone")
    one, two = losses(folder, "alone"), losses(folder, unbroken)
    assert len(one) == len(two) > 30
    assert max(abs(one[step] - two[step]) for step in one) < 1e-4
    alone, shared = weights(folder, "alone"), weights(folder, unbroken)
    assert {*alone} == {*shared} and all(torch.allclose(alone[name], shared[name], atol=1e-3) for name in alone)
    first = load_file(folder / "first" / "model.safetensors")
    assert not torch.allclose(first["lm_head.weight"], shared["lm_head.weight"], atol=1e-2), "it learns"
    train(folder, "unmasked", document_mask=False)
    unmasked = losses(folder, "unmasked")
    assert max(abs(one[step] - unmasked[step]) for step in unmasked) > 1e-3, "the document mask has an effect"


def test_clipping_by_value_on_two_ranks(folder: Path) -> None:
    options: dict[str, Any] = {"gradient_clip_algorithm": "value", "gradient_clip_val": 1e-3, "max_steps": 4}
    train(folder, "clipped-alone", **options)
    train(folder, "clipped", devices=2, **options)
    one, two = (metric(folder, name, "grad_norm") for name in ("clipped-alone", "clipped"))
    assert len(one) == 4 and two == pytest.approx(one, rel=1e-3)


def test_offloaded_and_gathered_weights_change_nothing(folder: Path, unbroken: str, callbacks: None) -> None:
    options: dict[str, Any] = {"cpu_offload": True, "reshard_after_forward": False, "callback": "MeshRecorder"}
    train(folder, "offloaded", devices=2, **options)
    assert losses(folder, "offloaded") == losses(folder, unbroken), "bitwise"
    one, other = weights(folder, "offloaded"), weights(folder, unbroken)
    assert all(torch.equal(one[name], other[name]) for name in one)
    meshes = [json.loads((folder / "offloaded" / f"mesh-{rank}.json").read_text()) for rank in range(2)]
    assert meshes == [{"names": ["shard"], "shape": [2], "coordinate": [rank]} for rank in range(2)]


def test_offloading_on_one_device_resumes_bitwise(folder: Path) -> None:
    def stop(values: dict[str, float]) -> None:
        if values["step"] == 8:
            raise ZeroDivisionError

    options: dict[str, Any] = {"cpu_offload": True, "max_steps": 12}
    train(folder, "offload-whole", **options)
    with pytest.raises(ZeroDivisionError):
        train(folder, "offload-resumed", record=stop, **options)
    assert train(folder, "offload-resumed", **options)["resumed_from"] == "step-00000005"
    one, other = weights(folder, "offload-whole"), weights(folder, "offload-resumed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    train(folder, "offload-none", max_steps=12)
    whole, expected = losses(folder, "offload-whole"), losses(folder, "offload-none")
    assert max(abs(whole[step] - expected[step]) for step in expected) < 1e-4
    assert not dist.is_initialized()


@pytest.mark.slow
def test_mixed_precision_recomputation_and_compiled_layers_on_two_ranks(folder: Path, callbacks: None) -> None:
    options: dict[str, Any] = {
        "precision": "bf16-mixed",
        "activation_checkpointing": "selective",
        "micro_batch_size": 1,
        "max_steps": 8,
    }
    train(folder, "mixed-alone", **options)
    train(folder, "mixed", devices=2, callback="CompileWithoutCompiler", **options)
    one, two = losses(folder, "mixed-alone"), losses(folder, "mixed")
    assert len(one) == 8 and max(abs(one[step] - two[step]) for step in one) < 0.02


@pytest.mark.slow
def test_weights_are_sharded_within_nodes_and_replicated_across(folder: Path, start: Start, callbacks: None) -> None:
    """Four processes as torchrun starts them on two nodes, with two micro-batches each, train like one process."""
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "hybrid", "PYTHONPATH": os.environ["PYTHONPATH"]}
    common: dict[str, Any] = {"batch_size": 8, "micro_batch_size": 1, "max_steps": 12}
    options = {**common, "num_nodes": 2, "sharding": "hybrid", "callback": "MeshRecorder"}
    ranks = [
        start(
            "hybrid",
            environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank % 2), "GROUP_RANK": str(rank // 2)},
            **options,
        )
        for rank in range(4)
    ]
    assert [rank.wait(600) for rank in ranks] == [0] * 4
    meshes = [json.loads((folder / "hybrid" / f"mesh-{rank}.json").read_text()) for rank in range(4)]
    coordinates = [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert meshes == [{"names": ["replicate", "shard"], "shape": [2, 2], "coordinate": pair} for pair in coordinates]
    train(folder, "hybrid-alone", **common)
    four, one = losses(folder, "hybrid"), losses(folder, "hybrid-alone")
    assert len(four) == 12 and max(abs(four[step] - one[step]) for step in one) < 1e-4
    four_weights, one_weights = weights(folder, "hybrid"), weights(folder, "hybrid-alone")
    assert all(torch.allclose(four_weights[name], one_weights[name], atol=1e-3) for name in one_weights)


@pytest.mark.slow
def test_rank_that_hangs_ends_the_run_with_one_message(folder: Path, callbacks: None) -> None:
    with pytest.raises(
        ArtifactError, match=r"waited trainer.timeout_s = 15 seconds for another rank.*The same command"
    ):
        train(folder, "hanging", devices=2, callback="Hang", timeout_s=15)
    assert not ranks_of(folder, "hanging")


@pytest.mark.slow
def test_killed_ranks_resume_bitwise(folder: Path, start: Start, unbroken: str) -> None:
    parent = start("killed")
    until_saved(folder, "killed", parent)
    assert len(ranks_of(folder, "killed")) == 2
    parent.kill()
    parent.wait()
    wait_for(lambda: not ranks_of(folder, "killed"))  # a killed parent leaves no worker
    assert start("killed").wait(600) == 0
    assert losses(folder, "killed") == losses(folder, unbroken), "bitwise"
    one, other = weights(folder, "killed"), weights(folder, unbroken)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_terminated_run_resumes_with_fewer_ranks(folder: Path, start: Start, unbroken: str) -> None:
    parent = start("moved")
    until_saved(folder, "moved", parent)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(600) == 143
    result = max(losses(folder, "moved"))
    (saved,) = (folder / "moved" / "checkpoints").glob("step-*")
    step = int(saved.name.removeprefix("step-"))
    assert step in (result, result + 1), "no step is repeated; the checkpoint has the metrics of a step not yet logged"
    assert start("moved", 1).wait(600) == 0
    alone, together = losses(folder, "moved"), losses(folder, unbroken)
    assert {*alone} == {*together} and max(abs(alone[step] - together[step]) for step in alone) < 1e-4


@pytest.mark.slow
def test_killed_rank_ends_the_others_with_one_message(folder: Path, start: Start) -> None:
    def kill_one() -> None:
        metrics = folder / "one-killed" / "metrics.jsonl"
        wait_for(lambda: len(ranks_of(folder, "one-killed")) >= 2 and metrics.exists(), interval_s=0.01)
        os.kill(ranks_of(folder, "one-killed")[1], signal.SIGSEGV)

    threading.Thread(target=kill_one, daemon=True).start()
    with pytest.raises(ArtifactError, match=r"the process of rank \d was killed by SIG.* The same command\s+continues"):
        train(folder, "one-killed", devices=2)
    assert not ranks_of(folder, "one-killed")


def test_error_of_a_rank_is_raised_in_the_parent(folder: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="non-finite loss at step"):
        train(folder, "nonfinite", devices=2, nodes={"optim": {"lr": 1e30}}, gradient_clip_val=None)
    assert not list((folder / "nonfinite" / "checkpoints").glob("step-*"))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (1, "exited with status 1; see its traceback above"),
        (-9, r"was killed by SIGKILL \(out of memory\?\); see the output above"),
        (-11, "was killed by SIGSEGV; see the output above"),
    ],
)
def test_exit_status_of_a_rank_is_explained(status: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"the process of rank 1 {reason}"):
        raise_failure({1: status}, tmp_path, threading.Event())


def test_batch_size_that_devices_cannot_share_is_an_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match="4 sequences cannot be split over .* 3 devices"):
        train(folder, "odd", devices=3)
    with pytest.raises(ConfigError, match="start several nodes with torchrun or srun"):
        train(folder, "nodes", devices=2, num_nodes=2)
    with pytest.raises(ConfigError, match="sharding=hybrid .* got 1; set sharding=full"):
        train(folder, "copies", devices=2, sharding="hybrid")
    with pytest.raises(ConfigError, match="bf16-true supports only one device without trainer.cpu_offload"):
        train(folder, "halves", cpu_offload=True, precision="bf16-true")


def test_process_group_is_read_from_the_environment() -> None:
    assert process_group({}) == ProcessGroup()
    torchrun = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "::1", "MASTER_PORT": "29500"}
    assert process_group(torchrun) == ProcessGroup(3, 4, "torchrun", "-__1-29500-")
    batch_script = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "8"}
    assert process_group(batch_script) == ProcessGroup(), "a batch script is no task"
    task = {**batch_script, "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_JOB_ID": "71"}
    assert process_group(task) == ProcessGroup(5, 8, "srun", "71--")
