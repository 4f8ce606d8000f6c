"""What endpoints reply, and the outcome that it is turned into."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from entigraph.llm.base import Completion, Usage
from entigraph.llm.cost import FREE, Price
from entigraph.llm.openai.capabilities import Capabilities
from entigraph.llm.openai.online_transport import is_prompt_cut
from entigraph.llm.reasoning import separate_reasoning
from entigraph.llm.replies import (
    NORMALIZED,
    WITH_END_MARKERS,
    ErrorKind,
    InvalidReply,
    ReplyError,
    classify_error,
    parse_completion,
    read_error,
    read_reply,
    split_choices,
)
from entigraph.llm.stored_answers import decode_completion, encode_completion

BODY: dict[str, Any] = {
    "model": "m",
    "temperature": 0.1,
    "messages": [{"role": "system", "content": "Write."}, {"role": "user", "content": "Now."}],
    "max_completion_tokens": 300,
    "seed": 1,
    "stop": ["##"],
    "n": 4,
    "reasoning_effort": "low",
    "response_format": {"type": "json_schema", "json_schema": {}},
}


def reply(message: Mapping[str, Any], finish_reason: str | None = "stop", usage: Any = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage}


@pytest.mark.parametrize(
    "text",
    [
        "<think>\nPLAN\n</think>\n\nLamp.",
        "<thinking>PLAN</thinking>Lamp.",
        '<think time="3">PLAN</think>Lamp.',
        "<Reasoning>\nPLAN says <think>\n</Reasoning>\nLamp.",
        "PLAN\n</think>\n\nLamp.",
        "<think>PLAN<think>PLAN</think>PLAN</think>Lamp.",
        "[THINK]PLAN[/THINK]Lamp.",
        "◁think▷PLAN◁/think▷Lamp.",
        "<|channel|>analysis<|message|>PLAN<|end|><|start|>assistant<|channel|>final<|message|>Lamp.<|return|>",
        "<|channel>thought\nPLAN\n<channel|>Lamp.",
        "analysisPLANassistantfinalLamp.",
        "Here is my thought process:\nPLAN\nHere is my response:\nLamp.",
        "Here are my reasoning steps:\nPLAN\n[BEGIN FINAL RESPONSE]\nLamp.\n[END FINAL RESPONSE]",
        "<antThinking>PLAN</antThinking>Lamp.",
        "<thought-process>PLAN</thought-process>Lamp.",
        "<reasoning_content>PLAN</reasoning_content>Lamp.",
        "<unused94>thought\nPLAN<unused95>Lamp.",
        "<|think|>PLAN<|end|><|begin|>assistant<|content|>Lamp.",
        "<|startofthink|>PLAN<|endofthink|>Lamp.",
        "<｜begin▁of▁thought｜>PLAN<｜end▁of▁thought｜>Lamp.",
        "<think>PLAN<\\/think>Lamp.",
        "<think>PLAN</ think>Lamp.",
        "＜think＞PLAN＜/think＞Lamp.",
        "<details>\n<summary>Thinking</summary>\nPLAN\n</details>\nLamp.",
        "<scratch_pad>PLAN</scratch_pad>Lamp.",
        "<longcat_think>PLAN</longcat_think>Lamp.",
        "<thought_process>PLAN</thought_process>Lamp.",
        "<think>PLAN</think><answer>Lamp.</answer>",
        "<|START_THINKING|>PLAN<|END_THINKING|><|START_RESPONSE|>Lamp.<|END_RESPONSE|>",
        "```thinking\nPLAN\n```\nLamp.",
        "&lt;think&gt;PLAN&lt;/think&gt;Lamp.",
        "<analysis>\nPLAN\n</analysis>\nLamp.",
        "<think>PLAN</think>\n<reflection>PLAN</reflection>\nLamp.",
        "PLAN\n```\ncode\n```\n</think>\nLamp.",
    ],
)
def test_reasoning_in_the_text_is_separated(text: str) -> None:
    answer, reasoning = separate_reasoning(text)
    assert answer == "Lamp." and "PLAN" in reasoning
    assert separate_reasoning(answer).answer == answer


def test_empty_element_before_the_answer_is_removed() -> None:
    for element in ("<think/>", "<think />"):
        assert separate_reasoning(f"{element}\nLamp.") == ("Lamp.", "")


def test_reasoning_that_does_not_end_leaves_no_answer() -> None:
    assert separate_reasoning("<think>\nIt is A.\nAnswer: A.\n").answer == ""


@pytest.mark.parametrize(
    "text",
    [
        *("The `<think>` tag opens and the `</think>` tag closes.", "a < b, [x] and <b>bold</b>", "  kept spaces\n"),
        "Apriel writes `[BEGIN FINAL RESPONSE]` before its answer.",
        "The <critical_thinking> element holds notes.",
        'Write\n```xml\n<report><analysis id="1">Sales rose.</analysis></report>\n```\nto report.',
        "```\n<think>\nPlan.\n</think>\n```\nis what the model writes.",
        "Close every section with </analysis> before the footer.",
        "The log says <reason>timeout</reason>, <thoughts>none</thoughts>.",
    ],
)
def test_text_without_reasoning_is_unchanged(text: str) -> None:
    assert separate_reasoning(text) == (text, "")


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Lamp.", "reasoning_content": "PLAN"},
        {"content": "Lamp.", "reasoning": "PLAN"},
        {"content": "Lamp.", "reasoning_details": [{"type": "reasoning.text", "text": "PLAN"}]},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "PLAN"}]},
                {"type": "text", "text": "Lamp."},
            ]
        },
        {"content": ["Lamp."], "thinking": "PLAN"},
        {"content": [{"text": "PLAN", "thought": True}, {"text": "Lamp."}]},
    ],
)
def test_reasoning_in_a_field_is_never_text(message: Mapping[str, Any]) -> None:
    completion = parse_completion(reply(message), "m", FREE)
    assert (completion.text, completion.reasoning, completion.is_answer) == ("Lamp.", "PLAN", True)
    for empty in ({**message, "content": None}, {name: message[name] for name in message if name != "content"}):
        completion = parse_completion(reply(empty), "m", FREE)
        assert not completion.is_answer and completion.text == ""


@pytest.mark.parametrize(
    ("stated", "reason"),
    [
        *((name, "stop") for name in ("eos", "STOP", None, "end_turn", "stop_sequence", "COMPLETE")),
        *((name, "stop") for name in ("stop-sequence", "FinishReason.STOP", "eos token", "end_of_text")),
        ({"type": "stop"}, "stop"),
        *((name, "length") for name in ("MAX_TOKENS", "max_tokens", "model_length", "FINISH_REASON_MAX_TOKENS")),
        *((name, "content_filter") for name in ("SAFETY", "content_filter", "RECITATION")),
        ("something_new", "something_new"),
    ],
)
def test_finish_reasons_of_other_servers(stated: Any, reason: str) -> None:
    assert parse_completion(reply({"content": "Lamp."}, stated), "m", FREE).finish_reason == reason


@pytest.mark.parametrize(
    ("stated", "tokens", "reason"), [(None, 20, "length"), (None, 19, "stop"), ("stop", 20, "stop")]
)
def test_answer_of_the_maximum_length_without_a_finish_reason_is_truncated(
    stated: str | None, tokens: int, reason: str
) -> None:
    body = reply({"content": "Lamp."}, stated, {"completion_tokens": tokens})
    assert parse_completion(body, "m", FREE, max_tokens=20).finish_reason == reason


@pytest.mark.parametrize(
    "body",
    [
        {"choices": []},
        {"choices": None},
        {"choices": ["text"]},
        {"choices": [{"finish_reason": "stop"}]},
        reply({"content": "La"}, "error"),
        reply({"content": "La"}, "insufficient_system_resource"),
    ],
)
def test_reply_without_an_answer_is_invalid(body: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidReply):
        parse_completion(body, "m", FREE)


def test_hidden_reasoning_is_part_of_usage_and_price() -> None:
    price = Price(1.0, 1.0, 10.0)
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 450}
    usage |= {"completion_tokens_details": {"reasoning_tokens": 300}}  # counted in the total only
    parsed = parse_completion(reply({"content": "Lamp."}, usage=usage), "m", price).usage
    assert (parsed.completion_tokens, parsed.reasoning_tokens) == (350, 300)
    assert parsed.dollars == pytest.approx((100 + 3500) / 1e6)
    del usage["total_tokens"]
    assert parse_completion(reply({"content": "Lamp."}, usage=usage), "m", price).usage == parsed
    for odd in (
        None,
        {"prompt_tokens": None, "completion_tokens": None},
        [],
        "none",
        {"prompt_tokens": float("inf"), "completion_tokens": 10**400},
    ):
        assert parse_completion(reply({"content": "Lamp."}, usage=odd), "m", price).usage == Usage()


def test_lone_surrogates_are_replaced_and_noted() -> None:
    completion = parse_completion(reply({"content": "Lamp \ud83d."}), "m", FREE)
    assert completion.text == "Lamp \ufffd." and any("invalid characters" in note for note in completion.notes)
    named = parse_completion({**reply({"content": "Lamp."}, "odd \ud83d"), "model": "m\ud83d"}, "m", FREE)
    assert (named.model, named.finish_reason) == ("m\ufffd", "odd \ufffd")
    assert read_error(400, b'{"error": "bad \\ud83d"}').message == "bad \ufffd"


@pytest.mark.parametrize(
    ("body", "message", "kind"),
    [
        (b'{"error": {"message": "overloaded", "code": 502}}', "overloaded", ErrorKind.transient),
        (b'{"error": "overloaded"}', "overloaded", ErrorKind.transient),
        (b'{"error": {"message": "bad", "type": "invalid_request_error"}}', "bad", ErrorKind.rejected),
        (b'{"error": {"message": "slow down", "code": 429}}', "slow down", ErrorKind.throttled),
        (b'{"detail": "Not Found"}', "Not Found", ErrorKind.transient),
        (b'{"choices": [{"message": {"content": "La"}}], "error": {"message": "lost"}}', "lost", ErrorKind.transient),
    ],
)
def test_error_in_a_reply_with_status_200(body: bytes, message: str, kind: ErrorKind) -> None:
    error = read_reply(body)
    assert isinstance(error, ReplyError) and error.message == message and classify_error(error) is kind


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Your credit balance is too low to access the Anthropic API."),
        (403, "Sorry, your account balance is insufficient"),
        (429, "Your account is suspended due to insufficient balance"),
        (400, "Billing hard limit has been reached"),
        (402, "Payment required"),
    ],
)
def test_account_without_credit_is_recognized(status: int, message: str) -> None:
    assert classify_error(error(message, status)) is ErrorKind.credit


@pytest.mark.parametrize(
    ("message", "retry_after_s", "kind"),
    [
        ("Rate limit exceeded: free-models-per-day", None, ErrorKind.credit),
        ("limit: 50 requests per day", None, ErrorKind.credit),
        ("Monthly spend limit reached", None, ErrorKind.credit),
        ("slow down", 86_400.0, ErrorKind.credit),
        ("limit: 50 requests per day", 30.0, ErrorKind.throttled),
        ("on requests per day (RPD): Limit 200. Please try again in 7m12s.", None, ErrorKind.throttled),
        ("limit: 50 requests per minute", None, ErrorKind.throttled),
    ],
)
def test_quota_that_is_used_up_for_long_is_not_waited_for(
    message: str, retry_after_s: float | None, kind: ErrorKind
) -> None:
    assert classify_error(replace(error(message, 429), retry_after_s=retry_after_s)) is kind


def test_messages_of_all_forms_are_read() -> None:
    nested = {"object": "error", "message": {"detail": [{"loc": ["body", "seed"], "msg": "not permitted"}]}}
    assert read_error(422, json.dumps(nested).encode()).message == "body.seed: not permitted"
    page = b"<!DOCTYPE html><html><head><title>502 Bad\n Gateway</title></head></html>"
    assert read_error(502, page).message == "a page of HTML: 502 Bad Gateway"
    assert read_error(503, b"").message == "an empty body"
    routed = {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": "too many images"}}}
    assert read_error(400, json.dumps(routed).encode()).message == "Provider returned error; too many images"


def error(message: str, status: int = 400, **fields: Any) -> ReplyError:
    return read_error(status, json.dumps({"error": {"message": message, **fields}}).encode())


@pytest.mark.parametrize(
    ("rejection", "forms"),
    [
        (error("Unsupported parameter: 'stop' is not supported with this model.", param="stop"), {"stop": False}),
        (error("Unrecognized request argument supplied: seed"), {"seed": False}),
        (error('Unknown name "seed": Cannot find field.'), {"seed": False}),
        (
            read_error(422, b'{"detail": [{"loc": ["body", "n"], "msg": "Extra inputs are not permitted"}]}'),
            {"n": False},
        ),
        (error("This model does not support response format `json_schema`."), {"response_format": "json_object"}),
        (read_error(400, b'{"detail": "json_schema is not supported"}'), {"response_format": "json_object"}),
        (error("'temperature' does not support 0.1. Only the default (1) is supported."), {"temperature": "default"}),
        (error("Unrecognized request argument: max_completion_tokens"), {"max_completion_tokens": "max_tokens"}),
        (error("Range of max_tokens should be [1, 4096]"), None),
        (error("max_completion_tokens must be between 1 and 200", param="max_completion_tokens"), None),
        # vLLM's server
        (error("max_completion_tokens=100000 cannot be greater than max_model_len=4096. (parameter=x)"), None),
        (
            error("temperature must be in [0, 2], got 3.5. (parameter=temperature, value=3.5)", param="temperature"),
            None,
        ),
        (error("System role not supported"), {"system": "user"}),
        (error("'messages[0].role' does not support 'system'.", param="messages[0].role"), {"system": "user"}),
        (error("'max_tokens' is too large: 300. The maximum context length is 512.", param="max_tokens"), None),
        # llama.cpp's server, for more samples than it has slots, and for a prompt longer than a slot's context
        (error("Field 'n': Value must be between 1 <= value <= 4, but got 9"), {"n": False}),
        (error("request (9024 tokens) exceeds the available context size (2048 tokens), try increasing it"), None),
        (error("This request always fails"), None),
        (error("Conversation roles must alternate user/assistant"), {"system": "user"}),
        (error("unknown field `seed`, expected one of `model`, `temperature`, `stop`"), {"seed": False}),
        (error("JSON mode is not enabled for models/gemma"), {"response_format": "json_object"}),
        (error("Only one completion choice is allowed", status=500), {"n": False}),
        (error("Multiple candidates is not enabled for this model"), {"n": False}),
        (error('"m" does not support thinking'), {"reasoning_effort": False}),
        (error("When thinking is enabled, temperature must be 1"), {"temperature": "default"}),
        (error("Failed to parse input at pos 0: does not the grammar school teach seeds?", status=500), None),
        (error("Invalid prompt", param="messages"), None),
        (
            error(
                "Generated JSON does not match the expected schema. Errors: jsonschema: '/choice' does not validate "
                "with /properties/choice/enum: value must be one of 'A', 'B'",
                code="json_validate_failed",
            ),
            None,
        ),
    ],
)
def test_rejected_parameter_is_recognized(rejection: ReplyError, forms: Mapping[str, Any] | None) -> None:
    adapted = Capabilities().adapt(rejection, BODY)
    assert (dict(adapted.forms) if adapted else None) == forms


def test_parameter_of_the_user_is_not_dropped_because_its_value_is_out_of_range() -> None:
    body = {**BODY, "top_k": -5}
    assert Capabilities().adapt(error("top_k must be 0 (disable), or at least 1, got -5."), body) is None
    unsupported = Capabilities().adapt(error("Unsupported parameter: top_k"), body)
    assert unsupported and dict(unsupported.forms) == {"top_k": False}


def test_every_form_of_a_parameter_is_tried_once() -> None:
    capabilities, forms = Capabilities(), []
    rejection = error("response_format is not supported", param="response_format")
    while adapted := capabilities.adapt(rejection, {**BODY, "stop": []}, named_only=True):
        capabilities = adapted
        forms.append(capabilities.forms["response_format"])
    assert forms == ["json_object", False] and "response_format" not in capabilities.encode(BODY)
    assert capabilities.notes(BODY) == ("response_format not sent",)


def test_only_a_temperature_of_zero_is_raised_for_a_server_that_requires_a_positive_one() -> None:
    greedy = {**BODY, "temperature": 0.0}
    adapted = Capabilities().adapt(error("`temperature` must be strictly positive", 422), greedy)
    assert adapted and adapted.encode(greedy)["temperature"] == 0.01 and adapted.encode(BODY)["temperature"] == 0.1
    assert adapted.notes(greedy) == ("temperature 0.01 instead of 0",) and adapted.notes(BODY) == ()
    for body in (greedy, BODY):  # it accepts only its default after all
        default = adapted.adapt(error("Unsupported value: 'temperature'", param="temperature"), body)
        assert default and default.encode(body)["temperature"] == 1.0


def test_error_without_a_parameter_changes_one_at_a_time() -> None:
    rejection, capabilities = error("Request contains an invalid argument."), Capabilities({"n": False})
    trials = []
    while adapted := capabilities.adapt(rejection, {**BODY, "n": 2}):
        capabilities = adapted
        trials.append({name: form for name, form in capabilities.forms.items() if name != "n"})
    expected = ["response_format", "response_format"]
    assert trials[0] == {}, "the same request again"
    assert [name for trial in trials for name in trial][-2:] == expected and max(map(len, trials)) == 1
    assert capabilities.forms["n"] is False


def test_system_prompt_is_merged_into_the_user_message() -> None:
    encoded = Capabilities({"system": "user", "max_completion_tokens": "max_tokens"}).encode(BODY)
    assert encoded["messages"] == [{"role": "user", "content": "Write.\n\nNow."}]
    assert encoded["max_tokens"] == 300 and "max_completion_tokens" not in encoded


def test_stored_answer_keeps_reasoning_and_notes() -> None:
    def restore(completion: Completion) -> Completion:
        return decode_completion(encode_completion(b"key", b"scope", completion, 1, 0.5))

    usage = Usage(10, 0, 20, 0.5, 15)
    completion = Completion(text="Lamp.", model="m", usage=usage, reasoning="PLAN", notes=("seed not sent",))
    assert restore(completion) == completion
    assert restore(Completion(text="<think>PLAN</think>\nLamp.", model="m")).text == "Lamp."
    several = Completion(text='[["<think>Answer: B.</think>Answer: A.", "stop"]]', model="m", finish_reason="several")
    assert split_choices(restore(several)) == [("Answer: A.", "stop")]


@pytest.mark.parametrize(
    ("message", "status", "kind"),
    [
        ("Insufficient token quota for this minute, retry after 10 s", 429, ErrorKind.throttled),
        ("Insufficient balance of replicas", 500, ErrorKind.transient),
        ("Your account has been flagged for unusual activity", 403, ErrorKind.rejected),
    ],
)
def test_other_errors_are_no_missing_credit_or_filter(message: str, status: int, kind: ErrorKind) -> None:
    assert classify_error(error(message, status)) is kind


def test_answers_are_normalized_and_the_change_is_noted() -> None:
    text = "A\u200b lamp.\r\nB\x00 cafe\u0301.<|im_end|>"
    completion = parse_completion({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}, "m", FREE)
    assert completion.text == "A lamp.\nB café." and completion.notes == (WITH_END_MARKERS, NORMALIZED)
    blank = {"choices": [{"message": {"content": "\u200b\ufeff"}, "finish_reason": "stop"}]}
    assert not parse_completion(blank, "m", FREE).is_answer


@pytest.mark.parametrize("prompt", ["the lamp was lit " * 2_500, "灯塔在春天被点亮" * 3_000, "ประภาคารถูกจุดไฟ" * 3_000])
def test_a_prompt_that_the_server_cut_is_noticed_in_any_script(prompt: str) -> None:
    assert is_prompt_cut(Usage(2_048, 0, 10), prompt)
    assert not is_prompt_cut(Usage(len(prompt), 0, 10), prompt)
