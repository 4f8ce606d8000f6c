"""Formatting of sizes in bytes."""


def format_bytes(count: float) -> str:
    """Returns a number of bytes as text, such as "1.5 MB"."""
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:.0f} B"
