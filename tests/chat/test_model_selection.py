"""Which model a name selects, and the errors for names without a model."""

import shutil
from pathlib import Path

import pytest

from entigraph.chat.model_selection import select_base_model, select_model
from entigraph.errors import EntigraphError
from entigraph.storage.artifact import build_folder
from tests.chat.finished_runs import RUN, write_artifact


@pytest.mark.parametrize("name", [RUN, f"training/{RUN}", "lamps-entigraph-all-seed0", None])
def test_run_is_selected_by_name(outputs: Path, name: str | None) -> None:
    model = select_model(name, outputs)
    assert (model.name, model.path) == (RUN, str(outputs / "training" / RUN / "model"))
    assert model.corpus == outputs / "corpus" / "lamps-00000001"


def test_run_is_selected_by_any_of_its_folders(outputs: Path, tmp_path: Path) -> None:
    training = outputs / "training" / RUN
    assert select_model(str(training), tmp_path) == select_model(str(training / "model"), tmp_path)


def test_base_model_of_a_run_is_selected(outputs: Path) -> None:
    model = select_model(RUN, outputs)
    base = select_base_model(model, outputs)
    assert base and base.name == "background-raw-all-seed0-00000004"
    assert select_base_model(base, outputs) is None, "it was trained from no other model"


def test_model_folder_and_hub_id_have_no_training_run(tiny_model: Path, tmp_path: Path) -> None:
    model = select_model(str(tiny_model), tmp_path)
    assert model.training is None and model.corpus is None and select_base_model(model, tmp_path) is None
    assert select_model("meta-llama/Llama-3.2-1B", tmp_path).path == "meta-llama/Llama-3.2-1B"


def test_invalid_name_raises_one_error(outputs: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "training" / "lamps-entigraph-all-seed0-00000009"
    build_folder(unfinished, "1").mkdir(parents=True)
    (file := tmp_path / "a.txt").touch()
    for name, root, message in [
        ("lamps-entigraf-all-seed0", outputs, "no such run under .*did you mean lamps-entigraph-all-seed0"),
        ("lamps", tmp_path / "empty", "has no finished runs; set --root"),
        (None, tmp_path / "empty", "has no finished run; run one first"),
        (str(outputs / "corpus"), outputs, "is not a model: it has no config.json"),
        (str(file), outputs, "is a file; expected a run"),
        ("./nowhere", outputs, "./nowhere does not exist"),
        (unfinished.name, tmp_path, "is not finished; run the stage that makes it"),
        (str(build_folder(unfinished, "1")), tmp_path, "is not finished; run the stage that makes it"),
    ]:
        with pytest.raises(EntigraphError, match=message):
            select_model(name, root)


def test_unfinished_runs_are_not_suggested_or_preferred(outputs: Path, tmp_path: Path) -> None:
    root = shutil.copytree(outputs, tmp_path / "outputs")
    for name in ("lamps-entigraph-all-seed1-00000009", f"{RUN[:-8]}00000009"):
        build_folder(root / "training" / name, "1").mkdir()
    with pytest.raises(EntigraphError, match="did you mean lamps-entigraph-all-seed0[?]"):
        select_model("lamps-entigraph-all-seed2", root)
    assert select_model(RUN[:-9], root).name == RUN


def test_ambiguous_name_lists_the_runs(tmp_path: Path) -> None:
    for digest in ("00000001", "00000002"):
        write_artifact(tmp_path, "training", f"lamps-raw-all-seed0-{digest}")
    with pytest.raises(EntigraphError, match="2 runs have this name; add the digest: lamps-raw-all-seed0-00000001"):
        select_model("lamps-raw-all-seed0", tmp_path)
