"""Limits what a document that is a zip archive (Word, EPUB) may unpack to."""

from collections.abc import Iterable
from zipfile import ZipInfo

MAX_BYTES = 1 << 30  # a thousand pages are a few megabytes


def check_unpacked_size(entries: Iterable[ZipInfo]) -> None:
    """Raises ValueError if the entries unpack to more than a gigabyte."""
    if (size := sum(entry.file_size for entry in entries)) > MAX_BYTES:
        raise ValueError(f"unpacks to {size / 2**30:,.1f} GiB")
