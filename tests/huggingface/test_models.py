"""Models that cannot be loaded raise one error each. The Hub is a local server."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback_server import serving

ASK = """
from entigraph.errors import ConfigError
from entigraph.huggingface.models import build_meta_model, load_model, weights_folder
for ask in (load_model, build_meta_model, weights_folder):
    try:
        ask("somebody/gated")
    except ConfigError as error:
        print(error)
"""


RESTRICTED = "Access to model somebody/gated is restricted."


@pytest.fixture
def hub() -> Iterator[str]:
    headers = {"X-Error-Code": "GatedRepo", "X-Error-Message": RESTRICTED}
    with serving(lambda request: (401, {"error": RESTRICTED}), headers) as address:
        yield address


def test_gated_model_error_explains_access(hub: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_TOKEN", None)
    process = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=600)
    lines = process.stdout.splitlines()
    assert len(lines) == 3, process.stderr[-2000:]
    for line in lines:
        assert "somebody/gated is gated: accept its license" in line and "export HF_TOKEN=" in line
