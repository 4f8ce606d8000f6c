"""What this machine computes on, and in what."""


def pick_accelerator(asked: str) -> str:
    import torch

    if asked != "auto":
        return asked
    return "cuda" if torch.cuda.is_available() else "cpu"


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
