"""A local HTTP server that answers as a test specifies."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    """A request; the names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


Reply = tuple[int, Any]  # the status, and a value that is sent as JSON


@contextmanager
def serving(respond: Callable[[Received], Reply], headers: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yields the address of a server that answers each request with `respond` and sends these headers, too."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are written separately

        def handle_request(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            names = {name.lower(): value for name, value in self.headers.items()}
            status, value = respond(Received(self.command, self.path, names, body))
            content = json.dumps(value).encode()
            self.send_response(status)
            all_headers = {"Content-Type": "application/json", "Content-Length": len(content), **(headers or {})}
            for name, header in all_headers.items():
                self.send_header(name, str(header))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = handle_request

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()  # ends within 0.01 s
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
