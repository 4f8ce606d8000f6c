"""Data sets that are files here, or stand on the Hugging Face hub under a name."""

from pathlib import Path

from entigraph.errors import ConfigError, DataError


def resolve_dataset(path: str, key: str, expected: str) -> Path:
    """The file or folder of that path, absolute; a name that is no path here stands for itself.

    Raises ConfigError for no name, or a path that does not exist.
    """
    if not path:
        raise ConfigError(f"{key}: nothing given; give {expected}, or a hub dataset")
    found = Path(path).expanduser().resolve()
    if found.exists():
        return found
    if Path(path).is_absolute() or path.startswith((".", "~")):
        raise ConfigError(f"{key}: {path} does not exist; give {expected}")
    return Path(path)


def list_files(path: str, key: str, expected: str, suffixes: tuple[str, ...], pattern: str = "*") -> list[Path]:
    """The files at `path` with one of the suffixes, of the hub's what matches `pattern`, downloaded once.

    Raises DataError where there is none.
    """
    found = resolve_dataset(path, key, expected)
    if not found.exists():
        found = download(path, key, [f"*{pattern}{suffix}" for suffix in suffixes])
    files = [found] if found.is_file() else sorted(found.rglob(pattern))
    chosen = [file for file in files if file.suffix in suffixes]
    if not chosen:
        raise DataError(f"{key}: {found} holds no {' or '.join(suffixes)} file that matches {pattern}")
    return chosen


def download(name: str, key: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub client raises many kinds, all of which mean the same to a user
        told = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{key}: {name!r} is no file here, and the hub does not give it: {told} "
            "Check the name and the network, or give a local file"
        ) from None
