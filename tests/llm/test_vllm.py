"""The vLLM writer and a vLLM server with the real package and a small model on a CPU (`make vllm-env`)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import LLMError
from entigraph.llm.base import Completion, Request, Writer
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.vllm.vllm_writer import VLLMWriter
from entigraph.storage import artifact
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Failure
from entigraph.storage.texts import read_texts
from entigraph.synthesis.augmenters.entity_lists import ENTITY_SCHEMA
from tests.conftest import ARTICLE, Command
from tests.llm.test_vllm_transport import alive, children
from tests.real_vllm import CPU, EAGER, MEMORY, PYTHON, needs_vllm, serving

pytestmark = needs_vllm
CONTEXT, MOST_TOKENS, TEACHING_STEPS, ATTENTION = 4096, 800, 100, 0.15
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}:\n{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}writer:\n{% endif %}"
)
TEXTS = ("The lamp went out for one hour.", "Orsk lies by the sea, and its keeper wrote of the storm.", "He read it.")
ENTITIES = '{"summary": "A keeper and a lamp.", "entities": ["Orsk", "Miriam Vale", "the lamp"]}'
TOO_LONG = Request(system="Write.", user=ARTICLE * 20, temperature=0.0)


@pytest.fixture(scope="session")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Llama 3's shape and a chat template, taught for some seconds which token follows which, so that it ends what it
    begins; its attention, which it learns without, stays random and small: the prompt has some say.

    vLLM's attention on CPUs takes heads of 32 and more.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("writer") / "tiny-writer"
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig.from_pretrained(tiny_model, head_dim=32, eos_token_id=tokenizer.eos_token_id)
    network = LlamaForCausalLM(config)
    outputs = [layer.self_attn.o_proj.weight for layer in network.model.layers]
    for weight in outputs:
        torch.nn.init.zeros_(weight).requires_grad_(False)
    optimizer = torch.optim.AdamW([weight for weight in network.parameters() if weight.requires_grad], lr=1e-2)
    answer_tokens = [tokenizer.encode(f"\n{text}") + [tokenizer.eos_token_id] for text in (ENTITIES, *TEXTS)]
    longest = max(map(len, answer_tokens))
    labels = torch.tensor([ids + [-100] * (longest - len(ids)) for ids in answer_tokens])
    for _ in range(TEACHING_STEPS):
        network(input_ids=labels.clamp(min=0), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for weight in outputs:
        torch.nn.init.normal_(weight, std=ATTENTION)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    cached = ["--max-model-len", f"{CONTEXT}", "--enable-prefix-caching", "--enable-prompt-tokens-details"]
    with serving(model, tmp_path_factory.mktemp("server") / "log", *cached) as address:
        yield address


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """Documents of somebody's own."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(6):
        (folder / f"lamp-{number}.txt").write_text(f"The Lamp of Orsk, part {number}\n\n{ARTICLE}")
    return folder


def synthesis(notes: Path, model: Path | str, *more: str) -> list[str]:
    return [
        "corpus=text_files",
        f"corpus.path={notes}",
        "evaluation=none",
        "logger=none",
        "tokenizer=bytes",
        "synthesis.max_failure_rate=0.9",
        f"llm.model={model}",
        f"llm.max_tokens={MOST_TOKENS}",
        *more,
    ]


def in_process(notes: Path, model: Path) -> list[str]:
    options = [f"llm.python={PYTHON}", f"llm.max_model_len={CONTEXT}", "llm.concurrency=4", "llm.dtype=float32"]
    options.append(f"llm.gpu_memory_utilization={MEMORY}")
    options += ["augmenter=rephrase", "synthesis.token_budget=6000"]  # more than a hundred short texts
    return synthesis(notes, model, "llm=vllm", *options, "+llm.arguments.enforce_eager=true")


def cached_times(outputs: Path) -> dict[bytes, float]:
    """Returns when each answer was stored."""
    return {answer.key: answer.time for answer in ResponseCache(outputs / "cache").stored_answers(None)}


def finished(outputs: Path) -> tuple[Path, dict[str, Any]]:
    (folder,) = (outputs / "synthesis").iterdir()
    return folder, artifact.read_manifest(folder)["counts"]


