"""Models whose folder contains code."""

import json
from pathlib import Path

import pytest

from entigraph.errors import ConfigError
from entigraph.huggingface.models import load_config


def test_code_in_a_model_folder_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if standard input contains what transformers accepts as consent."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}))
    (tmp_path / "mine.py").write_text(
        "from transformers import PretrainedConfig\n\n\nclass Mine(PretrainedConfig):\n    model_type = 'mine'\n"
        f"\n\nopen({str(tmp_path / 'executed')!r}, 'w').close()\n"
    )
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")
    with pytest.raises(ConfigError):
        load_config(str(tmp_path))
    assert not (tmp_path / "executed").exists()
