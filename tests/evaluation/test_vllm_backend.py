"""vLLM and transformers on one trained model: samples, log-likelihoods, resuming, serving."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from entigraph.errors import LLMError
from entigraph.evaluation.backends.endpoint_backend import EndpointBackend
from entigraph.evaluation.backends.transformers_backend import TransformersBackend
from entigraph.evaluation.base import Prompt, Sampling, ScoredSequence
from entigraph.evaluation.models_under_test import LocalModel, VllmEngine, load_pretrained_tokenizer
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.llm.wire_format import Api
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Answer
from tests.conftest import TINY, Command
from tests.evaluation.sample_questions import in_order
from tests.llm.test_vllm_transport import alive, children
from tests.polling import wait_for
from tests.real_vllm import CPU, EAGER, MEMORY, PYTHON, needs_vllm, serving

pytestmark = needs_vllm
POSITIONS = 4096
WIDE_HEADS = [
    "model.hidden_size=64",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=2",
]  # on CPUs, vLLM needs heads of at least 32
TRAINED = [
    option for option in TINY if option.split("=")[0] not in ("evaluation.closed_book.limit", "trainer.max_steps")
]
TRAINED += [
    *WIDE_HEADS,
    f"model.max_position_embeddings={POSITIONS}",
    "trainer.max_steps=60",
    "synthesis.token_budget=20000",
]
COT = ["evaluation=closed_book_cot", "evaluation.closed_book_cot.temperature=0", "evaluation.closed_book_cot.samples=2"]
COT += ["evaluation.closed_book_cot.max_tokens=24", "evaluation.closed_book_cot.limit=40"]
OWN_COT = "evaluation/*-seed0-*/**/answers-closed_book_cot.jsonl"
IN_VLLM = ["engine=vllm", f"engine.python={PYTHON}", "engine.dtype=float32", "+engine.arguments.enforce_eager=true"]
IN_VLLM += [f"engine.gpu_memory_utilization={MEMORY}", "engine.concurrency=4"]

STORY = "The keeper of the lamp wrote of the storm. " * 6
PROMPTS = [
    Prompt(f"q{n}", STORY + own) for n, own in enumerate(["Question: Who", "The", "In the year", "She came from"])
]
PAIRS = [(f"{STORY}Question {n} Answer:", f" {own}") for n in range(5) for own in ("yes", "the lamp of Orsk", "a")]
TOO_LONG = Prompt("long", STORY * 100)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a run that trains a small model."""
    folder = tmp_path_factory.mktemp("trained")
    arguments = ["run", *TRAINED, "evaluation=none"]
    result = subprocess.run([sys.executable, "-m", "entigraph", *arguments], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder / "outputs"


@pytest.fixture(scope="module")
def model(outputs: Path) -> Path:
    (results,) = (outputs / "training").glob("*/model")
    return results


def test_vllm_and_transformers_agree(model: Path, tmp_path: Path) -> None:
    tokenizer, _ = load_pretrained_tokenizer(str(model))
    ours = TransformersBackend(str(model), tokenizer, 0, "cpu", bf16=False, threads=1)
    options = VllmEngine(
        python=str(PYTHON), dtype="float32", gpu_memory_utilization=MEMORY, arguments=EAGER, concurrency=8
    )
    messages: list[str] = []
    os.environ.update(CPU)
    candidate = LocalModel(str(model), "cpu", 1, model, 0, options, tmp_path / "vllm.log")
    with candidate.connect(messages.append) as theirs:
        for sampling in (Sampling(max_tokens=40), Sampling(max_tokens=40, stop=(" the",), samples=2)):
            assert dict(theirs.sample([*PROMPTS, TOO_LONG], sampling)) == dict(
                ours.sample([*PROMPTS, TOO_LONG], sampling)
            )
        assert in_order(theirs.loglikelihoods(PAIRS, 4096)) == pytest.approx(
            in_order(ours.loglikelihoods(PAIRS, 4096)), abs=1e-3
        )
        assert in_order(theirs.loglikelihoods([(TOO_LONG.text, " a")], 4096)) == [None]
        ids = ours.encode(STORY * 300)
        windows = [
            ScoredSequence(ids[: POSITIONS + 1], 1),
            ScoredSequence(ids[:90], 60),
            ScoredSequence(ids[:90], 89),
        ]  # the first one is full
        assert in_order(theirs.score(windows, 4096)) == pytest.approx(in_order(ours.score(windows, 4096)), rel=1e-5)

        drawing = Sampling(samples=4, temperature=1.0, max_tokens=16)
        long = [Prompt(f"long{number}", f"{number}. " + STORY * 15) for number in range(6)]
        sampled = dict(theirs.sample([*PROMPTS, *long], drawing))  # more than is read at once
        assert len(sampled) == len(PROMPTS) + len(long)
        assert dict(theirs.sample(PROMPTS[1:2], drawing)) == {0: sampled[1]}, "independent of other prompts"
        assert len({sample.text for samples in sampled.values() for sample in samples}) > 12

        os.killpg(theirs.worker.process.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(LLMError, match=r"vLLM stopped running .*run the same command to continue") as gone:
                dict(theirs.sample(PROMPTS, drawing))
            assert str(tmp_path / "vllm.log") in str(gone.value)
    assert [line.split()[0] for line in messages] == ["vLLM", "vLLM"] and "is ready after" in messages[1]


def test_trained_model_scores_agree(outputs: Path, command: Command) -> None:
    arguments = [*TRAINED, "evaluation=[closed_book,perplexity]", f"paths.root={outputs}", "stage=evaluation"]
    folders: list[Path] = []
    for backend in ([], IN_VLLM):
        result = command(*arguments, *backend, **CPU)
        assert result.returncode == 0, result.stderr
        folders += {*(outputs / "evaluation").iterdir()} - {*folders}
    ours, theirs = ({a.question_id: a for a in read_jsonl(f / "answers-closed_book.jsonl", Answer)} for f in folders)
    assert len(ours) > 20 and ours.keys() == theirs.keys()
    # transformers computes in bf16 if the CPU does: nearly equal scores may then order differently.
    unlike = [key for key in ours if ours[key].choice != theirs[key].choice]
    for key in unlike:
        first, second = sorted(ours[key].scores)[-2:][::-1]
        assert first - second < 0.05, ours[key]
    assert len(unlike) <= 4
    scores = [json.loads((folder / "scores.json").read_text()) for folder in folders]
    assert scores[0]["closed_book"]["accuracy"] == pytest.approx(scores[1]["closed_book"]["accuracy"], abs=0.1)
    losses = [score["perplexity"] for score in scores]
    assert losses[0]["tokens"] == losses[1]["tokens"] > 500
    assert losses[0]["nats_per_token"] == pytest.approx(losses[1]["nats_per_token"], abs=0.01)


def test_trained_model_behind_vllm_server(outputs: Path, model: Path, command: Command, tmp_path: Path) -> None:
    with serving(model, tmp_path / "log", "--enable-prefix-caching") as address:
        endpoint = OpenAIWriter(model=model.name, base_url=address, api=Api.completions)
        with endpoint.connect(tmp_path / "cache", lambda words: None) as llm:
            served_samples = dict(EndpointBackend(llm, chat=False).sample(PROMPTS, Sampling(max_tokens=40)))
        assert {index: samples[0].text for index, samples in served_samples.items()} == dict(enumerate(opened(model)))

        expected = [*TRAINED, *COT, f"paths.root={outputs}", "stage=baselines", "baselines=[openai,pretrained]"]
        expected += [f"baselines.openai.base_url={address}", f"baselines.openai.model={model.name}"]
        expected += ["baselines.openai.api=completions", f"baselines.pretrained.path={model}"]
        result = command(*expected)
    assert result.returncode == 0, result.stderr
    served_answers, answers = (answers_of(outputs, name) for name in ("openai", "pretrained"))
    assert len(answers) > 20 and not any(answer.overflowed for answer in answers)
    # transformers computes in bf16 if the CPU does: texts may diverge where two tokens are nearly equally likely.
    equal = sum(one.texts == other.texts for one, other in zip(served_answers, answers, strict=True))
    assert equal > 0.8 * len(answers)


def answers_of(outputs: Path, baseline: str) -> list[Answer]:
    (file,) = outputs.glob(f"evaluation/*-{baseline}-*/answers-closed_book_cot.jsonl")
    return list(read_jsonl(file, Answer))


def opened(model: Path) -> list[str]:
    """Uses the exported folder alone: its tokenizer and generate."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    results = []
    for prompt in PROMPTS:
        read = tokenizer(prompt.text, return_tensors="pt")
        ids = network.generate(**read, max_new_tokens=40, do_sample=False)[0, read.input_ids.shape[1] :]
        results.append(tokenizer.decode(ids, skip_special_tokens=True))
    return results


def test_killed_vllm_evaluation_resumes(outputs: Path, command: Command, tmp_path: Path) -> None:
    arguments = [*TRAINED, *COT, *IN_VLLM, f"paths.root={outputs}", "stage=evaluation"]
    killed = subprocess.Popen([sys.executable, "-m", "entigraph", *arguments], cwd=tmp_path, env={**os.environ, **CPU})
    wait_for(lambda: len(kept(outputs)) >= 5, process=killed, timeout_s=600)
    workers = children(killed.pid)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    deadline = time.monotonic() + 15
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline, "the engine is still running"
        time.sleep(0.1)
    (scratch,) = outputs.glob(OWN_COT)
    held = [json.loads(line) | {"texts": ["from before"]} for line in kept(outputs)]
    scratch.write_text("".join(json.dumps(answer) + "\n" for answer in held) + '{"question_id": "half')
    result = command(*arguments, **CPU)
    assert result.returncode == 0 and "is ready after" in result.stdout, result.stderr
    (file,) = outputs.glob(OWN_COT)
    complete = list(read_jsonl(file, Answer))
    expected = len({answer.question_id for answer in complete})
    assert expected == len(complete) and all(len(answer.samples) == 2 for answer in complete)
    assert 5 <= len(held) == sum(answer.texts == ["from before"] for answer in complete) < expected


def kept(outputs: Path) -> list[bytes]:
    """Returns the complete lines of a task's answers."""
    results = list(outputs.glob(OWN_COT))
    return results[0].read_bytes().split(b"\n")[:-1] if results else []
