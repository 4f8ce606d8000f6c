"""Cache keys: what changes an artifact's folder, what does not, and the code of components from outside EntiGraph."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from entigraph.config.instantiate import build_component, resolve_target
from entigraph.errors import ArtifactError, ConfigError
from entigraph.pipeline.code_identity import check_code_unchanged, identify_code, imported_sources
from entigraph.pipeline.component_keys import component_key
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.storage.artifact import enclosing_artifact, identify_path
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.rephrase import Rephrase
from entigraph.tokenization.builders import PretrainedTokenizer

URL = "http://localhost:1"
AUGMENTER = """
    from dataclasses import dataclass
    from entigraph.synthesis.augmenters.entigraph import EntiGraph
    from .wording import SUFFIX

    @dataclass(frozen=True, kw_only=True)
    class MyEntiGraph(EntiGraph):
        def tasks(self, documents, graphs, seed):
            return super().tasks(documents, graphs, seed)
"""


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(dedent(text))


@pytest.fixture
def user_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `mine` outside the repository, with an augmenter that imports a helper module."""
    package = tmp_path / "src" / "mine"
    write(package / "__init__.py", "")
    write(package / "wording.py", "SUFFIX = 'a'\n")
    write(package / "unused.py", "")
    write(package / "augmenters.py", AUGMENTER)
    monkeypatch.syspath_prepend(str(package.parent))
    importlib.invalidate_caches()
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


def key_of(target: str, **arguments: object) -> dict[str, object]:
    built = build_component(OmegaConf.create({"_target_": target, **arguments}), "component")
    return component_key(built.node, built.component)


def test_augmenter_subclass_gets_a_separate_folder(user_package: Path, configured: Callable[..., Run]) -> None:
    ours = configured().artifacts
    mine = configured("augmenter._target_=mine.augmenters.MyEntiGraph").artifacts
    assert ours.synthesis.folder != mine.synthesis.folder and ours.training.folder != mine.training.folder
    assert ours.corpus.folder == mine.corpus.folder


@pytest.mark.parametrize(
    ("file", "module"),
    [("augmenters.py", "mine.augmenters"), ("wording.py", "mine.wording"), ("__init__.py", "mine")],
)
def test_editing_user_code_or_a_module_it_imports_changes_the_folder(
    file: str, module: str, user_package: Path, configured: Callable[..., Run]
) -> None:
    """Once the process runs the edited code."""
    override = "augmenter._target_=mine.augmenters.MyEntiGraph"
    before = configured(override).artifacts.synthesis.folder
    assert configured(override).artifacts.synthesis.folder == before
    with (user_package / file).open("a") as stream:
        stream.write("# edited\n")
    edited = configured(override).artifacts.synthesis
    assert edited.folder == before
    with pytest.raises(ArtifactError, match=f"{file} changed after the command started"):
        check_code_unchanged(edited.cache_key)
    importlib.reload(sys.modules[module])
    assert configured(override).artifacts.synthesis.folder != before


def test_editing_a_module_that_is_not_imported_keeps_the_folder(
    user_package: Path, configured: Callable[..., Run]
) -> None:
    override = "augmenter._target_=mine.augmenters.MyEntiGraph"
    before = configured(override).artifacts.synthesis.folder
    write(user_package / "unused.py", "x = 1\n")
    assert configured(override).artifacts.synthesis.folder == before


def test_imports_are_followed_through_packages_relative_names_and_siblings(tmp_path: Path, monkeypatch: object) -> None:
    package = tmp_path / "src" / "other"
    write(package / "__init__.py", "from other.a import x\n")
    write(package / "a.py", "import json, numpy\nfrom . import b\nx = 1\ndef f():\n    import beside_other\n")
    write(package / "b.py", "from .deep.c import y\n")
    write(package / "deep" / "__init__.py", "")
    write(package / "deep" / "c.py", "from .. import a\ny = 2\n")
    write(tmp_path / "src" / "beside_other.py", "")
    monkeypatch.syspath_prepend(str(package.parent))  # type: ignore[attr-defined]
    names = {"other", "other.a", "other.b", "other.deep", "other.deep.c", "beside_other"}
    assert set(imported_sources("other.a", package / "a.py")) == names


def test_a_base_class_from_user_code_counts(user_package: Path) -> None:
    write(user_package / "base.py", "class Base:\n    pass\n")
    write(user_package / "derived.py", "from mine import base\nclass Derived(base.Base):\n    pass\n")
    assert "mine.base" in identify_code(importlib.import_module("mine.derived").Derived)


def test_own_code_and_the_standard_library_are_not_part_of_a_key() -> None:
    assert identify_code(EntiGraph) == {} and "code" not in key_of("entigraph.synthesis.augmenters.entigraph.EntiGraph")
    assert identify_code(dedent) == {}


def test_an_installed_distribution_enters_by_name_and_version() -> None:
    import omegaconf

    assert key_of("omegaconf.OmegaConf.create", _args_=[{}])["code"] == {"omegaconf": omegaconf.__version__}


def test_code_without_a_source_file_must_state_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interactive:
        pass

    Interactive.__module__ = "written_in_a_notebook"
    with pytest.raises(ConfigError, match="has no source file.*`version`"):
        identify_code(Interactive)
    Interactive.version = 3  # type: ignore[attr-defined]
    assert list(identify_code(Interactive).values()) == ["3"]


