"""The Batch API against a local server."""

import re
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import Completion, Request
from entigraph.llm.openai.batch_writer import OpenAIBatchWriter
from entigraph.llm.response_cache import PendingBatch, ResponseCache
from tests.commands import RunningCommand
from tests.conftest import Command
from tests.loopback_server import Received, Reply, serving
from tests.mock_llm_server import Config, running, spawned
from tests.polling import wait_for


def make_request(number: int) -> Request:
    return Request(system="Write.", user=f"About number {number}.", temperature=1.0)


def writer(server: Any, **options: Any) -> OpenAIBatchWriter:
    return OpenAIBatchWriter(**{"model": "mock-llm", "base_url": server.base_url, "poll_interval_s": 0.05, **options})


def ask(options: OpenAIBatchWriter, response_cache: Path, requests: Any) -> list[Completion]:
    with options.connect(response_cache, notify=lambda line: None) as llm:
        return list(llm.complete(requests))


def test_files_are_split_and_answers_keep_order(tmp_path: Path) -> None:
    with running(Config(output_tokens=30, batch_delay_s=0.05)) as server:
        answers = ask(writer(server, max_requests_per_file=30), tmp_path / "j", (make_request(n) for n in range(100)))
        stats = server.stats()
        rerun = ask(writer(server), tmp_path / "j", (make_request(n) for n in range(100)))
        assert server.stats()["batch_requests"] == stats["batch_requests"] == 100
    assert len(answers) == 100 and rerun == answers and len({answer.text for answer in answers}) > 90
    assert not [*(tmp_path / ".batches").iterdir()] and not ResponseCache(tmp_path / "j").pending_batches(
        server.base_url
    )


def test_files_are_split_by_size(tmp_path: Path) -> None:
    messages: list[str] = []
    with running(Config(output_tokens=30, batch_delay_s=0.05)) as server:
        options = writer(server, max_file_size_mb=0.001)
        with options.connect(tmp_path / "j", notify=messages.append) as llm:
            assert len(list(llm.complete(make_request(n) for n in range(10)))) == 10
    assert len([line for line in messages if "requests sent" in line]) > 2


def test_failed_and_expired_requests_are_retried(tmp_path: Path) -> None:
    faults = {"rate_500": 0.2, "rate_poison": 0.1, "rate_badjson": 0.1}
    with running(Config(output_tokens=30, batch_delay_s=0.05, batch_expires_after=25, **faults)) as server:
        answers = ask(writer(server, attempts=20), tmp_path / "j", (make_request(n) for n in range(120)))
        stats = server.stats()
    reasons = {answer.finish_reason for answer in answers}
    assert reasons == {"stop", "error: HTTP 400"} and stats["duplicates"] == 0
    assert stats["batch_requests"] > 120


def test_full_queue_waits_for_pending_batches(tmp_path: Path) -> None:
    with running(Config(output_tokens=30, batch_delay_s=0.2, batch_queue=50)) as server:
        options = writer(server, max_requests_per_file=40, max_pending_batches=3)
        assert len(ask(options, tmp_path / "j", (make_request(n) for n in range(120)))) == 120
        assert server.stats()["batch_requests"] == 120


def test_killed_command_finds_its_pending_batch(command: Command, tmp_path: Path) -> None:
    arguments = [
        "run",
        "evaluation=none",
        "trainer.max_steps=1",
        "logger=none",
        "llm=openai_batch",
        "llm.model=mock-llm",
        "llm.poll_interval_s=0.1",
        "corpus.documents=2",
        "synthesis.token_budget=40000",
    ]
    response_cache = tmp_path / "outputs" / "cache"
    with spawned(output_tokens=200, batch_delay_s=1.5) as server:
        arguments.append(f"llm.base_url={server.base_url}")
        seen: set[str | None] = set()
        for _ in range(2):  # first while the entities are pending, then while the first texts are
            killed = RunningCommand(*arguments, cwd=tmp_path)
            new = wait_for(lambda: new_batches(response_cache, server.base_url, seen), process=killed)  # noqa: B023
            killed.kill()
            killed.wait()
            seen |= new
        process = command(*arguments)
        assert process.returncode == 0, process.stderr
        stats = server.stats()
    assert stats["duplicates"] == 0 and stats["batch_requests"] == ResponseCache(response_cache).totals().answers


def new_batches(response_cache: Path, address: str, seen: set[str | None]) -> set[str | None]:
    if not response_cache.exists():
        return set()
    return {batch.id for batch in ResponseCache(response_cache).pending_batches(address) if batch.id} - seen


def test_unsent_batch_is_given_up_and_sent_by_the_next_command(tmp_path: Path) -> None:
    with running(Config(output_tokens=30, batch_delay_s=0.05)) as server:
        options = writer(server)
        requests = [make_request(n) for n in range(5)]
        keys = {key: b"" for key in keys_of(options, requests)}
        ResponseCache(tmp_path / "j").begin_batch(PendingBatch("lost", server.base_url), keys)
        answers = ask(options, tmp_path / "j", requests)
        assert {answer.finish_reason for answer in answers} == {"gave up: the batch was never submitted"}
        assert {answer.finish_reason for answer in ask(options, tmp_path / "j", requests)} == {"stop"}


def keys_of(options: OpenAIBatchWriter, requests: list[Request]) -> list[bytes]:
    from entigraph.llm.caching import build_wire_request

    return [build_wire_request(options.body(request), request).key for request in requests]


