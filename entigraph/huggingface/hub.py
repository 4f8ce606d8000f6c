"""Datasets that are local files or named datasets on the Hugging Face hub."""

from pathlib import Path

from entigraph.errors import ConfigError, DataError


def resolve_dataset(path: str, key: str, expected: str) -> Path:
    """Returns a local path as absolute, and a name that is no local path unchanged.

    Raises ConfigError for an empty name, or a path that does not exist. `key` and `expected` go into the message.
    """
    if not path:
        raise ConfigError(f"{key}: nothing given; give {expected}, or a hub dataset")
    local = Path(path).expanduser().resolve()
    if local.exists():
        return local
    if Path(path).is_absolute() or path.startswith((".", "~")):
        raise ConfigError(f"{key}: {path} does not exist; give {expected}")
    return Path(path)


def list_files(path: str, key: str, expected: str, suffixes: tuple[str, ...], pattern: str = "*") -> list[Path]:
    """Returns the files at `path` that match `pattern` and have one of the suffixes, downloaded from the hub if needed.

    Raises DataError where there is none.
    """
    source = resolve_dataset(path, key, expected)
    if not source.exists():
        source = download(path, key, [f"*{pattern}{suffix}" for suffix in suffixes])
    files = [source] if source.is_file() else sorted(source.rglob(pattern))
    chosen = [file for file in files if file.suffix in suffixes]
    if not chosen:
        raise DataError(f"{key}: {source} contains no {' or '.join(suffixes)} file that matches {pattern}")
    return chosen


def download(name: str, key: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the hub client raises many types, which all mean the same to the user
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{key}: {name!r} is no local file, and the hub does not provide it: {message} "
            "Check the name and the network, or give a local file"
        ) from None
