"""The web app over HTTP, and the errors of its command."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.chat.finished_runs import RUN
from tests.conftest import Command
from tests.ui.conftest import served, write_job


def test_used_port_and_empty_root_are_errors(command: Command, outputs: Path) -> None:
    pytest.importorskip("gradio")
    result = command("ui")
    assert result.returncode == 1 and "has no runs to show" in result.stderr
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        result = command("ui", "--root", str(outputs), "--port", str(used.getsockname()[1]))
    assert result.returncode == 1 and "choose another with --port" in result.stderr
    assert result.stderr.count("error:") == 1 and "Traceback" not in result.stderr


def test_missing_gradio_raises_one_error(outputs: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text(
        "import importlib.util as u\nf = u.find_spec\nu.find_spec = lambda n, *a: n != 'gradio' and f(n, *a) or None\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-m", "entigraph", "ui", "--root", str(outputs)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1 and "pip install 'entigraph[ui]'" in result.stderr


@pytest.fixture(scope="module")
def client(outputs: Path) -> Iterator[Any]:
    gradio_client = pytest.importorskip("gradio_client")
    pytest.importorskip("gradio")
    with served(outputs) as address:
        yield gradio_client.Client(address, verbose=False, analytics_enabled=False)


def test_study_opens_and_a_sweep_row_updates(client: Any, outputs: Path) -> None:
    summary, *_ = client.predict("lamps-00000005", api_name="/study")
    assert "There is no curve yet" in summary
    for doing in ("training:  50%", "evaluation:  10%"):
        write_job(outputs, doing)
        assert client.predict(api_name="/sweeps")["data"][0][3] == doing


def test_question_is_answered_by_both_models_and_explained(client: Any) -> None:
    arguments = (RUN, "its base model")
    transcripts = client.predict(*arguments, "Where did Tobias live?", True, 5, api_name="/ask")
    assert transcripts[0].startswith(f"{RUN}\n\n> Where did Tobias live?\n")
    assert transcripts[1].startswith("background-raw-all-seed0-00000004\n\n> Where did Tobias live?\n")
    why = client.predict(*arguments, api_name="/why")
    assert "training texts: 1, of 4 read in training" in why and "\x1b" not in why


def test_text_is_shown_with_its_source(client: Any) -> None:
    text, source = client.predict("lamps-entigraph-00000002", 4, api_name="/text")
    assert text.startswith("loom/3") and "<script>" in source, "as the value of a text box, which shows it as text"


def test_entity_graph_is_an_image(client: Any) -> None:
    description, image, pairs = client.predict("lamps-entigraph-00000002", "loom", api_name="/graph")
    assert description.startswith("Loom <script>") and image.startswith("<img ") and "<script>" not in image
    assert pairs["data"] == [["Orsk", "Tobias", "1"]]


def test_comparison_without_evaluations_is_a_message(client: Any) -> None:
    with pytest.raises(Exception, match="no_such_run is not in the list; it is empty"):
        client.predict("no_such_run", "another_run", api_name="/compare")


def test_wrong_model_is_a_message(client: Any) -> None:
    with pytest.raises(Exception, match="nothing.* is not in the list; expected one of"):
        client.predict("<b>nothing</b>", "no second model", "Who?", False, 5, api_name="/ask")


def test_only_listed_folders_can_be_opened(client: Any, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="is not in the list"):
        client.predict(str(tiny_model), "no second model", "Who?", False, 5, api_name="/ask")
    with pytest.raises(Exception, match="is not in the list"):
        client.predict(f"../../{tmp_path.name}", 1, api_name="/text")


def test_study_created_while_the_app_runs_opens(client: Any, outputs: Path) -> None:
    (outputs / "studies" / "later-00000006" / "runs").mkdir(parents=True)
    assert "There is no curve yet" in client.predict("later-00000006", api_name="/study")[0]


def test_other_host_names_and_uploads_are_rejected(client: Any) -> None:
    """Web pages that the user visits must not read the documents (DNS rebinding) or fill the disk."""
    address = client.src.rstrip("/")
    assert httpx.get(address).status_code == 200
    assert httpx.get(address, headers={"Host": "evil.example"}).status_code == 400
    upload = httpx.post(f"{address}/gradio_api/upload", files={"files": ("large.bin", bytes(1_000_000))})
    assert upload.status_code == 413