class BatchEndpoint:
    """Answers batches of one request. A batch has each of the `statuses` in turn, then the last. `faults` are replies
    that are given once instead of another, by method and last part of the path; `cut` downloads end early, once.
    """

    def __init__(self, statuses: Sequence[str] = ("completed",), faults: Any = (), cut: bool = False) -> None:
        self.statuses, self.faults, self.cut = list(statuses), dict(faults), cut
        self.batches: list[dict[str, Any]] = []
        self.headers: dict[str, str] = {}  # of the next reply

    def serve(self) -> AbstractContextManager[str]:
        self.headers["Server"] = "batches"
        return serving(self.respond, self.headers)

    def respond(self, request: Received) -> Reply:
        self.headers.clear()
        self.headers["Server"] = "batches"
        name = request.path.rsplit("/", 1)[-1]
        reply = self.reply(request, name)
        return self.faults.pop(f"{request.method} {name}", reply)

    def reply(self, request: Received, name: str) -> Reply:
        known = {batch["id"]: batch for batch in self.batches}
        if name == "files":
            (self.key,) = re.findall(r'"custom_id": "(\w+)"', request.body.decode())
            return 200, {"id": "file-in", "object": "file"}
        if name == "batches" and request.method == "POST":
            self.batches.append({"id": f"batch_{len(known)}", "output_file_id": "out", **request.json()})
            return 200, self.batches[-1]
        if name == "batches":
            return 200, {"data": self.batches, "has_more": False}
        if name == "content":
            if self.cut:
                self.headers |= {"Content-Length": "100000", "Connection": "close"}
                self.cut = False
            message = {"choices": [{"message": {"content": "The lamp."}, "finish_reason": "stop"}]}
            return 200, {"custom_id": self.key, "response": {"status_code": 200, "body": message}}
        if name not in known:
            return 404, {"error": {"message": f"No batch found with id '{name}'."}}
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return 200, {**known[name], "status": status}


@pytest.mark.parametrize(
    "endpoint",
    [
        BatchEndpoint(["queued", "IN_PROGRESS", "validating", "completed"]),
        BatchEndpoint(faults={"POST batches": (502, {"error": "bad gateway"})}),
        BatchEndpoint(cut=True),
    ],
    ids=["unknown statuses", "lost reply to a submission", "interrupted download"],
)
def test_batch_is_submitted_once(endpoint: BatchEndpoint, tmp_path: Path) -> None:
    with endpoint.serve() as address:
        options = OpenAIBatchWriter(model="m", base_url=f"{address}/v1", poll_interval_s=0.01, timeout_s=60)
        (answer,) = ask(options, tmp_path / "j", [make_request(1)])
    assert answer.text == "The lamp." and len(endpoint.batches) == 1


def test_batch_that_the_endpoint_does_not_have_blocks_nothing(tmp_path: Path) -> None:
    """It is kept for the key of another project until one of its requests is needed."""
    endpoint, lines = BatchEndpoint(), list[str]()
    with endpoint.serve() as address:
        options = OpenAIBatchWriter(model="m", base_url=f"{address}/v1", poll_interval_s=0.01, max_pending_batches=1)
        cache = ResponseCache(tmp_path / "j")
        cache.begin_batch(PendingBatch("lost", f"{address}/v1"), {keys_of(options, [make_request(1)])[0]: b""})
        cache.set_batch_id("lost", "batch_gone")
        with options.connect(tmp_path / "j", notify=lines.append) as llm:
            assert next(llm.complete([make_request(2)])).text == "The lamp."
            assert [line for line in lines if "does not have batch batch_gone" in line]
            assert len(ResponseCache(tmp_path / "j").pending_batches(f"{address}/v1")) == 1
        reasons = [ask(options, tmp_path / "j", [make_request(1)])[0].finish_reason for _ in range(2)]
    assert reasons == ["gave up: the endpoint no longer has its batch", "stop"]


def test_canceled_batch_ends_the_command(tmp_path: Path) -> None:
    with running(Config(output_tokens=30, batch_delay_s=600)) as server:

        def cancel(line: str) -> None:
            if "requests sent" in line:
                address = f"{server.base_url}/batches/{line.split()[1].rstrip(':')}/cancel"
                urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=60).close()

        with (
            pytest.raises(LLMError, match="batch_0 was canceled; 3 of its requests are unanswered"),
            writer(server).connect(tmp_path / "j", notify=cancel) as llm,
        ):
            list(llm.complete(make_request(n) for n in range(3)))


def test_discount_and_spending_limit(tmp_path: Path) -> None:
    prices = {"mock-llm": {"prompt": 1000.0, "completion": 1000.0}}
    with running(Config(output_tokens=30, batch_delay_s=0.05)) as server:
        options = writer(server, prices=prices, max_cost_usd=1.0, expected_tokens=30)
        assert options.price.completion == 500
        with pytest.raises(LLMError, match="llm.max_cost_usd"):
            ask(options, tmp_path / "j", (make_request(n) for n in range(1000)))
        assert 0 < ResponseCache(tmp_path / "j").totals().dollars <= 1.0
        assert not ResponseCache(tmp_path / "j").pending_batches(server.base_url), "what fitted was sent and answered"


def test_several_addresses_and_unreachable_endpoint_raise_one_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be one URL for the Batch API"):
        OpenAIBatchWriter(model="m", base_url=["http://127.0.0.1:1", "http://127.0.0.1:2"])
    options = OpenAIBatchWriter(model="m", base_url="http://127.0.0.1:9/v1", poll_interval_s=0.01, timeout_s=1)
    with pytest.raises(LLMError, match="127.0.0.1:9/v1 is unreachable"):
        ask(options, tmp_path / "j", [make_request(1)])
