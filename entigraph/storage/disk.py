"""Disk space: sizes in words, and whether a disk is full."""


def format_bytes(count: float) -> str:
    """Bytes, as people read them."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"