def test_keys_hold_the_target_and_defaults_but_no_runtime_fields() -> None:
    target = "entigraph.llm.openai.online_writer.OpenAIWriter"
    key = key_of(target, model="m", base_url=URL, concurrency=3)
    assert key["_target_"] == target and key["max_tokens"] is None and "concurrency" not in key
    assert key == key_of(target, model="m", base_url=URL, concurrency=4, max_tokens=None)
    assert key != key_of(target, model="n", base_url=URL)


def test_runtime_settings_do_not_change_a_folder_and_others_do(configured: Callable[..., Run]) -> None:
    plain = configured()
    same = configured("trainer.devices=2", "tokens.encoder=tokenizers", "synthesis.max_failure_rate=0.5", "logger=none")
    assert same.artifacts.evaluation.folder == plain.artifacts.evaluation.folder
    assert configured("trainer.max_epochs=3").artifacts.training.folder != plain.artifacts.training.folder
    assert configured("tokens.budget=1000").artifacts.tokens.folder != plain.artifacts.tokens.folder
    assert configured("seed=1").artifacts.synthesis.folder == plain.artifacts.synthesis.folder


def test_folders_are_the_same_in_another_process_and_working_directory(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    code = (
        "from entigraph.cli import home\nfrom hydra import compose, initialize_config_dir\n"
        "from entigraph.pipeline.loading import load_run\n"
        "with initialize_config_dir(str(home() / 'conf'), version_base='1.3'):\n"
        f"    config = compose('config', overrides=['paths.root={tmp_path / 'outputs'}'])\n"
        "    print(load_run(config).artifacts.evaluation.folder)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert result.stdout.strip() == str(load_run(composed()).artifacts.evaluation.folder), result.stderr


def test_key_of_a_mixture_contains_the_options_of_its_parts(configured: Any) -> None:
    augmenter = configured("augmenter=mixed", "synthesis.token_budget=1000").artifacts.synthesis.cache_key["augmenter"]
    assert augmenter["name"] == "entigraph50-rephrase50"
    assert augmenter["parts"]["entigraph"]["temperature"] == 1.0
    assert set(augmenter["parts"]["rephrase"]["prompts"]) == {"rephrase_easy", "rephrase_medium", "rephrase_hard"}


def test_extra_cache_key_of_a_component_does_not_replace_an_argument(user_package: Path) -> None:
    write(
        user_package / "reader.py",
        """
        class Reader:
            def __init__(self, path: str) -> None:
                self.path = path

            @property
            def cache_key(self):
                return {"path": "digest of the content", "rows": 3}
        """,
    )
    key = key_of("mine.reader.Reader", path="a.txt")
    assert (key["path"], key["cache_key.path"], key["rows"]) == ("a.txt", "digest of the content", 3)


MAKERS = """
    def make(p):
        return lambda answers: p

    def f(answers, p=1):
        return p
"""
CALLABLES = """
    from functools import partial
    from mine_tools import Poly
    from .power import f, make
    closure = make(1)
    instance = Poly()
    part = partial(f, p=1)
"""


@pytest.mark.parametrize("name", ["closure", "instance", "part"])
def test_the_module_that_a_target_names_counts(name: str, user_package: Path) -> None:
    """Even if the target is an object that code of another module makes."""
    write(user_package / "power.py", MAKERS)
    write(user_package / "metrics.py", CALLABLES)
    write(user_package.parent / "mine_tools.py", "class Poly:\n    def __call__(self, answers): ...\n")
    target = resolve_target(f"mine.metrics.{name}")
    identity = identify_code(target, f"mine.metrics.{name}")
    assert {"mine.metrics", "mine.power", "mine_tools"} <= identity.keys()
    sys.modules.pop("mine_tools")


def test_a_target_that_gets_another_one_is_an_error() -> None:
    with pytest.raises(ConfigError, match="must name what it gets, got hydra.utils.get_method"):
        resolve_target("hydra.utils.get_method")


def test_prompts_outside_the_cache_key_are_not_read() -> None:
    with pytest.raises(ConfigError, match="Rephrase reads the prompt pairs; add it to prompt_names"):
        Rephrase().prompt("pairs")


@pytest.mark.parametrize("argument", ["val_check_interval=2", "limit_val_batches=3", "log_every_n_steps=7"])
def test_what_a_callback_may_act_on_is_in_the_key(argument: str, configured: Callable[..., Run]) -> None:
    stop = "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val_loss}"
    changed, plain = f"trainer.{argument}", ["data.validation_fraction=0.1"]
    assert configured(*plain).artifacts.training.key == configured(*plain, changed).artifacts.training.key
    assert configured(*plain, stop).artifacts.training.key != configured(*plain, stop, changed).artifacts.training.key


def test_a_local_model_is_the_same_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "outputs" / "training" / "x-01234567" / "model"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for path in (folder, "outputs/training/x-01234567/model", "./outputs/training/x-01234567/model"):
        assert enclosing_artifact(path, tmp_path / "outputs") == folder.parent
        assert identify_path(path, tmp_path / "outputs") == "training/x-01234567/model"
    assert enclosing_artifact("org/model", tmp_path / "outputs") is None


@pytest.mark.parametrize("name", ["chat_template.jinja", "merges.txt", "vocab.json"])
def test_every_file_of_a_tokenizer_is_a_source(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    assert PretrainedTokenizer(path=str(tmp_path)).sources() == [tmp_path / name]
