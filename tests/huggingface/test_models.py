"""Models that cannot be loaded give one message each. The hub is a local server."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ASK = """
from entigraph.errors import ConfigError
from entigraph.huggingface.models import build_meta_model, load_model, weights_folder
for ask in (load_model, build_meta_model, weights_folder):
    try:
        ask("somebody/gated")
    except ConfigError as error:
        print(error)
"""


class GatedHub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        body = json.dumps({"error": "Access to model somebody/gated is restricted."}).encode()
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to model somebody/gated is restricted.")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), GatedHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_gated_model_error_explains_access(hub: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_TOKEN", None)
    process = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, timeout=120)
    lines = process.stdout.splitlines()
    assert len(lines) == 3, process.stderr[-2000:]
    for line in lines:
        assert "somebody/gated is gated: accept its license" in line and "export HF_TOKEN=" in line
