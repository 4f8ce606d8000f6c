"""The OpenAI writers against servers that reject parameters, refuse, reason aloud or fail in their own way."""

import json
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import entigraph
from entigraph.config.schema import Synthesis
from entigraph.errors import ConfigError, EntigraphError, LLMError
from entigraph.evaluation.backends.endpoint_backend import EndpointBackend
from entigraph.evaluation.base import AnswerNotes, Prompt, Sampling
from entigraph.llm.answer_judge import judge_answers
from entigraph.llm.base import Completion, Request
from entigraph.llm.openai.batch_client import BatchClient, split_lines
from entigraph.llm.openai.batch_writer import OpenAIBatchWriter
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import ResponseCache
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Document
from entigraph.synthesis import stage as synthesis_stage
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from tests.loopback_server import Received, Reply, serving

TEXT = "The lamp of Orsk burned."


def answer(content: Any = TEXT, **fields: Any) -> Reply:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}, **fields}
    return 200, {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 10, "completion_tokens": 5}}


def rejection(message: str, status: int = 400, **fields: Any) -> Reply:
    return status, {"error": {"message": message, **fields}}


@contextmanager
def endpoint(respond: Callable[[dict[str, Any]], Reply]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yields the address of a server that answers a request body with `respond`, and the list of bodies received."""
    bodies: list[dict[str, Any]] = []

    def reply(request: Received) -> Reply:
        bodies.append(request.json())
        return respond(bodies[-1]) if "/v1/" in request.path else (404, {"detail": "Not Found"})

    with serving(reply) as address:
        yield f"{address}/v1", bodies


def make_request(number: int = 0, **changes: Any) -> Request:
    return Request(**{"system": "Write.", "user": f"About {number}.", "temperature": 0.1, **changes})


def ask(
    address: str, folder: Path, requests: list[Request], lines: list[str] | None = None, **options: Any
) -> list[Completion]:
    writer = OpenAIWriter(**{"model": "m", "base_url": address, "timeout_s": 60, "attempts": 2, **options})
    with writer.connect(folder / "cache", (lines if lines is not None else []).append) as llm:
        return list(llm.complete(requests))


def reject_stop_and_temperature(body: dict[str, Any]) -> Reply:
    """Names only one of the two parameters, as some models do."""
    if "stop" in body or body.get("temperature", 1.0) != 1.0:
        return rejection("Unsupported parameter: 'stop' is not supported with this model.", param="stop")
    return answer(f"{TEXT}\n## Example 2")


def test_rejected_parameters_are_learned_once_and_noted(tmp_path: Path) -> None:
    lines: list[str] = []
    requests = [make_request(number, stop=("## Example",)) for number in range(5)]
    with endpoint(reject_stop_and_temperature) as (address, bodies):
        answers = ask(address, tmp_path, requests, lines)
        sent = len(bodies)
        later = ask(address, tmp_path, [make_request(9, stop=("## Example",))], lines)
        assert len(bodies) == sent + 1, "the next command knows what is accepted"
    assert {completion.text for completion in [*answers, *later]} == {f"{TEXT}\n"}, "stop strings are applied here"
    assert all("stop not sent" in completion.notes for completion in [*answers, *later])
    assert len(lines) == 1 and "stop is not sent, temperature is sent as 1" in lines[0]


def test_configured_capabilities_replace_learned_ones(tmp_path: Path) -> None:
    with endpoint(lambda body: answer() if "seed" not in body else rejection("no", param="seed")) as (address, bodies):
        ask(address, tmp_path, [make_request()], capabilities={"seed": False})
        assert len(bodies) == 1
    with pytest.raises(ConfigError, match=r"llm.capabilities.response_format must be one of true, json_object"):
        OpenAIWriter(model="m", base_url="http://localhost:1/v1", capabilities={"response_format": "xml"})


def test_options_of_reasoning_models_are_sent(tmp_path: Path) -> None:
    with endpoint(lambda body: answer()) as (address, bodies):
        ask(address, tmp_path, [make_request()], reasoning_effort="low", extra_body={"top_p": 0.9}, send_seed=False)
    assert bodies[0]["reasoning_effort"] == "low" and bodies[0]["top_p"] == 0.9 and "seed" not in bodies[0]


@pytest.mark.parametrize(
    "refused",
    [
        answer(None),
        answer("   "),
        answer("<think>without an end"),
        answer("", finish_reason="content_filter"),
        (200, {"choices": [{"finish_reason": reason, "message": {"content": ""}} for reason in ("length", "refusal")]}),
        (200, {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I can't."}}]}),
        rejection("This prompt always fails"),
        rejection("blocked by the content management policy"),
        rejection("Access denied by firewall", status=403),
    ],
)
def test_refused_requests_are_sent_again_by_the_next_command(refused: Reply, tmp_path: Path, monkeypatch: Any) -> None:
    requests = [make_request(number) for number in range(4)]
    refuses = True

    def respond(body: dict[str, Any]) -> Reply:
        return refused if refuses and "About 3" in body["messages"][1]["content"] else answer()

    with endpoint(respond) as (address, bodies):
        monkeypatch.setenv("ENTIGRAPH_COMMAND", "one")
        ask(address, tmp_path, requests[:3])  # the server has answered before
        first = ask(address, tmp_path, requests)
        sent = len(bodies)
        assert [completion.is_answer for completion in first] == [True, True, True, False]
        assert ResponseCache(tmp_path / "cache").totals().answers == 3
        assert ask(address, tmp_path, requests) == first and len(bodies) == sent, "not again by the same command"
        refuses = False
        monkeypatch.setenv("ENTIGRAPH_COMMAND", "another")
        assert all(completion.is_answer for completion in ask(address, tmp_path, requests))
        assert len(bodies) == sent + 1


ENTITY_LIST = '{"summary": "s", "entities": ["Orsk", "Vale"]}'
VERDICT = '{"reason": "r", "verdict": "incorrect"}'
REFUSED_IN_PROSE = "I'm sorry, but I can't help with that request."


def write_texts(folder: Path, writer: OpenAIWriter) -> None:
    out = folder / uuid4().hex
    (folder / "corpus").mkdir(exist_ok=True)
    out.mkdir()
    write_jsonl(folder / "corpus" / "documents.jsonl", [Document(id="d", title="Orsk", text="Vale lit the lamp.")])
    rules = Synthesis(token_budget=None, near_duplicates="ignore")
    with writer.connect(folder / "cache", lambda line: None) as llm:
        options = {"augmenter": EntiGraph(), "llm": llm, "count_tokens": len, "rules": rules}
        synthesis_stage.run(folder / "corpus", out, **options)


def judge(folder: Path, writer: OpenAIWriter) -> None:
    fields: dict[str, Any] = dict.fromkeys(("document_id", "group", "prompt_hash"), "")
    fields |= {"choices": [], "answer": 0, "choice": None, "correct": False, "accepted": ["Vale"]}
    answers = [Answer(question_id="q", question="Who lit the lamp?", response="Renn", **fields)]
    judge_answers(answers, writer, folder / "cache", lambda line: None, lambda count, resumed=False: None)


@pytest.mark.parametrize(
    ("work", "structured", "text"),
    [
        (write_texts, REFUSED_IN_PROSE, TEXT),
        (write_texts, '{"entities": []}', TEXT),
        (write_texts, ENTITY_LIST, f"{REFUSED_IN_PROSE}<|im_end|>"),
        (judge, "It is wrong.", TEXT),
    ],
)
def test_unusable_answers_are_requested_again_by_the_next_command(
    work: Callable[[Path, OpenAIWriter], None], structured: str, text: str, tmp_path: Path, monkeypatch: Any
) -> None:
    repaired = False

    def respond(body: dict[str, Any]) -> Reply:
        usable = VERDICT if "Answer to judge" in str(body) else ENTITY_LIST
        replies = [usable, TEXT] if repaired else [structured, text]
        return answer(replies["response_format" not in body])

    with endpoint(respond) as (address, bodies):
        writer = OpenAIWriter(model="m", base_url=address)
        monkeypatch.setenv("ENTIGRAPH_COMMAND", "one")
        for _ in range(2):  # not again by the same command
            with pytest.raises(EntigraphError):
                work(tmp_path, writer)
            assert len({(str(body["messages"]), body["seed"]) for body in bodies}) == len(bodies)
        repaired = True
        monkeypatch.setenv("ENTIGRAPH_COMMAND", "two")
        work(tmp_path, writer)
        sent = len(bodies)
        monkeypatch.setenv("ENTIGRAPH_COMMAND", "three")
        work(tmp_path, writer)
        assert len(bodies) == sent, "valid answers are not requested again"


LONG = {"user": "word " * 1000}


@pytest.mark.parametrize(
    ("changes", "options", "reason", "sent"),
    [
        ({}, {}, "length", 2),
        ({}, {"max_tokens": 100}, "length", 1),
        ({"max_tokens": 100}, {}, "length", 1),
        (LONG, {"max_tokens": 100}, "prompt cut by the server", 2),
    ],
)
def test_what_the_server_cut_is_requested_again(
    changes: Any, options: Any, reason: str, sent: int, tmp_path: Path
) -> None:
    lines: list[str] = []
    choices = answer(finish_reason="length")[1]["choices"]
    reply = {"choices": choices, "usage": {"prompt_tokens": 500, "completion_tokens": 5}}
    with endpoint(lambda body: (200, reply)) as (address, bodies):
        for _ in range(2):
            (completion,) = ask(address, tmp_path, [make_request(**changes)], lines, **options)
            assert completion.finish_reason == reason
    assert len(bodies) == sent
    assert any("read only 500 tokens of a longer prompt" in line for line in lines) == (changes is LONG)


def test_replies_that_do_not_arrive_count_as_spent(tmp_path: Path) -> None:
    options = {"prices": {"m": {"prompt": 1000.0, "completion": 1000.0}}, "max_tokens": 100, "concurrency": 1}
    with endpoint(lambda body: answer() if "About 0" in str(body) else (200, [])) as (address, bodies):
        with pytest.raises(LLMError, match=r"llm.max_cost_usd: .* limit of \$1.00"):
            ask(address, tmp_path, [make_request(number) for number in range(50)], max_cost_usd=1.0, **options)
        assert 5 < len(bodies) < 12, "of about 16 cents"


def test_temporary_error_without_a_parameter_is_not_learned(tmp_path: Path) -> None:
    replies = [rejection("Request contains an invalid argument.")]
    with endpoint(lambda body: replies.pop() if replies else answer()) as (address, bodies):
        (completion,) = ask(address, tmp_path, [make_request()])
    assert completion.text == TEXT and not completion.notes and bodies[0] == bodies[1]


def test_refusal_cached_by_an_earlier_version_is_sent_again(tmp_path: Path) -> None:
    with endpoint(lambda body: answer()) as (address, bodies):
        ask(address, tmp_path, [make_request()])
        (stored,) = (tmp_path / "cache").glob("*.sqlite")
        with closing(sqlite3.connect(stored.rename(tmp_path / "response_cache.sqlite"))) as database:
            database.execute("UPDATE answers SET finish_reason = 'error: HTTP 400'")
            database.execute("CREATE TABLE batches (name, address, id, time)")
            database.commit()
        running = ResponseCache(tmp_path / "cache")
        assert ask(address, tmp_path, [make_request()])[0].text == TEXT and len(bodies) == 2
        ask(address, tmp_path, [make_request()])
        assert len(bodies) == 2
        (key,) = running.index
        for cache in (running, ResponseCache(tmp_path / "cache")):
            cache.refresh(force=True)
            assert cache.totals().answers == 1 and cache.get(key).text == TEXT  # type: ignore[union-attr]


def test_filtered_first_prompt_does_not_concern_the_key(tmp_path: Path) -> None:
    def respond(body: dict[str, Any]) -> Reply:
        flagged = "About 0" in body["messages"][1]["content"]
        return rejection("Your input was flagged", status=403) if flagged else answer()

    with endpoint(respond) as (address, _):
        answers = ask(address, tmp_path, [make_request(number) for number in range(2)])
    assert [completion.finish_reason for completion in answers] == ["content_filter", "stop"]


@pytest.mark.parametrize("count", [1, 40])
def test_endpoint_that_rejects_everything_ends_the_run_with_its_message(count: int, tmp_path: Path) -> None:
    with endpoint(lambda body: rejection("Your plan has no access")) as (address, bodies):
        with pytest.raises(LLMError, match=r"rejected .*\(HTTP 400\): Your plan has no access\."):
            ask(address, tmp_path, [make_request(number) for number in range(count)])
        assert len(bodies) < max(2, count), "most were not sent"


def test_base_model_behind_chat_completions_gets_advice(tmp_path: Path) -> None:
    message = "default chat template is no longer allowed, so you must provide a chat template"
    with (
        endpoint(lambda body: rejection(message)) as (address, _),
        pytest.raises(LLMError, match=rf"{message}. For a base model, which has none, set api=completions"),
    ):
        ask(address, tmp_path, [make_request()])


def test_wrong_address_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    with endpoint(lambda body: answer()) as (address, _):
        without = address.removesuffix("/v1")
        with pytest.raises(LLMError, match=rf"has no path /chat/completions .*such as {without}/v1"):
            ask(without, tmp_path, [make_request()])
    with pytest.raises(
        ConfigError, match="llm.base_url must be without /chat/completions, .* set http://localhost:1/v1"
    ):
        OpenAIWriter(model="m", base_url="http://localhost:1/v1/chat/completions")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-abc\r")
    with pytest.raises(LLMError, match="OPENAI_API_KEY contains a carriage return") as raised:
        ask(address, tmp_path, [make_request()], api_key_env="OPENAI_API_KEY")
    assert "sk-abc" not in str(raised.value)


def test_redirect_to_another_server_is_not_followed(tmp_path: Path) -> None:
    headers = {"location": "http://other.example/v1"}
    with serving(lambda request: (307, {}), headers) as address:
        with pytest.raises(LLMError, match="redirects to http://other.example/v1 are not followed"):
            ask(address, tmp_path, [make_request()], attempts=3)
        batch_writer = OpenAIBatchWriter(model="m", base_url=address)
        with pytest.raises(LLMError, match="returned HTTP 307"), batch_writer.connect(tmp_path / "cache") as llm:
            list(llm.complete([make_request()]))


def test_dead_proxy_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(LLMError, match=r"through the proxy http://127.0.0.1:9 of HTTP_PROXY"):
        ask("http://10.255.0.1:1/v1", tmp_path, [make_request()], attempts=3)


def test_chain_of_thought_is_parsed_after_the_reasoning(tmp_path: Path) -> None:
    content = "<think>\nIt could be the second.\nAnswer: B.\n</think>\nIt says so.\nAnswer: A.\n"
    with endpoint(lambda body: answer(content)) as (address, _):
        writer = OpenAIWriter(model="m", base_url=address)
        with writer.connect(tmp_path / "cache") as llm:
            backend = EndpointBackend(llm)
            backend.notes = ResumableJsonLines(tmp_path / "notes.jsonl", AnswerNotes, "request")
            with backend.notes:
                ((_, generations),) = backend.sample([Prompt("k", "Which?")], Sampling(samples=2, temperature=0.1))
    assert [generation.text for generation in generations] == ["It says so.\nAnswer: A."] * 2
    notes = [answer.notes for answer in read_jsonl(backend.notes.path, AnswerNotes)]
    assert notes == [["with reasoning"]] * 2


@pytest.mark.parametrize("lost", [{"finish_reason": "content_filter"}, {"message": {"content": " "}}])
def test_lost_samples_are_requested_again_by_the_next_command(
    lost: dict[str, Any], tmp_path: Path, monkeypatch: Any
) -> None:
    (choice,) = answer()[1]["choices"]
    repaired = {**answer()[1], "choices": [choice, choice]}
    replies = [{**repaired, "choices": [choice, {**choice, **lost}]}]
    with endpoint(lambda body: (200, replies.pop() if replies else repaired)) as (address, bodies):
        writer = OpenAIWriter(model="m", base_url=address)
        for command, sent in (("one", 1), ("one", 1), ("two", 2), ("three", 2)):
            monkeypatch.setenv("ENTIGRAPH_COMMAND", command)
            with writer.connect(tmp_path / "cache") as llm:
                backend = EndpointBackend(llm)
                ((_, samples),) = backend.sample([Prompt("k", "Which?")], Sampling(samples=2, temperature=0.1))
            assert len(bodies) == sent and (samples[0] == samples[1]) == (command != "one")


@pytest.mark.parametrize("status", [{"status_code": "200"}, {}, {"status_code": 200}])
@pytest.mark.parametrize("encode", [json.dumps, lambda body: body])
def test_batch_results_of_other_servers_are_read(status: dict[str, Any], encode: Callable[[Any], Any]) -> None:
    client = BatchClient(OpenAIBatchWriter(model="m", base_url="http://localhost:1/v1"))
    response = {**status, "body": encode(answer()[1])}
    completion = client.parse_result({"custom_id": "00", "response": response})
    assert isinstance(completion, Completion) and completion.text == TEXT


def test_batch_results_end_at_line_feeds_only() -> None:
    content = '{"a": "x\u2028y\x85z"}\n\n{"b": 1}'.encode()
    assert list(split_lines([content[:9], content[9:]])) == [*filter(None, content.split(b"\n"))]


@pytest.mark.parametrize("usage", [None, {"prompt_tokens": 10}, {"prompt_tokens": 10, "completion_tokens": None}])
def test_counts_that_an_endpoint_does_not_report_are_estimated(usage: Any, tmp_path: Path) -> None:
    prices = {"m": {"prompt": 0.0, "completion": 1.0}}
    with endpoint(lambda body: (200, {**answer()[1], "usage": usage})) as (address, _):
        (completion,) = ask(address, tmp_path, [make_request()], prices=prices)
    assert completion.usage.completion_tokens > 0 and completion.usage.prompt_tokens > 0
    assert completion.usage.dollars == pytest.approx(completion.usage.completion_tokens / 1e6)


def test_advice_about_an_unknown_finish_reason_works_as_printed(tmp_path: Path) -> None:
    lines: list[str] = []
    with endpoint(lambda body: answer(finish_reason="eos token.x")) as (address, _):
        ask(address, tmp_path, [make_request()], lines)
    (line,) = (line for line in lines if "eos token.x" in line)
    override = shlex.split(line[line.index("'+llm") :])[0]
    config = entigraph.compose(["llm=openai", override])
    assert config.llm.finish_reasons == {"eos token.x": "stop"}
