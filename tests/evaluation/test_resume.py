"""A killed evaluation resumes and produces the same results."""

import json
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.evaluation import stage
from entigraph.evaluation.models_under_test import EndpointModel, LocalModel
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.llm.openai.online_writer import OpenAIWriter
from entigraph.runtime.progress import Advance, SilentProgress
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl
from entigraph.storage.schemas import Answer
from tests.commands import ForkedProcess
from tests.evaluation.sample_questions import make_question, write_inputs
from tests.evaluation.scripted_server import scripted

COUNT = 6


@dataclass(frozen=True)
class KillingProgress(SilentProgress):
    """Kills its process after a number of answers."""

    answers: int

    @contextmanager
    def bar(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        done = 0

        def advance(amount: int, note: str = "", *, resumed: bool = False) -> None:
            nonlocal done
            done += amount
            if done == self.answers:
                os.kill(os.getpid(), signal.SIGKILL)

        yield advance


class CountingProgress(SilentProgress):
    """Records by how much the progress bar advances."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def bar(self, label, total=None, unit=""):  # type: ignore[no-untyped-def]
        from contextlib import nullcontext

        return nullcontext(lambda amount, note="", resumed=False: self.amounts.append(amount))


def ask(model: Path, folder: Path, progress: SilentProgress) -> None:
    source = write_inputs(folder, [make_question(number) for number in range(COUNT)])
    task = ClosedBookCoT(samples=2, max_tokens=4, temperature=1.0)
    candidate = LocalModel(str(model), "cpu", 1, model, 0)
    stage.run(candidate, folder / "out", tasks={"cot": task}, inputs={"cot": source}, progress=progress)


def test_killed_evaluation_resumes(tiny_model: Path, tmp_path: Path) -> None:
    killed, uninterrupted = tmp_path / "killed", tmp_path / "whole"
    killed.mkdir()
    uninterrupted.mkdir()
    assert ForkedProcess(ask, tiny_model, killed, KillingProgress(answers=3)).wait() == -signal.SIGKILL
    (scratch,) = (killed / "out").rglob("answers-cot.jsonl")
    assert len(list(read_jsonl(scratch, Answer))) == 3 and not (killed / "out" / "scores.json").exists()
    with scratch.open("ab") as cut_short:
        cut_short.write(b'{"question_id": "q')
    progress = CountingProgress()
    ask(tiny_model, killed, progress)
    assert progress.amounts == [3, 1, 1, 1]
    ask(tiny_model, uninterrupted, SilentProgress())
    for name in ("answers-cot.jsonl", "scores.json"):
        assert (killed / "out" / name).read_text() == (uninterrupted / "out" / name).read_text()


def ask_endpoint(url: str, folder: Path, progress: SilentProgress) -> None:
    source = write_inputs(folder, [make_question(number, text=f"What is number {number}?") for number in range(COUNT)])
    model = OpenAIWriter(model="scripted", base_url=url, concurrency=1)
    candidate = EndpointModel(model, folder / "cache")
    task = ClosedBookCoT(samples=4)
    stage.run(candidate, folder / "out", tasks={"cot": task}, inputs={"cot": source}, progress=progress)


def test_killed_endpoint_evaluation_resumes(tmp_path: Path) -> None:
    def numbers(bodies: Sequence[tuple[str, dict[str, Any]]]) -> list[int]:
        return [int(str(body).rsplit("What is number ", 1)[1].split("?")[0]) for _, body in bodies]

    with scripted(lambda body: ["<think>Is it A?</think>Answer: A.\n"] * body["n"]) as server:
        known: set[str] = set()
        for answers in (1, 3, 5):
            before = len(server.requests)
            progress = KillingProgress(answers=answers)
            assert ForkedProcess(ask_endpoint, server.base_url, tmp_path, progress).wait() == -signal.SIGKILL
            assert not {f"q{number}" for number in numbers(server.requests[before:])} & known
            (scratch,) = (tmp_path / "out").rglob("answers-cot.jsonl")
            known = {answer.question_id for answer in read_jsonl(scratch, Answer)}
            assert len(known) == answers
        ask_endpoint(server.base_url, tmp_path, SilentProgress())
        # Requests that were pending when a process was killed had no answer yet.
        assert {*numbers(server.requests)} == {*range(COUNT)} and len(server.requests) <= COUNT + 3
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())["cot"]
    assert scores["samples"] == 4 * COUNT and scores["parse_rate"] == 1.0
    assert scores["answer_notes"] == {"with reasoning": COUNT}, "of all answers, before and after the kills"


def test_resumable_json_lines_finds_records_by_key(tmp_path: Path) -> None:
    kept = ResumableJsonLines(tmp_path / "kept.jsonl", Answer, "question_id")
    empty: dict[str, Any] = {"scores": [], "samples": [], "texts": [], "passages": []}
    about = {"question_id": "é", "document_id": "d", "group": "g", "question": "?", "choices": ["a", "b"]}
    answer = Answer(**about, answer=0, choice=None, correct=False, **empty)
    with kept:
        kept.write(answer)
    assert "é" in kept and "e" not in kept and kept.read("é") == answer
    rerun = ResumableJsonLines(tmp_path / "kept.jsonl", Answer, "question_id")
    assert rerun.read("é") == answer and json.loads((tmp_path / "kept.jsonl").read_text())["question_id"] == "é"
    for lost in (b"\0" * 40 + b"\n", b'{"question_id": "f", "ans'):  # after a power failure, and after a kill
        written = (tmp_path / "kept.jsonl").read_bytes()
        (tmp_path / "kept.jsonl").write_bytes(written + lost)
        assert ResumableJsonLines(tmp_path / "kept.jsonl", Answer, "question_id").read("é") == answer
        assert (tmp_path / "kept.jsonl").read_bytes() == written
