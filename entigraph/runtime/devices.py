"""Accelerators, precision and memory of this machine."""

import ctypes
import os
import subprocess
import sys
from contextlib import suppress
from functools import cache

from entigraph.errors import ConfigError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
ALLOCATOR_SETTING = ("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # that training prefers


def keep_freed_memory() -> None:
    """Makes malloc reuse the memory of freed CPU tensors.

    By default glibc returns large blocks to the system, and every training step maps and zeroes them again, which
    takes a sixth of a small model's time (`python benchmarks/train.py speed`). Does nothing without glibc.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(MMAP_THRESHOLD, 2**30)
            mallopt(TRIM_THRESHOLD, 2**31 - 1)


def use_expandable_segments() -> None:
    """Lets torch grow its blocks of GPU memory, which avoids running out by fragmentation.

    Without it, the largest micro-batch that fits by arithmetic may not fit. Must be called before a GPU is
    used. A value that the user set is kept.
    """
    if "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:  # the older name, whose value the newer would override
        os.environ.setdefault(*ALLOCATOR_SETTING)


def pick_accelerator(accelerator: str) -> str:
    """Returns "cpu" or "cuda"; resolves "auto" and Lightning's name "gpu"."""
    import torch

    if accelerator != "auto":
        return "cuda" if accelerator == "gpu" else accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_accelerator(accelerator: str, devices: int = 1) -> None:
    """Raises ConfigError if this machine lacks the accelerator or has fewer GPUs, or torch cannot use its GPU."""
    if accelerator not in ("auto", "cuda", "gpu"):
        return
    import torch

    if torch.cuda.is_available():
        if devices > (gpus := torch.cuda.device_count()):
            raise ConfigError(
                f"trainer.devices must be at most {gpus}, the number of GPUs of this machine, got {devices}; set "
                f"trainer.devices={gpus}"
            )
        return
    gpu = nvidia_gpu()
    if gpu:
        build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise ConfigError(
            f"trainer.accelerator={accelerator}: nvidia-smi lists {gpu}, but torch {torch.__version__} "
            f"({build}) cannot use it; install a torch build that fits the driver, or train on the CPU: trainer=cpu"
        )
    if accelerator != "auto":
        raise ConfigError(
            f"trainer.accelerator={accelerator} needs a CUDA device; this machine has none. Use trainer=cpu or a GPU"
        )


@cache
def nvidia_gpu() -> str | None:
    """Returns the name and memory in MiB of the first GPU as nvidia-smi lists them; None if there is none."""
    try:
        command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return output.splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def visible_gpus() -> list[str]:
    """Returns the GPUs that a process on this machine may use, as CUDA_VISIBLE_DEVICES names them."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [gpu for gpu in visible.replace(" ", "").split(",") if gpu]
    try:
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        return output.split()
    except (OSError, subprocess.SubprocessError):
        return []


def has_native_bf16(accelerator: str) -> bool:
    """Returns whether the hardware supports bf16 matrix products. Emulated bf16 is slower than fp32."""
    import torch

    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def pick_precision(precision: str, accelerator: str) -> str:
    """Returns the precision, with "auto" resolved."""
    if precision != "auto":
        return precision
    return "bf16-mixed" if has_native_bf16(accelerator) else "32-true"


def release_gpu_memory() -> None:
    """Frees unused GPU memory of this process for other processes."""
    import gc

    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
