import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from entigraph.errors import ConfigError
from entigraph.runtime.devices import check_accelerator, nvidia_gpu
from entigraph.training.callbacks.throughput import peak_flops
from entigraph.training.memory import datasheet_flops, find_device


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
    with pytest.raises(ConfigError, match="trainer.devices must be at most 4.*got 8; set trainer.devices=4"):
        check_accelerator("cuda", 8)


def test_nvidia_smi_is_called_once(listed_gpu: None, tmp_path: Path) -> None:
    assert nvidia_gpu() == "NVIDIA H200, 143771"
    (tmp_path / "nvidia-smi").unlink()
    assert find_device("auto").name == "NVIDIA H200"


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
