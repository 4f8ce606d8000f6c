"""Finds the model with a name: a run in the outputs folder, a model folder, or a model on the Hub."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ArtifactError, ConfigError
from entigraph.huggingface.model_folders import find_hub_error
from entigraph.huggingface.models import first_sentence
from entigraph.storage.artifact import artifact_folder, is_complete, read_manifest

DIGEST = re.compile(r"-[0-9a-f]{8}$")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
BASE_MODEL_ROW = re.compile(r"^\| base model \| (.+) \|$", re.MULTILINE)  # in the model card written by training


@dataclass(frozen=True)
class SelectedModel:
    """A model to ask. `path` is a folder or a Hub ID. `training` is the artifact of the run that trained it, if any."""

    name: str
    path: str
    training: Path | None = None

    @property
    def root(self) -> Path | None:
        """The outputs folder of the run."""
        return self.training.parent.parent if self.training else None

    def follow_inputs(self, *stages: str) -> Path | None:
        """Returns the artifact that the training run was built from, following its inputs through these stages.

        None without a training run, or if one of the artifacts was removed.
        """
        folder = self.training
        for stage in stages:
            if self.root is None or folder is None or not is_complete(folder):
                return None
            entry = read_manifest(folder)["inputs"].get(stage)
            folder = self.root / stage / str(entry["folder"]) if entry else None
        return folder if folder and is_complete(folder) else None

    @property
    def tokens(self) -> Path | None:
        return self.follow_inputs("tokens")

    @property
    def synthesis(self) -> Path | None:
        return self.follow_inputs("tokens", "synthesis")

    @property
    def corpus(self) -> Path | None:
        return self.follow_inputs("tokens", "synthesis", "corpus")


def select_model(name: str | None, root: Path) -> SelectedModel:
    """Returns the model of a run, a folder or a Hub ID; without a name, the model of the newest finished run.

    Raises ArtifactError for an unfinished run, ConfigError for a folder that is not a model or an unknown name.
    """
    if not name:
        return newest_run(root)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return model_in_folder(folder.resolve())
    if folder.exists():
        raise ConfigError(f"{name} is a file; expected a run, a model folder or a Hub ID")
    matching = [run for run in run_folders(root) if name in run_names(run)]
    matching = [run for run in matching if is_complete(run)] or matching
    if len(matching) > 1:
        raise ConfigError(f"{name}: {len(matching)} runs have this name; add the digest: {list_names(matching)}")
    if matching:
        return model_in_folder(matching[0])
    if HUB_ID.fullmatch(name) and not name.startswith("."):
        return SelectedModel(name, name)
    if folder.is_absolute() or name.startswith((".", "~")):
        raise ConfigError(f"{name} does not exist; expected a run, a model folder or a Hub ID")
    root = root.absolute()
    finished = [run for run in run_folders(root) if run.parent.name == "training" and is_complete(run)]
    if not finished:
        raise ConfigError(
            f"{name}: no such folder, and {root} has no finished runs; set --root to the outputs of your runs"
        )
    names = {DIGEST.sub("", run.name) for run in finished}
    raise ConfigError(f"{name}: no such run under {root}, and no folder; {did_you_mean(name, sorted(names))}")


def check_on_hub(model: SelectedModel) -> None:
    """Raises ConfigError for a Hub ID that is neither in the local cache nor on the Hub."""
    if error := find_hub_error(model.path):
        raise ConfigError(
            f"{model.name}: no run and no folder has this name, and it cannot be loaded from the Hub: "
            f"{first_sentence(error)} Check the name, HF_TOKEN for a gated model, and the network"
        )


def newest_run(root: Path) -> SelectedModel:
    """Returns the model of the newest evaluation of a trained model, or else of the newest training run."""
    finished = [folder for folder in run_folders(root) if is_complete(folder)]
    evaluated = [folder for folder in finished if folder.parent.name == "evaluation" and model_of_evaluation(folder)]
    if not finished:
        raise ConfigError(f"{root} has no finished run; run one first, or name a model folder or Hub ID with --model")
    return model_in_folder(max(evaluated or finished, key=lambda folder: str(read_manifest(folder).get("created", ""))))


def run_folders(root: Path) -> list[Path]:
    """Returns the training and evaluation artifacts under the root, including unfinished ones."""
    return [
        run
        for stage in ("training", "evaluation")
        for run in sorted({artifact_folder(folder) for folder in (root / stage).glob("*-????????*")})
    ]


def run_names(folder: Path) -> Iterator[str]:
    """Yields the names of a run: its folder's name, STAGE/NAME, and for training artifacts the name without digest."""
    yield folder.name
    yield f"{folder.parent.name}/{folder.name}"
    if folder.parent.name == "training":
        yield DIGEST.sub("", folder.name)


def list_names(folders: list[Path]) -> str:
    return ", ".join(folder.name for folder in folders)


def model_in_folder(folder: Path) -> SelectedModel:
    """Returns the model of a training artifact, of an evaluation artifact, or of a Hugging Face folder."""
    folder = artifact_folder(folder)
    if (folder / "config.json").is_file():
        training = folder.parent if folder.name == "model" and folder.parent.parent.name == "training" else None
        if training:
            read_manifest(training)  # a model without a manifest is not finished
        return SelectedModel(training.name if training else folder.name, str(folder), training)
    if folder.parent.name == "training" and DIGEST.search(folder.name):
        read_manifest(folder)
        return SelectedModel(folder.name, str(folder / "model"), folder)
    if folder.parent.name == "evaluation" and DIGEST.search(folder.name):
        training = model_of_evaluation(folder)
        if training is None:
            raise ConfigError(f"{folder.name} evaluates a model that no run trained; name that model instead")
        return model_in_folder(training)
    raise ConfigError(
        f"{folder} is not a model: it has no config.json; expected a run (outputs/training/NAME) or a model folder"
    )


def model_of_evaluation(folder: Path) -> Path | None:
    """Returns the training artifact of the evaluated model; None for a model that no run trained."""
    entry: dict[str, Any] | None = read_manifest(folder)["inputs"].get("training")
    return folder.parent.parent / "training" / str(entry["folder"]) if entry else None


def select_base_model(model: SelectedModel, root: Path) -> SelectedModel | None:
    """Returns the model that a training run started from; None for random weights, or a model that no run trained."""
    if model.training is None:
        return None
    manifest = read_manifest(model.training)
    if entry := manifest["inputs"].get("model"):
        return model_in_folder(model.training.parent / str(entry["folder"]))
    if manifest.get("cache_key", {}).get("model", {}).get("start") == "random":
        return None
    card = Path(model.path) / "README.md"
    row = BASE_MODEL_ROW.search(card.read_text(encoding="utf-8")) if card.exists() else None
    if row is None or row[1].startswith("random weights"):
        return None
    try:
        return select_model(row[1], root)
    except (ArtifactError, ConfigError) as error:
        raise ConfigError(f"the base model of {model.name} is not available; name it with --base. {error}") from None
