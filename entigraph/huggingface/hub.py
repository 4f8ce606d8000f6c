"""Resolves datasets: local files, or datasets on the Hugging Face Hub."""

from pathlib import Path

from entigraph.errors import ConfigError, DataError


def resolve_dataset(path: str, key: str, expected: str) -> Path:
    """Returns a local path as absolute, and a Hub ID unchanged.

    Raises ConfigError for an empty name, or a path that does not exist. `key` and `expected` are for the message.
    """
    if not path:
        raise ConfigError(f"{key}: not set; set it to {expected}, or a Hub dataset")
    local = Path(path).expanduser().resolve()
    if local.exists():
        return local
    if Path(path).is_absolute() or path.startswith((".", "~")):
        raise ConfigError(f"{key}: {path} does not exist; set it to {expected}")
    return Path(path)


def list_files(path: str, key: str, expected: str, suffixes: tuple[str, ...], pattern: str = "*") -> list[Path]:
    """Returns the files at `path` that match `pattern` and have one of the suffixes. Downloads them if needed.

    Raises DataError if there are none.
    """
    source = resolve_dataset(path, key, expected)
    if not source.exists():
        source = download(path, key, [f"*{pattern}{suffix}" for suffix in suffixes])
    files = [source] if source.is_file() else sorted(source.rglob(pattern))
    matching = [file for file in files if file.suffix in suffixes]
    if not matching:
        raise DataError(f"{key}: {source} contains no {' or '.join(suffixes)} file that matches {pattern}")
    return matching


def download(name: str, key: str, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the Hub client raises many types, with the same remedy for the user
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{key}: {name!r} is not a local file and cannot be downloaded from the Hub: {message} "
            "Check the name and the network, or set it to a local file"
        ) from None
