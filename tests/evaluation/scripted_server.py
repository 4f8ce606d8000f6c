"""A loopback endpoint with scripted answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from entigraph.llm.openai.online_writer import OpenAIWriter
from tests.loopback_server import Received, Reply, serving

Answers = Callable[[dict[str, Any]], list[str] | int]


@dataclass
class Scripted:
    """`requests` contains the path and body of every request. An answer that is a number is an HTTP status."""

    base_url: str = ""
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def model(self, **options: Any) -> OpenAIWriter:
        return OpenAIWriter(**{"model": "scripted", "base_url": self.base_url, "timeout_s": 60.0, **options})


@contextmanager
def scripted(answers: Answers) -> Iterator[Scripted]:
    state = Scripted()

    def respond(request: Received) -> Reply:
        body = request.json()
        state.requests.append((request.path, body))
        texts = answers(body)
        if isinstance(texts, int):
            return texts, {"error": {"message": "too long"}}
        chat = "messages" in body
        choices = [
            {"message": {"content": text}, "finish_reason": "stop"} if chat else {"text": text} for text in texts
        ]
        return 200, {"choices": choices, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}

    with serving(respond) as address:
        state.base_url = f"{address}/v1"
        yield state
