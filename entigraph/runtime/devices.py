"""Accelerators, precision and memory of this machine."""

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from entigraph.errors import ConfigError
from entigraph.runtime.processes import process_group

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
ALLOCATOR_SETTING = ("PYTORCH_ALLOC_CONF", "expandable_segments:True")  # preferred for training
# Folder, limit, usage and page-cache prefix of the memory controller in version 2 of cgroups and in version 1.
CGROUPS = (
    ("", "memory.max", "memory.current", ""),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_"),
)


def keep_freed_memory() -> None:
    """Makes malloc reuse the memory of freed CPU tensors of up to 128 MiB.

    By default glibc returns large blocks to the system, and every training step maps and zeroes them again, which
    takes a sixth of a small model's time (`python benchmarks/train.py speed`). Larger ones, such as the embeddings of a
    model of real size, would fragment the memory that is kept. Does nothing without glibc.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(MMAP_THRESHOLD, 2**27)
            mallopt(TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Returns the free CPU memory of malloc to the system, since other threads do not reuse it.

    Does nothing without glibc.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


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
            unbound = ", or start the tasks without binding GPUs (--gpus-per-node)" if process_group().ranks > 1 else ""
            raise ConfigError(
                f"trainer.devices must be at most {gpus}, the number of GPUs that this process can use, got {devices}; "
                f"set trainer.devices={gpus}{unbound}"
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


def check_compiler(compile_mode: str, accelerator: str) -> None:
    """Raises ConfigError if layers will be compiled and this machine lacks what that needs."""
    device = pick_accelerator(accelerator)
    if compile_mode == "blocks" or (compile_mode == "auto" and device == "cuda"):  # auto compiles on GPUs
        missing = missing_compiler(device)
        if missing:
            raise ConfigError(f"trainer.compile={compile_mode} needs {missing}; or set trainer.compile=none")


def missing_compiler(device: str) -> str:
    """Returns what torch.compile needs on this machine and does not find; empty if it finds everything.

    Its kernels for GPUs are compiled with Triton, and their launchers, like the kernels for CPUs, with a compiler.
    """
    from torch.utils._triton import has_triton

    if device == "cuda" and not has_triton():
        return "Triton and a GPU of compute capability 7.0 or higher"
    variable, compilers = ("CC", ["gcc", "clang"]) if device == "cuda" else ("CXX", ["g++", "clang++"])
    compilers = [os.environ[variable]] if variable in os.environ else compilers
    if not any(map(shutil.which, compilers)):
        return f"a compiler, but {' or '.join(compilers)} is not on PATH (Ubuntu: apt install {compilers[0]})"
    header = Path(sysconfig.get_path("include", "posix_prefix")) / "Python.h"
    return "" if header.exists() else f"Python's headers, but {header} does not exist (Ubuntu: apt install python3-dev)"


@cache
def nvidia_gpu() -> str | None:
    """Returns the name and memory in MiB of the first visible GPU as nvidia-smi lists them; None if there is none.

    For a MIG slice, which nvidia-smi does not list, these are the ones of the first GPU.
    """
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if first in ("", "-1"):
        return None
    index = [] if first.startswith("MIG-") else ["-i", first]
    try:
        command = ["nvidia-smi", *index, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
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
    """Frees the unused GPU memory of this process for other processes. Does nothing if torch is not imported."""
    import gc

    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def cpu_memory(root: Path = Path("/")) -> float:
    """Returns the bytes of memory that this process may use: the machine's memory, or the limit of its cgroups."""
    machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min([machine, *(limit for limit, _ in cgroup_memory(root))])


def free_memory(root: Path = Path("/")) -> float:
    """Returns the bytes of memory that this process can still use; infinity if unknown (not Linux)."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("inf")
    available = float(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))) * 1024
    return min([available, *(limit - used for limit, used in cgroup_memory(root))])


def cgroup_memory(root: Path) -> Iterator[tuple[float, float]]:
    """Yields limit and usage, without the page cache, of this process's cgroup and its parents, such as a Slurm job."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    own = {controllers: path for _, controllers, path in (line.split(":", 2) for line in lines)}
    for controller, limit, usage, prefix in CGROUPS:
        mount = root / "sys/fs/cgroup" / controller
        folder = mount / own.get(controller, "/").lstrip("/")
        for group in (folder, *folder.parents):
            with suppress(OSError, ValueError):  # no limit: the file is missing, or contains "max"
                pages = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
                cached = sum(int(pages.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
                used = int((group / usage).read_text("ascii")) - cached
                yield float((group / limit).read_text("ascii")), float(used)
            if group == mount:
                break
