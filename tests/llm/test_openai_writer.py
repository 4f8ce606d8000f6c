"""The OpenAI writer against a local server that limits rates, fails and disappears as real ones do."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from entigraph.config.instantiate import build
from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import Completion, Request
from entigraph.llm.cost import Price, SpendingLimit, render_dollars
from entigraph.llm.openai.online_transport import throttle_wait
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.openai.rate_limits import RateLimiter
from entigraph.llm.openai.server_address import create_client, retry_after
from entigraph.llm.replies import ReplyError
from entigraph.llm.response_cache import ResponseCache
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Failure
from entigraph.storage.texts import read_texts
from tests.commands import RunningCommand
from tests.conftest import Command
from tests.mock_llm_server import Config, running, spawned
from tests.polling import wait_for

KEY = "sk-marked-0123456789abcdef"
PAID = {"mock-llm": {"prompt": 1000.0, "completion": 1000.0}}


def make_request(number: int, sample: int = 0, **changes: Any) -> Request:
    values = {"system": "Write.", "user": f"About number {number}.", "temperature": 1.0, "sample": sample}
    return Request(**{**values, **changes})


@pytest.fixture
def server() -> Iterator[Any]:
    with running(Config(latency_s=0.02, output_tokens=40)) as mock:
        yield mock


def writer(server: Any, **options: Any) -> OpenAIWriter:
    return OpenAIWriter(**{"model": "mock-llm", "base_url": server.base_url, "timeout_s": 60.0, **options})


def ask(options: OpenAIWriter, response_cache: Path, requests: Any) -> list[tuple[Request, Completion]]:
    sent = []

    def record() -> Iterator[Request]:
        for request in requests:
            sent.append(request)
            yield request

    with options.connect(response_cache) as llm:
        answers = list(llm.complete(record()))
    return list(zip(sent, answers, strict=True))


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(0, "$0.00"), (0.00312, "$0.0031"), (0.0996, "$0.100"), (0.4, "$0.40"), (1.006, "$1.01"), (1234.5, "$1,234.50")],
)
def test_dollars_below_one_have_two_significant_digits(dollars: float, text: str) -> None:
    assert render_dollars(dollars) == text


def test_answers_keep_request_order(tmp_path: Path) -> None:
    requests = [make_request(number) for number in range(100)]
    with running(Config(latency_s=0.3, output_tokens=40)) as server:
        answers = ask(writer(server, concurrency=32), tmp_path / "j", requests)
        stats = server.stats()
    assert [request for request, _ in answers] == requests
    assert all(answer.text and answer.usage.completion_tokens for _, answer in answers)
    assert stats["requests"] == 100 and 8 < stats["max_in_flight"] <= 32 and stats["max_connections"] <= 40


def test_cached_answers_are_not_requested_again(server: Any, tmp_path: Path) -> None:
    first = ask(writer(server), tmp_path / "j", [make_request(number) for number in range(20)])
    rerun = ask(writer(server, concurrency=3), tmp_path / "j", [make_request(number) for number in range(30)])
    assert server.stats()["requests"] == 30 and rerun[:20] == first
    ask(writer(server), tmp_path / "j", [make_request(0, sample=1), make_request(0, temperature=0.5)])
    assert server.stats()["requests"] == 32, "other samples and temperatures have answers of their own"


def test_requests_are_consumed_lazily_and_sent_ones_are_cached(server: Any, tmp_path: Path) -> None:
    consumed = 0

    def endless() -> Iterator[Request]:
        nonlocal consumed
        while True:
            consumed += 1
            yield make_request(consumed)

    with writer(server, concurrency=4).connect(tmp_path / "j") as llm:
        answers = llm.complete(endless())
        for _ in range(10):
            next(answers)
        answers.close()
    assert consumed <= 10 + 4 * 4 and server.stats()["undelivered"] == 0
    sent = server.stats()["requests"]
    ask(writer(server), tmp_path / "j", (make_request(number) for number in range(1, 11)))
    assert server.stats()["requests"] == sent


def test_json_schema_is_sent(server: Any, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"entities": {"type": "array", "items": {"type": "string"}}}}
    ((_, answer),) = ask(writer(server), tmp_path / "j", [make_request(0, json_schema=schema)])
    assert "entities" in json.loads(answer.text)


def test_every_fault_is_retried_or_reported_by_reason(tmp_path: Path) -> None:
    kinds = ("429", "500", "hang", "reset", "truncate", "badjson", "empty", "refusal", "length", "poison")
    kinds += ("errorbody", "nochoices", "nullusage", "html", "gzip", "redirect", "drip")
    rates = {f"rate_{kind}": 0.05 for kind in kinds}
    with running(Config(latency_s=0.01, output_tokens=40, retry_after_s=0.2, **rates)) as server:
        requests = [make_request(number) for number in range(100)]
        answers = ask(writer(server, concurrency=32, timeout_s=2.0, attempts=30), tmp_path / "j", requests)
        stats = server.stats()
    assert [request for request, _ in answers] == requests and {*stats["faults"]} == {*kinds}
    reasons = {answer.finish_reason for _, answer in answers if answer.text == "" or answer.finish_reason != "stop"}
    assert reasons == {"stop", "length", "refusal", "error: HTTP 400"}
    assert stats["duplicates"] == 0 and stats["early_retries"] == 0
    assert ResponseCache(tmp_path / "j").totals().answers == sum(
        answer.finish_reason == "stop" and answer.is_answer for _, answer in answers
    )


def test_unreachable_address_is_paused(server: Any, tmp_path: Path) -> None:
    messages: list[str] = []
    options = writer(server, base_url=["http://127.0.0.1:9/v1", server.base_url], concurrency=4)
    with options.connect(tmp_path / "j", notify=messages.append) as llm:
        answers = list(llm.complete(make_request(number) for number in range(60)))
    assert {answer.finish_reason for answer in answers} == {"stop"}
    assert len(messages) == 1 and "http://127.0.0.1:9/v1 is paused for 30 s after no connection" in messages[0]


def test_requests_of_a_document_prefer_one_address(tmp_path: Path) -> None:
    with running(Config(latency_s=0.02)) as one, running(Config(latency_s=0.02)) as other:
        options = OpenAIWriter(model="mock-llm", base_url=[one.base_url, other.base_url], concurrency=8)
        text = "A long document about the lamp of Orsk and its keeper. " * 100
        requests = [
            Request(system="s", user=f"{number % 6} {text} - {number}", suffix=f" - {number}", temperature=1.0)
            for number in range(120)
        ]
        ask(options, tmp_path / "j", requests)
        stats = [server.stats() for server in (one, other)]
    assert all(item["requests"] >= 20 for item in stats)
    assert sum(item["cached_tokens"] for item in stats) > 0.85 * sum(item["prompt_tokens"] for item in stats)


def test_persistent_throttling_is_reported(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("entigraph.llm.openai.online_transport.SECONDS_BEFORE_NOTICE", 0.5)
    messages: list[str] = []
    with running(Config(latency_s=0.01, rate_429=1.0, retry_after_s=0.1)) as server:

        def notify(line: str) -> None:
            messages.append(line)
            server.configure(rate_429=0.0)

        with writer(server, concurrency=4).connect(tmp_path / "j", notify=notify) as llm:
            assert len(list(llm.complete(make_request(number) for number in range(8)))) == 8
    assert len(messages) == 1 and "is throttling requests (HTTP 429: " in messages[0]


def test_retry_after_is_seconds_or_a_date() -> None:
    stated = {"0.5": 0.5, "86400": 86400, "inf": float("inf"), "nan": 0, "later": None, "-1": 0}
    assert {value: retry_after({"retry-after": value}) for value in stated} == stated
    date = retry_after({"retry-after": formatdate(time.time() + 50, usegmt=True)})
    assert retry_after({}) is None and date is not None and 5 < date < 51


def test_pause_of_a_throttled_request_is_at_most_a_minute() -> None:
    for stated, seconds in ((None, 1.0), (0.5, 0.5), (3000.0, 60.0)):
        assert seconds <= throttle_wait(ReplyError(429, "slow down", retry_after_s=stated)) < seconds + 0.21


def test_throttling_without_an_answer_for_an_hour_ends_the_command(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("entigraph.llm.openai.online_transport.MAX_SECONDS_THROTTLED", 0.2)
    with (
        running(Config(latency_s=0.01, rate_429=1.0, retry_after_s=0.1)) as server,
        pytest.raises(LLMError, match="rejected all requests for an hour .HTTP 429: .*run the same command later"),
    ):
        ask(writer(server), tmp_path / "j", [make_request(1)])


def test_rate_limit_that_is_not_positive_is_none() -> None:
    limiter = RateLimiter(concurrency=4, requests_per_minute=None, tokens_per_minute=None)
    for limit in ("-1", "0", "none", "60"):
        assert limiter.requests.per_minute is None
        limiter.adopt_server_rates({"x-ratelimit-limit-requests": limit})
    assert limiter.requests.per_minute == 58


def test_vanished_server_stops_the_run_early(tmp_path: Path) -> None:
    with spawned(latency_s=0.01, output_tokens=40) as server:
        options = writer(server, concurrency=4, attempts=2)

        def requests() -> Iterator[Request]:
            for number in range(10_000):
                if number == 20:
                    os.kill(server.pid, signal.SIGKILL)
                yield make_request(number)

        with pytest.raises(LLMError, match=r"stopped answering: no connection .* answers .* are cached"):
            ask(options, tmp_path / "j", requests())
    assert ResponseCache(tmp_path / "j").totals().answers >= 15


def test_rate_limit_from_headers_is_respected(tmp_path: Path) -> None:
    with running(Config(latency_s=0.02, output_tokens=40, rpm=1200, burst_s=1.0)) as server:
        answers = ask(writer(server, concurrency=64), tmp_path / "j", [make_request(number) for number in range(80)])
        stats = server.stats()
    assert all(answer.finish_reason == "stop" for _, answer in answers)
    assert stats["early_retries"] == 0 and stats["status"].get("429", 0) <= 20, "of 60 beyond the burst"


def test_spending_limit_is_not_exceeded(server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    options = writer(server, prices=PAID, max_cost_usd=2.0, concurrency=4, expected_tokens=50)
    with pytest.raises(LLMError, match=r"llm.max_cost_usd: .* limit of \$2.00 of this command"):
        ask(options, tmp_path / "j", (make_request(number) for number in range(10_000)))
    totals = ResponseCache(tmp_path / "j").totals()
    assert 1.0 < totals.dollars <= 2.0 and totals.answers == server.stats()["ok"]


def test_each_writer_has_a_limit_of_its_own(server: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ENTIGRAPH_COMMAND", "a run")
    options = {"prices": PAID, "expected_tokens": 50, "concurrency": 4}
    requests = [make_request(number) for number in range(40)]
    ask(writer(server, max_cost_usd=50.0, **options), tmp_path / "j", requests)
    spent = ResponseCache(tmp_path / "j").totals().dollars
    node = {"_target_": "entigraph.llm.openai.online_writer.OpenAIWriter", "model": "mock-llm", **options}
    baseline = build({**node, "base_url": server.base_url, "max_cost_usd": spent / 2}, "baselines.gpt")
    with pytest.raises(LLMError, match="baselines.gpt.max_cost_usd: .* or choose a cheaper model"):
        ask(baseline, tmp_path / "j", [make_request(number) for number in range(100, 200)])
    assert ResponseCache(tmp_path / "j").totals().dollars > 1.2 * spent


def spend(response_cache: Path) -> None:
    budget = SpendingLimit(ResponseCache(response_cache), 5.0, Price(1.0, 1.0, 1.0))
    spent = 0.0
    with suppress(LLMError):
        for _ in range(1000):
            budget.reserve(0.01)
            budget.record(0.01, 0.01)
            spent += 0.01
    response_cache.with_name(f"spent-{os.getpid()}").write_text(str(spent))


def test_processes_of_a_command_share_the_spending_limit(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ENTIGRAPH_COMMAND", "a sweep")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=spend, args=(tmp_path / "j",)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
    assert sum(float(file.read_text()) for file in tmp_path.glob("spent-*")) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"base_url": "localhost:8000/v1"},
            "llm.base_url must be a URL such as http://localhost:8000/v1, got 'localhost:8000/v1'",
        ),
        ({"base_url": ["http://localhost:1/v1", 5]}, "llm.base_url must be a URL .*, got 5"),
        (
            {"base_url": "http://localhost:port/v1"},
            "llm.base_url must be a URL .*, got 'http://localhost:port/v1'",
        ),
        ({"base_url": "http://me:sk-abc123@localhost/v1"}, "llm.base_url must be without a user name, password"),
        ({"base_url": "http://localhost/v1?key=sk-abc123"}, "llm.base_url must be without .* query"),
        ({"max_cost_usd": float("nan")}, "llm.max_cost_usd must be at least 0, got nan"),
        ({"timeout_s": float("nan")}, "llm.timeout_s must be positive, got nan"),
        ({"timeout_s": float("inf")}, "llm.timeout_s must be finite, got inf"),
        ({"model": ""}, "llm.model: not set"),
        (
            {"base_url": "http://me:sk-abc123@localhost:80x/v1"},
            "llm.base_url must be a URL .*, got 'localhost:80x/v1'",
        ),
        ({"base_url": "http://localhost/v1 "}, "llm.base_url must be a URL .*, got 'http://localhost/v1 '"),
        (
            {"base_url": "http://localhost/v1/responses"},
            "llm.base_url must be without /responses, .* set http://localhost/v1",
        ),
        ({"api_key_env": "sk-abc123"}, "must be the name of an environment variable"),
        ({"api_key_env": "hf_abc123"}, "must be the name of an environment variable"),
        ({"prices": {"m": {"prompt": 1.0, "completion": -3.0}}}, "must be dollars of at least 0"),
        ({"prices": {"m": {"prompt": float("nan"), "completion": 3.0}}}, "must be dollars of at least 0"),
        ({"prices": {"m": 3.0}}, "must be dollars of at least 0"),
    ],
)
def test_invalid_options_are_rejected(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        OpenAIWriter(**{"model": "m", "base_url": "http://localhost:1/v1", **wrong})
    assert "sk-abc123" not in str(raised.value)


def test_identical_requests_are_sent_once(server: Any, tmp_path: Path) -> None:
    answers = ask(writer(server), tmp_path / "j", [make_request(number % 3) for number in range(30)])
    assert server.stats()["requests"] == 3 and len({answer.text for _, answer in answers}) == 3


def test_json_mode_is_used_without_schema_support(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"entities": {"type": "array", "items": {"type": "string"}}}}
    with running(Config(latency_s=0.05, no_schema=True)) as server:
        requests = [make_request(number, json_schema=schema) for number in range(20)]
        answers = ask(writer(server), tmp_path / "j", requests)
    assert {answer.finish_reason for _, answer in answers} == {"stop"}


@pytest.mark.parametrize("address", ["https://llm.example.com/v1", None])
def test_public_model_without_price_is_rejected(address: str | None, monkeypatch: Any) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="no price for 'some-model'"):
        OpenAIWriter(model="some-model", base_url=address)
    assert OpenAIWriter(model="some-model", base_url=["http://localhost:1/v1", "http://10.0.0.5:8000/v1"])


def test_unreachable_server_is_reported_within_seconds(tmp_path: Path) -> None:
    options = OpenAIWriter(model="m", base_url="http://127.0.0.1:9/v1", timeout_s=2)
    started = time.monotonic()
    with pytest.raises(LLMError, match=r"127.0.0.1:9/v1 does not answer: no connection \(Connection refused\)"):
        ask(options, tmp_path / "j", [make_request(number) for number in range(50)])
    assert time.monotonic() - started < 60, "seconds, not all attempts of all requests"


def test_wrong_key_raises_one_error_without_the_key(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running(Config(latency_s=0.01, key="another")) as server:
        with pytest.raises(LLMError, match=r"rejected the key in OPENAI_API_KEY \(HTTP 401\): .*<key>") as raised:
            named = writer(server, api_key_env="OPENAI_API_KEY")
            ask(named, tmp_path / "j", (make_request(number) for number in range(500)))
        assert server.stats()["requests"] <= 64 and KEY not in str(raised.value)


def test_private_address_receives_a_key_only_if_its_variable_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with running(Config(latency_s=0.01, key=KEY)) as server:
        with pytest.raises(LLMError, match="requires an API key; set llm.api_key_env"):
            ask(writer(server), tmp_path / "j", [make_request(0)])
        (answer,) = ask(writer(server, api_key_env="OPENAI_API_KEY"), tmp_path / "j", [make_request(0)])
    assert answer[1].finish_reason == "stop"


def test_private_address_in_a_list_with_a_public_one_receives_no_key(monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    public, private = "https://llm.example.com/v1", "http://127.0.0.1:1/v1"
    options = OpenAIWriter(model="mock-llm", base_url=[private, public], prices=PAID)
    assert create_client(options, public).api_key == KEY != create_client(options, private).api_key
    assert options.key == KEY, "so that messages omit it"


def test_unknown_model_raises_one_error(tmp_path: Path) -> None:
    with running(Config(latency_s=0.01, only_model=True)) as server:
        with pytest.raises(LLMError, match=r"has no model 'mock-lmm' \(HTTP 404\)"):
            ask(writer(server, model="mock-lmm"), tmp_path / "j", (make_request(number) for number in range(500)))
        assert server.stats()["requests"] <= 64


def test_missing_key_of_paid_endpoint_is_rejected(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    options = OpenAIWriter(
        model="gpt", base_url="https://llm.example.com", api_key_env="MY_KEY", prices={"gpt": PAID["mock-llm"]}
    )
    with pytest.raises(LLMError, match="MY_KEY is not set in the environment"):
        ask(options, tmp_path / "j", [])
    private = replace(options, base_url="http://127.0.0.1:1", api_key_env=None)
    assert private.key, "a server of one's own has a price, but no key"


def test_sweep_without_key_ends_before_its_first_job(command: Command, tmp_path: Path) -> None:
    process = command(
        "run", "experiments=smoke", "llm=openai", "sweep.augmenters=[entigraph,rephrase]", OPENAI_API_KEY=""
    )
    assert (
        process.returncode == 1
        and process.stderr.count("error:") == 1
        and "OPENAI_API_KEY is not set" in process.stderr
    )
    assert not list(tmp_path.rglob("manifest.json"))


def test_plan_shows_cost(command_here: Command, tmp_path: Path) -> None:
    process = command_here("llm=openai", "synthesis.token_budget=1000000", OPENAI_API_KEY="")
    assert process.returncode == 0 and "requests" in process.stdout and "$" in process.stdout, process.stderr
    assert not list(tmp_path.iterdir()), "and needs no key for that, nor writes anything"
    unreachable = command_here(
        "llm=openai", "llm.base_url=http://127.0.0.1:9/v1", "llm.model=mine", "augmenter=rephrase"
    )
    assert unreachable.returncode == 0 and "$0.00" in unreachable.stdout, unreachable.stderr


def synthesis(server: Any, *more: str, command: str = "run") -> list[str]:
    return [
        command,
        "evaluation=none",
        "trainer.max_steps=1",
        "llm=openai",
        f"llm.base_url={server.base_url}",
        "llm.model=mock-llm",
        "llm.concurrency=16",
        "corpus.documents=2",
        "synthesis.token_budget=60000",
        *more,
    ]


def texts_digest(outputs: Path) -> str:
    (part,) = outputs.glob("synthesis/*/texts-*.parquet")
    return hashlib.sha256(part.read_bytes()).hexdigest()


def test_kills_repeat_no_cached_request(command_here: Command, tmp_path: Path) -> None:
    """What the response cache held at a kill is never sent again; an answer on its way at that moment may be lost."""
    assert command_here("stage=corpus", "corpus.documents=2").returncode == 0
    response_cache = tmp_path / "outputs" / "cache"
    with spawned(latency_s=0.2, jitter_s=0.1, output_tokens=200) as server:
        arguments = synthesis(server, "logger=none", command="stage=synthesis")
        unsaved = 0
        for _ in range(3):
            wanted = server.stats()["ok"] + 5
            killed = RunningCommand(*arguments, cwd=tmp_path)
            wait_for(lambda: server.stats()["ok"] >= wanted, process=killed)  # noqa: B023
            killed.kill()
            killed.wait()
            wait_for(lambda: server.stats()["in_flight"] == 0)
            stats = server.stats()
            lost = stats["ok"] - stats["duplicates"] - answers_in(response_cache)
            assert 0 <= lost <= unsaved + 16, "at most the 16 on their way"
            unsaved += lost
        process = command_here(*arguments)
        assert process.returncode == 0, process.stderr
        stats = server.stats()
        assert stats["duplicates"] <= unsaved
        # A lost answer is not sent again if it was requested ahead, for a text beyond the budget.
        lost = stats["ok"] - stats["duplicates"] - answers_in(response_cache)
        assert 0 <= lost <= unsaved - stats["duplicates"]
        rerun = command_here(*synthesis(server, "logger=none", f"paths.root={tmp_path}/unbroken"))
        assert rerun.returncode == 0, rerun.stderr
    assert texts_digest(tmp_path / "outputs") == texts_digest(tmp_path / "unbroken")


def answers_in(response_cache: Path) -> int:
    return ResponseCache(response_cache).totals().answers


def test_full_disk_prints_one_message_and_keeps_answers(command_here: Command, tmp_path: Path) -> None:
    assert command_here("stage=corpus", "corpus.documents=2").returncode == 0
    response_cache = tmp_path / "outputs" / "cache"
    with running(Config(latency_s=0.01, output_tokens=200)) as server:
        few = synthesis(server, "logger=none", "synthesis.token_budget=2000", command="stage=synthesis")
        assert command_here(*few).returncode == 0  # also makes the tokenizer
        arguments = synthesis(server, "logger=none", command="stage=synthesis")
        limited = f"ulimit -f 24; exec {sys.executable} -m entigraph {' '.join(arguments)}"  # files of 24 kB at most
        full = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert full.returncode == 1 and "response cache" in full.stderr and "Check disk space" in full.stderr, (
            full.stderr
        )
        kept = answers_in(response_cache)
        assert kept > 20 and "Traceback" not in full.stderr
        process = command_here(*arguments)
        assert process.returncode == 0 and server.stats()["duplicates"] <= 16, process.stderr


def test_concurrent_syntheses_share_the_response_cache(command_here: Command, tmp_path: Path) -> None:
    assert command_here("stage=corpus", "corpus.documents=2").returncode == 0
    with spawned(latency_s=0.05, output_tokens=200) as server:
        both = [
            RunningCommand(*synthesis(server, "logger=none", more, command="stage=synthesis"), cwd=tmp_path)
            for more in ("augmenter=entigraph", "augmenter=rephrase")
        ]
        for process in both:
            _, stderr = process.communicate(timeout=600)
            assert process.returncode == 0, stderr
        stats = server.stats()
    assert stats["duplicates"] == 0 and stats["ok"] == answers_in(tmp_path / "outputs" / "cache")


def test_failures_are_counted_and_excluded_from_the_corpus(command_here: Command, tmp_path: Path) -> None:
    rates = {f"rate_{kind}": 0.08 for kind in ("length", "refusal", "empty", "poison")}
    with running(Config(latency_s=0.01, output_tokens=200, seed=3, **rates)) as server:
        process = command_here(
            *synthesis(server, "logger=none", "corpus.documents=4", "synthesis.max_failure_rate=0.5")
        )
        assert process.returncode == 0, process.stderr
    (folder,) = (tmp_path / "outputs" / "synthesis").iterdir()
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    failures = list(read_jsonl(folder / "failures.jsonl", Failure))
    assert sum(counts["failures"].values()) == len(failures) > 5
    assert counts["prompt_tokens"] > counts["cached_tokens"] > 0 and counts["completion_tokens"] > 0
    assert {failure.reason for failure in failures} >= {"finish_reason length", "finish_reason refusal"}
    assert all(text.text.strip() for text in read_texts(folder))


def test_unanswered_requests_are_retried_by_the_next_command(command_here: Command, tmp_path: Path) -> None:
    with running(Config(latency_s=0.01, output_tokens=200, rate_500=0.2, seed=1)) as server:
        process = command_here(*synthesis(server, "logger=none", "llm.attempts=1"))
        assert process.returncode == 1 and "requests got no answer" in process.stderr, process.stderr
        assert not list(tmp_path.glob("outputs/synthesis/*/manifest.json"))
        rerun = command_here(*synthesis(server, "logger=none", "llm.attempts=8"))
        assert rerun.returncode == 0 and server.stats()["duplicates"] == 0, rerun.stderr


def test_key_is_never_written(command: Command, tmp_path: Path) -> None:
    prices = "+llm.prices.mock-llm={prompt: 0.1, completion: 0.1}"
    with running(Config(latency_s=0.01, output_tokens=200, require_key=True)) as server:
        process = command(*synthesis(server, prices, "llm.api_key_env=OPENAI_API_KEY"), OPENAI_API_KEY=KEY)
        assert process.returncode == 0, process.stderr
    assert KEY not in process.stdout + process.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 20 and any(file.suffix == ".wandb" for file in files)
    assert not [file for file in files if KEY.encode() in file.read_bytes()]
    tracked = b"".join(file.read_bytes() for file in files if file.suffix == ".wandb")
    assert all(name.encode() in tracked for name in ("synthesis/tokens", "synthesis/dollars", "synthesis-fictional"))


def test_address_and_concurrency_do_not_affect_the_cache_key(command_here: Command) -> None:
    with running(Config(latency_s=0.01, output_tokens=200)) as server:
        first = command_here(*synthesis(server, "logger=none"))
        assert first.returncode == 0, first.stderr
    later = command_here(*synthesis(server, "logger=none", "llm.concurrency=2", "llm.base_url=http://127.0.0.1:9/v1"))
    assert later.returncode == 0 and "nothing to do" in later.stdout, later.stderr
