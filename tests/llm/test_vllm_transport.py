"""The vLLM writer with its real worker process, in which a small stand-in replaces the vLLM package."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from entigraph.errors import ConfigError, LLMError
from entigraph.llm.base import Completion, Request
from entigraph.llm.response_cache import ResponseCache
from entigraph.llm.vllm.vllm_writer import VLLMWriter
from tests.conftest import Command, interpreter
from tests.polling import wait_for


def make_request(number: int, words: str = "About", **changes: Any) -> Request:
    return Request(**{"system": "Write. ", "user": f"{words} {number}.", "temperature": 1.0, **changes})


def ask(options: VLLMWriter, response_cache: Path, requests: Any) -> list[Completion]:
    with options.connect(response_cache, lambda words: None) as llm:
        return list(llm.complete(iter(requests)))


def taken(folder: Path) -> list[str]:
    """The requests that reached the engine."""
    return noted(folder, "took")


def noted(folder: Path, what: str) -> list[str]:
    file = folder / "taken.txt"
    lines = [line.split("\t") for line in file.read_text().splitlines()] if file.exists() else []
    return [value for name, value in lines if name == what]


def test_answers_keep_order_and_cached_ones_start_no_engine(python: str, tmp_path: Path) -> None:
    options = VLLMWriter(model="a/model", python=python, concurrency=8)
    answers = ask(options, tmp_path / "j", [make_request(number) for number in range(50)])
    assert [f"About {number}." in answer.text for number, answer in enumerate(answers)] == [True] * 50
    assert {(answer.finish_reason, answer.model, answer.usage.cached_tokens) for answer in answers} == {
        ("stop", "a/model", 7)
    }
    said: list[str] = []
    with replace(options, python="gone").connect(tmp_path / "j", said.append) as llm:
        assert list(llm.complete(make_request(number) for number in range(50))) == answers
    assert len(taken(tmp_path)) == 50 and said == []


def test_engine_batch_stays_full(python: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("STAND_IN_STEP_S", "0.02")
    ask(VLLMWriter(python=python, concurrency=16), tmp_path / "j", (make_request(number) for number in range(300)))
    sizes = [int(size) for size in noted(tmp_path, "step")]
    assert max(sizes) == 20 and sum(size >= 16 for size in sizes) > 0.8 * len(sizes)


def test_samples_differ_and_seeds_follow_from_requests(python: str, tmp_path: Path) -> None:
    batch = [make_request(0), make_request(0, sample=1), make_request(1)]
    first = ask(VLLMWriter(python=python), tmp_path / "j", batch)
    assert first == ask(VLLMWriter(python=python, concurrency=1), tmp_path / "other", batch)
    assert len({answer.text.rsplit("(", 1)[1] for answer in first}) == 3


def test_each_group_of_gpus_has_an_engine(python: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,4,5,7")
    monkeypatch.setenv("STAND_IN_STEP_S", "0.02")
    options = VLLMWriter(model="a/model", python=python, concurrency=8, tensor_parallel_size=2)
    batch = [make_request(number) for number in range(60)]
    answers = ask(options, tmp_path / "j", batch)
    assert [f"About {number}." in answer.text for number, answer in enumerate(answers)] == [True] * 60
    assert sorted(noted(tmp_path, "gpus")) == ["'0,1'", "'4,5'"] and len({*taken(tmp_path)}) == 60
    assert answers == ask(replace(options, data_parallel_size=1), tmp_path / "one", batch), "the same seeds"
    assert (tmp_path / "vllm.log").exists() and (tmp_path / "vllm-1.log").exists()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ConfigError, match="3 engines of 1 GPUs need 3 GPUs; this machine has 2"):
        VLLMWriter(python=python, data_parallel_size=3).check()


def test_end_of_one_engine_ends_all(python: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    batch = [*(make_request(number) for number in range(40)), make_request(40, "DIE")]
    with pytest.raises(LLMError, match="vLLM stopped running .* the card fell off"):
        ask(VLLMWriter(python=python, concurrency=2), tmp_path / "j", batch)
    assert len(ask(VLLMWriter(python=python), tmp_path / "j", batch[:40])) == 40


def test_json_schema_reaches_the_engine(python: str, tmp_path: Path) -> None:
    (answer,) = ask(VLLMWriter(python=python), tmp_path / "j", [make_request(0, json_schema={"type": "object"})])
    assert json.loads(answer.text)["entities"] == ["Orsk", "Vale"]


def test_rejected_request_is_not_cached(python: str, tmp_path: Path) -> None:
    refused, written = ask(VLLMWriter(python=python), tmp_path / "j", [make_request(0, "REFUSE"), make_request(1)])
    assert refused.finish_reason == "error: rejected by the engine" and "longer than the context" in refused.text
    assert written.finish_reason == "stop" and ResponseCache(tmp_path / "j").totals().answers == 1


def test_engine_crash_raises_one_error_and_keeps_answers(python: str, tmp_path: Path) -> None:
    def requests(words: str) -> Iterator[Request]:
        yield from (make_request(number) for number in range(20))
        yield make_request(20, words)

    with pytest.raises(LLMError, match=rf"vLLM stopped running .* the card fell off. Its log is {tmp_path}/vllm.log"):
        ask(VLLMWriter(python=python, concurrency=2), tmp_path / "j", requests("DIE"))
    held = ResponseCache(tmp_path / "j").totals().answers
    assert held >= 15
    assert len(ask(VLLMWriter(python=python), tmp_path / "j", requests("About"))) == 21
    assert len({*taken(tmp_path)}) == 21 and len(taken(tmp_path)) <= 21 + 20 - held


def test_missing_chat_template_raises_one_error(python: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("STAND_IN_TEMPLATE", "")
    with pytest.raises(LLMError, match="no chat template; set llm.chat_template="):
        ask(VLLMWriter(python=python), tmp_path / "j", [make_request(0)])
    file = tmp_path / "template.jinja"
    file.write_text("{{ messages }}")
    assert ask(VLLMWriter(python=python, chat_template=str(file)), tmp_path / "j", [make_request(0)])


def test_kill_keeps_answers_and_leaves_no_process(python: str, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.llm.test_vllm_transport import *; "
        f"options = VLLMWriter(python={python!r}, concurrency=4); "
        f"ask(options, Path({str(tmp_path / 'j')!r}), map(make_request, range(200)))"
    )
    environment = {**os.environ, "STAND_IN_STEP_S": "0.02", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.Popen([sys.executable, "-c", program], env=environment)
    wait_for(lambda: len(taken(tmp_path)) >= 60, process=killed)
    workers = children(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert workers
    wait_for(lambda: not any(alive(worker) for worker in workers))
    held, before = ResponseCache(tmp_path / "j").totals().answers, len(taken(tmp_path))
    answers = ask(VLLMWriter(python=python, concurrency=4), tmp_path / "j", map(make_request, range(200)))
    assert len(answers) == 200 and held >= 40
    assert len(taken(tmp_path)) - before == 200 - held


def children(parent: int) -> list[int]:
    processes = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout
    return [int(child) for child in processes.split()]


def alive(worker: int) -> bool:
    """Returns whether any process of the worker's session runs."""
    states = subprocess.run(["ps", "-o", "stat=", "-s", str(worker)], capture_output=True, text=True).stdout
    return any(not state.startswith("Z") for state in states.split())


