"""Accelerators, precision and memory of this machine."""

import ctypes
import sys
from contextlib import suppress

from entigraph.errors import ConfigError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


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


def pick_accelerator(accelerator: str) -> str:
    """Returns "cpu" or "cuda"; resolves "auto" and Lightning's name "gpu"."""
    import torch

    if accelerator != "auto":
        return "cuda" if accelerator == "gpu" else accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_accelerator(accelerator: str) -> None:
    """Raises ConfigError if this machine does not have the accelerator."""
    if accelerator in ("cuda", "gpu"):
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                f"trainer.accelerator: {accelerator} found, but this machine has no CUDA device; use trainer=cpu or "
                "a GPU"
            )


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
