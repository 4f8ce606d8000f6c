"""A mock of W&B's server on localhost that records what wandb and wandb-workspaces send.

It answers the queries for starting, resuming and finishing a run, logging artifacts and saving a report; any other
query gets an empty answer. The rendering of pages can only be checked on the real service.
"""

import gzip
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.loopback_server import Received, Reply, serving

ENTITY = "lab"


@dataclass
class Service:
    """The recorded requests.

    Attributes:
        runs: Group, history and summary by run id.
        artifacts: The inputs of CreateArtifact.
        used: The inputs of UseArtifact.
        received: The body of every request.
        queries: The names of the GraphQL queries.
        refused: The name of a query that is answered with an error.
    """

    url: str = ""
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    used: list[dict[str, Any]] = field(default_factory=list)
    reports: list[dict[str, Any]] = field(default_factory=list)
    received: list[bytes] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    refused: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "x" * 40, "WANDB_MODE": "online"}

    def answer(self, name: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.queries.append(name)
        project = {"id": "p", "name": variables.get("project") or "entigraph", "entity": {"id": "e", "name": ENTITY}}
        if name == "RunResumeStatus":
            return {"model": {**project, "bucket": self.resume_status(variables["name"])}}
        if name == "UpsertBucket":
            known = variables["name"] in self.runs
            run = self.runs.setdefault(variables["name"], {"history": [], "summary": {}, "group": None})
            run["group"] = variables.get("groupName") or run["group"]
            bucket = {
                "id": variables["name"],
                "name": variables["name"],
                "displayName": "",
                "config": "{}",
                "project": project,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": not known}}
        if name == "CreateArtifact":
            self.artifacts.append(variables["input"])
            created = {"id": f"artifact-{len(self.artifacts)}", "state": "COMMITTED"}
            return {"createArtifact": {"artifact": {**created, "artifactSequence": {"latestArtifact": None}}}}
        if name == "UseArtifact":
            self.used.append(variables["input"])
            return {"useArtifact": {"artifact": {"id": variables["input"]["artifactID"]}}}
        if name == "CreateRunFiles":
            files = [
                {"name": file, "uploadUrl": f"{self.url}/{variables['run']}/{file}"} for file in variables["files"]
            ]
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}
        if name == "ArtifactType":
            return {"project": None}
        if name == "ProjectInternalId":
            return {"project": {"id": "p", "internalId": "1"}}
        if name == "upsertView":
            return {"upsertView": {"view": self.save_view(variables), "inserted": True}}
        if name == "SpecificReport":
            return {"view": next(view for view in self.reports if view["id"] == variables["reportId"])}
        if name == "ProjectViews":
            edges = [{"node": view, "cursor": "c"} for view in self.reports]
            return {"project": {"allViews": {"edges": edges, "pageInfo": {"endCursor": "c", "hasNextPage": False}}}}
        return self.describe_project(name, query, project)

    def describe_project(self, name: str, query: str, project: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "u", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        answer: dict[str, Any] = {"viewer": viewer, "serverInfo": {"features": [], "cliVersionInfo": {}}}
        if "projects" in query or "models" in query:
            node = {**project, "entityName": ENTITY, "createdAt": "", "isBenchmark": False, "user": None}
            edges = [{"node": node, "cursor": "c"}]
            answer["models"] = {"edges": edges, "pageInfo": {"endCursor": "c", "hasNextPage": False}}
        return answer

    def resume_status(self, run: str) -> dict[str, Any] | None:
        if run not in self.runs:
            return None
        lines = self.runs[run]["history"]
        return {
            "id": run,
            "name": run,
            "displayName": "",
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]),
            "eventsTail": "[]",
            "summaryMetrics": json.dumps(self.runs[run]["summary"]),
            "config": "{}",
            "tags": [],
            "notes": "",
            "wandbConfig": json.dumps({"t": 1}),
        }

    def save_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        view = {
            "id": variables["id"] or b64encode(f"View:{len(self.reports)}".encode()).decode(),
            "type": variables["type"],
            "name": variables["name"],
            "displayName": variables["displayName"],
            "description": variables["description"],
            "project": {"id": "p", "name": variables["projectName"], "entityName": variables["entityName"]},
            "spec": variables["spec"],
            "updatedAt": "2026-01-01T00:00:00",
            "createdAt": "2026-01-01T00:00:00",
        }
        self.reports = [known for known in self.reports if known["id"] != view["id"]] + [view]
        return view

    def stream(self, run: str, body: dict[str, Any]) -> None:
        files = body.get("files", {})
        history = files.get("wandb-history.jsonl", {"content": []})
        with self.lock:
            kept = self.runs[run]["history"]
            kept[history.get("offset", len(kept)) :] = [json.loads(line) for line in history["content"]]
            for line in files.get("wandb-summary.json", {"content": []})["content"]:
                self.runs[run]["summary"] = json.loads(line)


@contextmanager
def served() -> Iterator[Service]:
    service = Service()

    def respond(request: Received) -> Reply:
        compressed = request.headers.get("content-encoding") == "gzip"
        body = gzip.decompress(request.body) if compressed else request.body
        service.received.append(body)
        if request.path.endswith("/file_stream"):
            service.stream(request.path.split("/")[-2], json.loads(body))
        if request.path != "/graphql":
            return 200, {}
        asked = json.loads(body)
        name = asked.get("operationName") or asked["query"].split("(")[0].split("{")[0].split()[1]
        answer = service.answer(name, asked["query"], asked.get("variables") or {})
        if name == service.refused:
            return 200, {"errors": [{"message": "permission denied"}], "data": None}
        return 200, {"data": answer}

    with serving(respond) as service.url:
        yield service
