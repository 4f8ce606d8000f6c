"""The examples of docs/extending.md, as files of a project outside the source tree."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.commands import run_command
from tests.mock_llm_server import Handle

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "extending.md"
FENCE = re.compile(r"^```(\w+)(?: ([\w./-]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SERVER_URL = "http://localhost:8000/v1"
TINY = [
    "tokenizer.worlds=10",
    "tokenizer.vocab_size=400",
    "model.hidden_size=32",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=2",
    "model.intermediate_size=64",
    "trainer.max_steps=4",
]
TINY_FICTIONAL = ["corpus.documents=1", "synthesis.token_budget=3000", "evaluation.closed_book.limit=4"]


@dataclass(frozen=True)
class Example:
    """One section of the guide: the files it shows and the commands it runs."""

    title: str
    files: dict[str, str] = field(default_factory=dict)
    commands: list[list[str]] = field(default_factory=list)


def read_examples() -> list[Example]:
    sections = re.split(r"^## ", GUIDE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [read_example(section) for section in sections if "```" in section]


def read_example(section: str) -> Example:
    example = Example(section.partition("\n")[0])
    for language, path, text in FENCE.findall(section):
        if path:
            example.files[path] = text
        elif language == "console":
            lines = text.replace("\\\n", " ").splitlines()
            example.commands.extend(shlex.split(line)[2:] for line in lines if line.startswith("$ entigraph"))
    return example


EXAMPLES = {example.title: example for example in read_examples()}


@dataclass(frozen=True)
class Project:
    """A folder with all examples and one output root, so that examples share the stages they do not change."""

    folder: Path
    server: Handle

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    def run(self, title: str, *overrides: str) -> str:
        """Runs the commands of an example at tiny scale, with further overrides; returns what they print."""
        commands = EXAMPLES[title].commands
        assert commands, f"{title}: no command"
        return "\n".join(self.run_command([*command, *overrides]) for command in commands)

    def run_command(self, command: list[str]) -> str:
        """Runs an `entigraph` command with the example's settings and small ones."""
        tiny = [*TINY, *([] if any(word.startswith("corpus=") for word in command) else TINY_FICTIONAL)]
        chosen = {word.partition("=")[0] for word in command}
        if "evaluation=none" in command:
            chosen.add("evaluation.closed_book.limit")
        settings = [setting for setting in tiny if setting.partition("=")[0] not in chosen]
        arguments = [word.replace(SERVER_URL, self.server.base_url) for word in command]
        logger = [] if any("logger" in word for word in command) else ["logger=none"]
        result = run_command(*arguments, *settings, *logger, cwd=self.folder, environment={"OPENAI_API_KEY": "none"})
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    def python(self, *arguments: str) -> str:
        """Runs Python in the project's folder: `-m module ...`, or one program. Returns what it prints."""
        arguments = arguments if len(arguments) > 1 else ("-c", *arguments)
        result = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "OPENAI_API_KEY": "none"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout

    def newest(self, pattern: str) -> Path:
        """Returns the newest output that matches the pattern."""
        return max(self.outputs.glob(pattern), key=lambda path: path.stat().st_mtime_ns)
