"""Downloads Hub models with a progress bar of the stage; transformers would show none, or its own bars."""

from fnmatch import fnmatch
from typing import Any

from entigraph.huggingface.model_folders import is_local_path
from entigraph.runtime.progress import Advance, Progress

# The files that transformers reads. All others, and files in folders, are copies in other formats.
FILES = ("model*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
MEGABYTE = 1_000_000


def download_model(path: str, progress: Progress) -> None:
    """Downloads the files of a Hub model that are not in the local cache.

    Does nothing for a local model, or if the Hub is not available: loading the model then reports what is missing.
    """
    if not path or is_local_path(path):
        return
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    try:
        files = HfApi().model_info(path, files_metadata=True).siblings or []
        names = [file.rfilename for file in files if is_read(file.rfilename)]
        missing = [name for name in names if not isinstance(try_to_load_from_cache(path, name), str)]
        size = sum(file.size or 0 for file in files if file.rfilename in missing)
        if missing:
            with progress.bar("downloading", round(size / MEGABYTE), "MB") as advance:
                for name in missing:
                    hf_hub_download(path, name, tqdm_class=count_bytes(advance))
    except Exception:  # of many types; the same request fails again when the model is loaded, with an explanation
        return


def is_read(name: str) -> bool:
    return "/" not in name and any(fnmatch(name, pattern) for pattern in FILES)


def count_bytes(advance: Advance) -> type[Any]:
    """Returns a replacement for tqdm in the Hub client, which shows nothing and advances by whole megabytes."""
    from tqdm import tqdm

    rest = 0

    class ByteCounter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            nonlocal rest
            megabytes, rest = divmod(rest + int(n or 0), MEGABYTE)
            advance(megabytes)

    return ByteCounter
