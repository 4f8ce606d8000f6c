"""A loopback endpoint that answers as a test decides."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from entigraph.llm.openai.online_writer import OpenAIWriter

Answers = Callable[[dict[str, Any]], list[str] | int]


@dataclass
class Scripted:
    """`requests` holds the path and body of every request. An answer that is a number is an HTTP error."""

    base_url: str = ""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def model(self, **options: Any) -> OpenAIWriter:
        return OpenAIWriter(**{"model": "scripted", "base_url": self.base_url, "timeout_s": 5.0, **options})


@contextmanager
def scripted(answers: Answers) -> Iterator[Scripted]:
    state = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.requests.append((self.path, body))
            texts = answers(body)
            if isinstance(texts, int):
                self.reply(texts, {"error": {"message": "too long"}})
                return
            chat = "messages" in body
            choices = [
                {"message": {"content": text}, "finish_reason": "stop"} if chat else {"text": text} for text in texts
            ]
            self.reply(200, {"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 5}})

        def reply(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
