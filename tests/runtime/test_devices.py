import os
import sysconfig
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from entigraph.errors import ConfigError
from entigraph.runtime.devices import (
    check_accelerator,
    check_compiler,
    cpu_memory,
    free_memory,
    missing_compiler,
    nvidia_gpu,
    release_gpu_memory,
)
from entigraph.training.callbacks.throughput import peak_flops
from entigraph.training.memory import GIB, datasheet_flops, find_device, find_torch_device


@pytest.fixture(autouse=True)
def _forgotten_gpu() -> Iterator[None]:
    """Each test has its own nvidia-smi, whose output is cached."""
    nvidia_gpu.cache_clear()
    yield
    nvidia_gpu.cache_clear()


@pytest.fixture
def listed_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose nvidia-smi lists an H200."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("accelerator", ["auto", "cuda", "gpu"])
def test_a_gpu_that_torch_cannot_use_is_an_error(listed_gpu: None, accelerator: str) -> None:
    with pytest.raises(ConfigError, match="nvidia-smi lists NVIDIA H200.*trainer=cpu"):
        check_accelerator(accelerator)


def test_a_cpu_is_accepted_next_to_a_gpu(listed_gpu: None) -> None:
    check_accelerator("cpu")
    assert find_device("cpu").shared
    device = find_device("auto")
    assert (device.name, device.peak, device.shared) == ("NVIDIA H200", 989e12, False)


def test_more_devices_than_gpus_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    check_accelerator("cuda", 4)
    check_accelerator("cpu", 8)
    with pytest.raises(ConfigError, match="trainer.devices must be at most 4.*got 8; set trainer.devices=4$"):
        check_accelerator("cuda", 8)
    for name, value in {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # srun --gpus-per-task=1 --gpu-bind=single:1
    with pytest.raises(ConfigError, match=r"at most 1.*got 8; .* without binding GPUs \(--gpus-per-node\)"):
        check_accelerator("cuda", 8)


def test_nvidia_smi_is_called_once(listed_gpu: None, tmp_path: Path) -> None:
    assert nvidia_gpu() == "NVIDIA H200, 143771"
    (tmp_path / "nvidia-smi").unlink()
    assert find_device("auto").name == "NVIDIA H200"


def test_plans_read_the_first_visible_gpu(listed_gpu: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidia-smi").write_text('#!/bin/sh\n[ "$1" = -i ] && echo "GPU $2, 1024" || echo "any, 2048"\n')
    expected = {None: "GPU 0, 1024", "3,1": "GPU 3, 1024", "GPU-5f": "GPU GPU-5f, 1024", "MIG-7": "any, 2048", "": None}
    for visible, gpu in expected.items():
        nvidia_gpu.cache_clear()
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert nvidia_gpu() == gpu


def test_training_measures_the_gpu_with_torch(listed_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_torch_device("auto").shared and find_torch_device("cpu").shared
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    gpu = SimpleNamespace(name="NVIDIA L4", total_memory=22 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    for accelerator in ("auto", "cuda", "gpu"):
        device = find_torch_device(accelerator)
        assert (device.name, device.memory, device.peak, device.shared) == ("NVIDIA L4", 22 * GIB, 121e12, False)


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("line", "folder", "names", "prefix"),
    [
        ("0::/job_1/step_0", "sys/fs/cgroup/job_1", ("memory.max", "memory.current"), ""),
        ("4:memory:/job_1/step_0", "sys/fs/cgroup/memory/job_1", ("limit_in_bytes", "usage_in_bytes"), "total_"),
        ("0::/of/the/host", "sys/fs/cgroup", ("memory.max", "memory.current"), ""),  # in a container
    ],
    ids=["version 2", "version 1", "container"],
)
def test_memory_is_limited_by_cgroups(
    line: str, folder: str, names: tuple[str, str], prefix: str, tmp_path: Path
) -> None:
    """A job with 64 GiB on a large host uses 50, of which 30 are page cache."""
    limit, usage = (name if "." in name else f"memory.{name}" for name in names)
    root = write_files(tmp_path, {"proc/meminfo": "MemTotal: 1 kB\nMemAvailable: 943718400 kB\n"})
    assert free_memory(root) == 900 * GIB, "no cgroups"
    write_files(root, {"proc/self/cgroup": f"9:cpu:/\n{line}\n"})
    assert free_memory(root) == 900 * GIB, "no limit"
    write_files(root / folder, {limit: f"{64 * GIB}\n", usage: f"{50 * GIB}\n"})
    statistics = f"anon 5\n{prefix}active_file {20 * GIB}\n{prefix}inactive_file {10 * GIB}\n"
    write_files(root / folder, {"memory.stat": statistics})
    assert free_memory(root) == 44 * GIB
    write_files(root / folder / "step_0", {limit: "max\n", usage: "0\n", "memory.stat": ""})
    assert free_memory(root) == 44 * GIB, "the limit of a parent"
    assert cpu_memory(root) == min(64 * GIB, cpu_memory(tmp_path / "none"))
    write_files(root / folder, {limit: "4096\n"})
    assert cpu_memory(root) == 4096


def test_memory_of_unreachable_models_is_released(monkeypatch: pytest.MonkeyPatch) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    cycle = weakref.ref(Cycle())
    emptied: list[Any] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(cycle()))
    release_gpu_memory()
    assert not emptied, "this process has not used a GPU"
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    release_gpu_memory()
    assert emptied == [None], "the cycle is collected first"


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda name, scheme: str(tmp_path / "include"))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    check_compiler("none", "cpu")
    check_compiler("auto", "cpu")
    with pytest.raises(ConfigError, match=r"compile=blocks needs a compiler.*apt install g\+\+.*trainer.compile=none"):
        check_compiler("blocks", "cpu")
    with pytest.raises(ConfigError, match="compile=auto needs Triton and a GPU"):
        check_compiler("auto", "cuda")
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    assert "gcc or clang is not on PATH" in missing_compiler("cuda")
    for name in ("gcc", "cc-12"):
        write_files(tmp_path, {name: ""})
        (tmp_path / name).chmod(0o755)
    assert "Python.h does not exist" in missing_compiler("cuda")
    write_files(tmp_path, {"include/Python.h": ""})
    assert missing_compiler("cuda") == ""
    monkeypatch.setenv("CC", "cc-11")
    assert "cc-11 is not on PATH" in missing_compiler("cuda")
    monkeypatch.setenv("CC", "cc-12")
    assert missing_compiler("cuda") == ""


def test_machine_without_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert nvidia_gpu() is None
    check_accelerator("auto")
    with pytest.raises(ConfigError, match="needs a CUDA device; this machine has none"):
        check_accelerator("cuda")


@pytest.mark.parametrize(
    ("name", "teraflops"),
    [
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA B200", 2250),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("Tesla T4", None),
    ],
)
def test_peak_flops_by_device_name(name: str, teraflops: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    expected = None if teraflops is None else teraflops * 1e12
    assert datasheet_flops(name) == peak_flops(torch.device("cuda", 0), torch.bfloat16) == expected
    assert peak_flops(torch.device("cuda", 0), torch.float32) is None
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None
