"""`entigraph ask` and `entigraph chat` as processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chat.finished_runs import RUN
from tests.conftest import Command

BASE = "background-raw-all-seed0-00000004"


def test_ask_prints_both_answers_and_why_without_control_characters(outputs: Path, command: Command) -> None:
    result = command("ask", "Where did Tobias live?", f"paths.root={outputs}", "--max-tokens", "6", "--why")
    assert result.returncode == 0, result.stderr
    assert f"{RUN}: " in result.stdout and f"{BASE}: " in result.stdout
    assert "training texts: 1, of 4 read in training" in result.stdout
    assert "\x1b" not in result.stdout and "[bold]markup[/bold]" in result.stdout


def test_ask_reports_unknown_base_model(outputs: Path, command: Command) -> None:
    result = command("ask", "Who?", f"paths.root={outputs}", "--model", BASE, "--max-tokens", "1")
    assert result.returncode == 0 and f"note: no base model is known for {BASE}; it started from" in result.stderr


def test_ask_prints_json(outputs: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "questions.txt").write_text("# by hand\nWho?\n\nWhere did Tobias live?\n#\n")
    options = ["--root", str(outputs), "--file", "questions.txt", "--max-tokens", "4", "--no-base", "--json", "--why"]
    result = command("ask", "--model", RUN, "--open-book", "1", *options)
    assert result.returncode == 0, result.stderr
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["question"] == "Who?" and list(first["answers"]) == [RUN]
    assert "Tobias built a loom" in second["passages"][0] and second["why"]["searched_texts"] == 4


def test_chat_answers_explains_and_resets(outputs: Path) -> None:
    lines = [
        "/why",
        "/text 1",
        "Where did Tobias live?",
        "/why",
        "/text 1",
        "/text 9",
        "/open",
        "/nonsense",
        "/reset",
        "/exit",
    ]
    result = subprocess.run(
        [sys.executable, "-m", "entigraph", "chat", RUN, "--root", str(outputs), "--max-tokens", "4", "--with-base"],
        input="\n".join([*lines, "never read"]),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    for expected in (
        "there is no answer yet",
        "there is no text to print",
        f"{BASE}: ",
        "training texts: 1, of 4",
        "Tobias lived in Orsk.",
        "/text needs the number of a text of the last /why, from 1 to 1",
        "open book",
        "/nonsense: unknown command",
        "the conversation is empty",
    ):
        assert expected in result.stdout, result.stdout
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ask", "--root", "outputs"], "no question; write entigraph ask"),
        (["ask", "Who?"], "outputs has no finished run"),
        (["ask", "Who?", "--model", "."], "is not a model: it has no config.json"),
        (["ask", "Who?", "--prompt", "Q:"], "--prompt must contain {question}"),
        (["chat", "--max-tokens", "0"], "--max-tokens must be at least 1, got 0"),
        (["chat", "--open-book", "-1"], "--open-book must be a number of passages, got -1"),
        (["chat", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["seed=1", "ask"], "ask: must be the first argument"),
        (["aks"], "unknown command; did you mean ask?"),
    ],
)
def test_wrong_input_raises_one_error(command_here: Command, arguments: list[str], message: str) -> None:
    result = command_here(*arguments)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr
    assert result.stderr.count("error:") == 1