def test_missing_vllm_is_reported_before_anything_is_built(command_here: Command, tmp_path: Path) -> None:
    bare = interpreter(tmp_path / "bare", f"exec {sys.executable} -S")
    process = command_here("run", "llm=vllm", f"llm.python={bare}", "evaluation=none", "logger=none")
    assert process.returncode == 1 and f"{bare} has no vLLM" in process.stderr and "make vllm-env" in process.stderr
    missing = command_here("run", "llm=vllm", "llm.model=./nowhere", "evaluation=none", "logger=none")
    assert (
        missing.returncode == 1
        and "llm.model must be a folder with config.json or a Hub ID, got ./nowhere" in missing.stderr
    )
    assert not list(tmp_path.rglob("manifest.json"))


def test_plan_needs_no_vllm(command: Command) -> None:
    process = command("llm=vllm", "llm.model=a/model", "llm.python=nowhere")
    assert process.returncode == 0 and "$0.00" in process.stdout, process.stderr


def test_model_folder_is_identified_by_content(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    one = VLLMWriter(model=str(tmp_path / "model")).body(make_request(0))
    (tmp_path / "model").rename(tmp_path / "moved")
    assert one["model"] != VLLMWriter(model=str(tmp_path / "moved")).body(make_request(0))["model"]
    (tmp_path / "moved").rename(tmp_path / "model")
    assert one == VLLMWriter(model=str(tmp_path / "model"), concurrency=3).body(make_request(0))
    (tmp_path / "model" / "config.json").write_text("{ }")
    assert one != VLLMWriter(model=str(tmp_path / "model")).body(make_request(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "llm.concurrency must be positive, got 0"),
        ({"gpu_memory_utilization": 1.5}, "llm.gpu_memory_utilization must be above 0 and at most 1, got 1.5"),
        (
            {"chat_template": "nowhere.jinja"},
            "llm.chat_template must be a file with a Jinja template, got nowhere.jinja",
        ),
        ({"arguments": {"dtype": "float16"}}, "llm.arguments must not have dtype; use the options of llm"),
    ],
)
def test_invalid_engine_options_are_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        VLLMWriter(**options)