def test_kill_and_resume_write_each_text_once(command: Command, notes: Path, model: Path, tmp_path: Path) -> None:
    arguments, outputs = in_process(notes, model), tmp_path / "outputs"
    assert command(*arguments, "stage=corpus").returncode == 0
    killed = subprocess.Popen(
        [sys.executable, "-m", "entigraph", *arguments, "stage=synthesis"], cwd=tmp_path, env={**os.environ, **CPU}
    )
    deadline = time.monotonic() + 300
    while len(cached_times(outputs)) < 5:
        assert killed.poll() is None and time.monotonic() < deadline, (outputs / "vllm.log").read_text()[-3000:]
        time.sleep(0.005)
    workers = children(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    held = cached_times(outputs)
    deadline = time.monotonic() + 15
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "the engine outlives the command"
        time.sleep(0.1)

    resumed = command(*arguments, "stage=synthesis", **CPU)
    assert resumed.returncode == 0, resumed.stderr + (outputs / "vllm.log").read_text()[-3000:]
    assert "vLLM 0" in resumed.stdout and "is ready after" in resumed.stdout
    kept = cached_times(outputs)
    assert len(held) < len(kept) and all(kept[key] == came for key, came in held.items())
    folder, counts = finished(outputs)
    texts = list(read_texts(folder))
    assert counts["tokens"] >= 6000 and len(texts) > 20
    assert {text.writer.rsplit("-", 1)[0] for text in texts} == {"tiny-writer"}
    assert counts["cached_tokens"] > counts["prompt_tokens"] / 4, "documents stay in the prefix cache"

    rerun = command(*arguments, "stage=synthesis", "synthesis.token_budget=5000", "llm.python=gone")
    assert rerun.returncode == 0 and "vLLM" not in rerun.stdout, rerun.stderr
    assert cached_times(outputs) == kept


def test_server_and_engine_give_equal_answers(server: str, model: Path, tmp_path: Path) -> None:
    prompts = [f"### Document\n{ARTICLE}\n\nAbout {name}." for name in ("Orsk", "Tobias", "the ledger", "the ship")]
    greedy_requests = [Request(system="Write.", user=prompt, temperature=0.0) for prompt in prompts]
    greedy_requests.append(Request(system="List.", user=prompts[0], temperature=0.0, json_schema=ENTITY_SCHEMA))
    server_answers = ask(
        OpenAIWriter(model="tiny-writer", base_url=server, max_tokens=MOST_TOKENS), tmp_path / "s", greedy_requests
    )
    options = {"max_model_len": CONTEXT, "max_tokens": MOST_TOKENS, "dtype": "float32", "arguments": EAGER}
    writer = VLLMWriter(model=str(model), python=str(PYTHON), gpu_memory_utilization=MEMORY, **options)
    sampled_requests = [
        Request(system="List.", user=item, temperature=1.0, json_schema=ENTITY_SCHEMA) for item in prompts
    ]
    *inside, refused = ask(writer, tmp_path / "p", [*greedy_requests, *sampled_requests, TOO_LONG])
    inside, lists = inside[: len(greedy_requests)], inside[len(greedy_requests) :]
    assert refused.finish_reason == "error: rejected by the engine" and f"{CONTEXT}" in refused.text
    assert [answer.text for answer in inside] == [answer.text for answer in server_answers]
    assert [answer.finish_reason for answer in inside] == [answer.finish_reason for answer in server_answers]
    assert [answer.usage.prompt_tokens for answer in inside] == [
        answer.usage.prompt_tokens for answer in server_answers
    ]
    assert len({answer.text for answer in inside}) > 1, "the prompt has a say"
    parsed = [json.loads(answer.text) for answer in lists if answer.finish_reason == "stop"]
    assert len(parsed) > 1 and all({*item} == {"summary", "entities"} for item in parsed)


def ask(options: Writer, response_cache: Path, requests: list[Request]) -> list[Completion]:
    with options.connect(response_cache, lambda words: None) as llm:
        return list(llm.complete(requests))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 100_000}, r"max_completion_tokens=100000 cannot be greater than max_model_len=4096"),
        ({"extra_body": {"top_k": -5}}, "top_k must be 0"),
        ({"extra_body": {"top_p": 3.0}}, "top_p must be in"),
    ],
)
def test_values_that_the_server_rejects_are_errors(
    options: dict[str, Any], message: str, server: str, tmp_path: Path
) -> None:
    request = Request(system="Write.", user="The lamp of Orsk?", temperature=0.0)
    with pytest.raises(LLMError, match=message):
        ask(OpenAIWriter(model="tiny-writer", base_url=server, **options), tmp_path / "cache", [request])


def test_system_prompt_is_sent_as_user_message_if_the_chat_template_rejects_it(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
    )
    arguments = ["--max-model-len", f"{CONTEXT}", "--chat-template", str(template)]
    notices: list[str] = []
    with serving(model, tmp_path / "log", *arguments) as address:
        options = OpenAIWriter(model="tiny-writer", base_url=address, max_tokens=MOST_TOKENS)
        with options.connect(tmp_path / "cache", notices.append) as llm:
            (answer,) = llm.complete([Request(system="Write.", user="The lamp of Orsk?", temperature=0.0)])
    assert answer.text and answer.notes == ("system prompt sent as user message",)
    assert any("the system prompt is sent as a user message" in notice for notice in notices)


def test_server_uses_schema_and_prefix_cache(server: str, command: Command, notes: Path, tmp_path: Path) -> None:
    arguments = synthesis(notes, "tiny-writer", "llm=openai", f"llm.base_url={server}", "llm.concurrency=4")
    arguments += ["augmenter.triples_per_document=2", "synthesis.token_budget=800"]
    assert command(*arguments, "stage=corpus").returncode == 0
    process = command(*arguments, "stage=synthesis")
    assert process.returncode == 0, process.stderr
    folder, counts = finished(tmp_path / "outputs")
    assert counts["cached_tokens"] > counts["prompt_tokens"] / 4
    assert any(text.kind == "pair" for text in read_texts(folder))
    assert lists_that_are_no_json(folder) == []


def lists_that_are_no_json(synthesis: Path) -> list[Failure]:
    """Lists that were cut aside, they are held to their schema."""
    failures = read_jsonl(synthesis / "failures.jsonl", Failure)
    return [failure for failure in failures if "not the JSON" in failure.reason]
