from pathlib import Path

import pytest

from tests.chat.finished_runs import write_run


@pytest.fixture(scope="module")
def outputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs folder of one finished run. Tests must not write to it."""
    root = tmp_path_factory.mktemp("chat") / "outputs"
    write_run(root, tiny_model)
    return root
