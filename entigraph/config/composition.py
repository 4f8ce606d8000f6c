"""Composition of configurations outside `hydra.main`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from entigraph.config.overrides import normalize_overrides


def home() -> Path:
    """Returns the folder that holds conf/ and experiments/: the package if installed, the repository in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return package if (package / "conf").is_dir() else package.parent


@contextmanager
def hydra_initialized() -> Iterator[None]:
    """Initializes Hydra for the body, unless a caller has, and leaves no global state behind.

    Needed around everything that reads a configuration, because its resolvers compose other configurations. Another
    program's Hydra, inside which this one is called, is set aside and restored.
    """
    instance = GlobalHydra.instance()
    if instance.is_initialized() and composes_ours(instance):
        yield
        return
    outer = instance.hydra
    instance.clear()
    try:
        with hydra.initialize_config_dir(str(home() / "conf"), job_name="entigraph", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer  # Hydra may have replaced the instance


def composes_ours(instance: GlobalHydra) -> bool:
    paths = [item.path for item in instance.config_loader().get_search_path().get_path()]
    return f"file://{home() / 'conf'}" in paths


def compose_config(overrides: Sequence[str], config_dir: str | Path | None = None) -> DictConfig:
    """Returns the configuration of the overrides. The groups in `config_dir` take precedence over the built-in ones.

    The configuration then contains the search path, `hydra.searchpath`, for the experiments that it needs.
    """
    folders = [] if config_dir is None else [Path(config_dir).expanduser().resolve(), home()]
    searchpath = [f"file://{folder}" for folder in folders]
    with hydra_initialized():
        config = hydra.compose("config", [*normalize_overrides(overrides), *searchpath_overrides(searchpath)])
    if searchpath:
        with open_dict(config):
            config.hydra = {"searchpath": searchpath}
    return config


def searchpath_overrides(searchpath: Sequence[str]) -> list[str]:
    return [f"hydra.searchpath=[{','.join(searchpath)}]"] if searchpath else []
