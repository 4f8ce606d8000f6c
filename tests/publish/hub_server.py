"""A stand-in for the Hugging Face Hub that takes commits, with files inline as small ones are."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback_server import Received, Reply, serving


@dataclass
class Hub:
    """What was received. With `refuse`, every request fails with this status."""

    url: str = ""
    refuse: int = 0
    tokens: set[str] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()

    def respond(request: Received) -> Reply:
        if request.method != "POST":
            return 404, {"error": request.path}
        hub.tokens.add(request.headers.get("authorization", ""))
        if hub.refuse:
            return hub.refuse, {"error": "You don't have the rights"}
        if request.path == "/api/repos/create":
            hub.created.append(request.json())
            return 200, {"url": f"{hub.url}/me/repo"}
        if request.path == "/api/validate-yaml":  # of the card
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in request.path:
            return 200, {
                "files": [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in request.json()["files"]]
            }
        if "/commit/" in request.path:
            hub.commits.append(request.path)
            for entry in map(json.loads, request.body.splitlines()):
                if entry["key"] == "file":
                    hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return 200, {"commitUrl": f"{hub.url}/me/repo/commit/1", "commitOid": "1", "success": True}
        return 404, {"error": request.path}

    with serving(respond) as hub.url:
        yield hub
