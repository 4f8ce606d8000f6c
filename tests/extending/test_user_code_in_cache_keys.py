"""A component of the user's own never receives the finished results of another one."""

import re
from pathlib import Path

import pytest

from tests.commands import run_command

AUGMENTER = """
from entigraph.synthesis.augmenters.rephrase import Rephrase
from mylab.wording import INSTRUCTION


class Insistent(Rephrase):
    def build_request(self, document, prompt, details="", **options):
        return super().build_request(document, prompt, INSTRUCTION, **options)
"""
SCHEDULE = """
from torch.optim.lr_scheduler import LambdaLR


def halved(optimizer, num_training_steps, warmup_ratio=0.05, min_lr_ratio=0.1):
    return LambdaLR(optimizer, lambda step: 0.5)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    package = tmp_path / "mylab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "augmenter.py").write_text(AUGMENTER)
    (package / "wording.py").write_text("INSTRUCTION = 'Keep every number.'\n")
    (package / "schedule.py").write_text(SCHEDULE)
    return tmp_path


def planned_folders(cwd: Path, *overrides: str) -> dict[str, str]:
    """Returns the names of the folders that a configuration would make, by stage."""
    result = run_command("plan", "logger=none", *overrides, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return dict(re.findall(r"outputs/(\w+)/(\S+)", result.stdout))


def test_augmenter_subclass_has_a_separate_folder(folder: Path) -> None:
    subclass = ["augmenter=rephrase", "augmenter._target_=mylab.augmenter.Insistent"]
    built_in, customized = planned_folders(folder, "augmenter=rephrase"), planned_folders(folder, *subclass)
    assert customized["corpus"] == built_in["corpus"] and customized["tokenizer"] == built_in["tokenizer"]
    assert customized["synthesis"] != built_in["synthesis"]
    assert planned_folders(folder, *subclass) == customized

    (folder / "mylab" / "wording.py").write_text("INSTRUCTION = 'Keep every name.'\n")
    assert planned_folders(folder, *subclass)["synthesis"] != customized["synthesis"], "an imported module has changed"
    assert planned_folders(folder, "augmenter=rephrase") == built_in


def test_scheduler_with_other_schedule_has_a_separate_folder(folder: Path) -> None:
    built_in, customized = planned_folders(folder), planned_folders(folder, "scheduler._target_=mylab.schedule.halved")
    assert customized["tokens"] == built_in["tokens"]
    assert customized["training"] != built_in["training"] and customized["evaluation"] != built_in["evaluation"]

    (folder / "mylab" / "schedule.py").write_text(SCHEDULE.replace("0.5", "0.25"))
    edited = planned_folders(folder, "scheduler._target_=mylab.schedule.halved")
    assert edited["training"] not in (customized["training"], built_in["training"])
