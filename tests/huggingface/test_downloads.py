"""Hub models are downloaded once, with progress. The Hub is a local server."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "a" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(3_500_000),
    "original/consolidated.safetensors": b"another format",
    "pytorch_model.bin": b"another format",
}
DOWNLOAD = """
import sys
from contextlib import contextmanager
from entigraph.huggingface.downloads import download_model
from entigraph.runtime.progress import SilentProgress

class Printed(SilentProgress):
    @contextmanager
    def bar(self, label, total=None, unit=""):
        amounts = []
        yield lambda amount, note="", resumed=False: amounts.append(amount)
        print(label, total, unit, sum(amounts), len(amounts) > 1)

for path in ("somebody/model", "somebody/model", "somebody/nothing", "", "."):
    download_model(path, Printed())
print("end")
"""


class Hub(BaseHTTPRequestHandler):
    requested: list[str] = []

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        name = path.removeprefix("/somebody/model/resolve/main/")
        headers = {}
        if path.startswith("/api/models/somebody/model"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in FILES.items()]
            body = json.dumps({"id": "somebody/model", "sha": COMMIT, "siblings": siblings}).encode()
        elif name in FILES:
            body = FILES[name]
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.requested.append(f"{self.command} {name}")
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_model_is_downloaded_once_with_progress(hub: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    process = subprocess.run(
        [sys.executable, "-c", DOWNLOAD], env=environment, capture_output=True, text=True, timeout=120
    )
    assert process.stdout.splitlines() == ["downloading 4 MB 3 True", "end"], process.stderr[-2000:]
    assert process.stderr == "", "no bars of the client"
    downloaded = [request for request in Hub.requested if request.startswith("GET ")]
    assert downloaded == ["GET config.json", "GET model.safetensors"]
