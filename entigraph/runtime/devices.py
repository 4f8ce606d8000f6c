"""What this machine computes on, and in what."""

import ctypes
import sys
from contextlib import suppress

from entigraph.errors import ConfigError

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Let malloc keep what tensors on the CPU free, to use it again.

    glibc gives each block of more than some megabytes back to the system, and every step of training then has its
    pages made and zeroed anew: a sixth of a small model's time (`python benchmarks/train.py speed`). Elsewhere than on
    glibc nothing is done.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(MMAP_THRESHOLD, 2**30)
            mallopt(TRIM_THRESHOLD, 2**31 - 1)


def pick_accelerator(asked: str) -> str:
    import torch

    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_accelerator(asked: str) -> None:
    """Raises ConfigError for one that is not here."""
    if asked == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                "trainer.accelerator: cuda found, and no CUDA device is here; take trainer=cpu, or run it where one is"
            )


def has_native_bf16(accelerator: str) -> bool:
    """Whether the hardware multiplies in bf16: emulated, it is slower than fp32."""
    import torch

    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def pick_precision(asked: str, accelerator: str) -> str:
    if asked != "auto":
        return asked
    return "bf16-mixed" if has_native_bf16(accelerator) else "32-true"


def release_gpu_memory() -> None:
    """What this process holds of a GPU and does not use, for another process."""
    import gc

    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
