"""`entigraph ask` and `entigraph chat` in the terminal.

Everything that a model or a document says is printed as plain text: without control characters, which could change the
terminal, and without rich's markup.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from entigraph.chat.lineage import Evidence
from entigraph.chat.session import DEFAULT_PASSAGES, ChatSession
from entigraph.errors import EntigraphError
from entigraph.runtime.progress import TerminalProgress
from entigraph.text.normalization import normalize_text

COMMANDS = {
    "/why": "list the source sentences and training texts that mention the names in the last answer",
    "/text N": "print training text N of the last /why in full",
    "/open": f"switch between closed book and open book ({DEFAULT_PASSAGES} passages)",
    "/reset": "clear the conversation",
    "/help": "list the commands",
    "/exit": "exit; so does Ctrl-D",
}


def plain(text: str, style: str = "") -> Text:
    return Text(normalize_text(text), style=style)


class Terminal:
    """Prints a session to standard output, and its status to standard error."""

    def __init__(self, session: ChatSession) -> None:
        self.session = session
        self.console = Console(highlight=False, soft_wrap=True)
        self.status = Console(stderr=True, highlight=False)
        self.evidence: Evidence | None = None

    def load(self) -> None:
        names = " and ".join(model.name for model in self.session.models)
        with self.status.status(plain(f"loading {names}")):
            self.session.load()

    def print_answers(self, question: str) -> None:
        """Prints the answer of each model while it is generated."""
        passages = self.session.find_passages(question)
        for model in self.session.models:
            self.console.print(plain(f"{model.name}: ", "bold"), end="")
            self.print_stream(self.session.answer(model, question, passages))

    def print_stream(self, parts: Iterable[str]) -> None:
        is_first = True
        for part in parts:
            part = part.lstrip() if is_first else part
            if part:
                self.console.print(plain(part), end="")
                self.console.file.flush()
                is_first = False
        self.console.print(plain("(an empty answer)" if is_first else "", "dim"))

    def print_evidence(self, evidence: Evidence) -> None:
        self.evidence = evidence
        for line, style in render_evidence(evidence):
            self.console.print(plain(line, style))

    def explain_last(self) -> None:
        turn = self.session.last_turn
        if turn is None:
            self.console.print("there is no answer yet; ask a question first")
            return
        self.print_evidence(self.session.explain(turn, TerminalProgress()))

    def print_text(self, argument: str) -> None:
        texts = self.evidence.texts if self.evidence else []
        if not texts:
            self.console.print("there is no text to print: the last /why listed none")
            return
        if not argument.isdigit() or not 0 < int(argument) <= len(texts):
            self.console.print(f"/text needs the number of a text of the last /why, from 1 to {len(texts)}")
            return
        self.console.print(plain(texts[int(argument) - 1].text))

    def execute(self, line: str) -> bool:
        """Executes a command of the conversation. Returns whether the conversation continues."""
        command, _, argument = line.partition(" ")
        if command in ("/exit", "/quit"):
            return False
        if command == "/why":
            self.explain_last()
        elif command == "/text":
            self.print_text(argument.strip())
        elif command == "/reset":
            self.session.histories.clear()
            self.console.print("the conversation is empty")
        elif command == "/open":
            if not self.session.passages:
                _ = self.session.search  # after an error, the session stays closed book
            self.session.passages = 0 if self.session.passages else DEFAULT_PASSAGES
            self.console.print("open book" if self.session.passages else "closed book")
        else:
            if command != "/help":
                self.console.print(plain(f"{command}: unknown command"))
            width = max(map(len, COMMANDS))
            self.console.print("\n".join(f"{name:<{width}}  {meaning}" for name, meaning in COMMANDS.items()))
        return True

    def converse(self) -> None:
        """Answers each line of standard input until it ends."""
        interactive = sys.stdin.isatty()
        if interactive:
            with suppress(ImportError):
                import readline  # noqa: F401  (line editing for input)
            self.console.print(plain(describe_session(self.session), "dim"))
        while True:
            try:
                line = input("> " if interactive else "").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if not line:
                continue
            try:
                if not line.startswith("/"):
                    self.print_answers(line)
                elif not self.execute(line):
                    return
            except KeyboardInterrupt:
                self.console.print("\n(interrupted)")
            except EntigraphError as error:
                self.console.print(plain(f"error: {error}"))


def describe_session(session: ChatSession) -> str:
    names = " and ".join(f"{model.name} ({session.settings.resolve_mode(model)})" for model in session.models)
    return f"{names}, {'open' if session.passages else 'closed'} book; /help lists the commands"


def render_evidence(evidence: Evidence) -> list[tuple[str, str]]:
    """Returns lines with their styles."""
    if not evidence.answer_names and not evidence.question_names:
        return [("neither the question nor the answer contains a name of the documents", "")]
    names = evidence.answer_names or evidence.question_names
    intro = "" if evidence.answer_names else "the answer contains no name of the documents; "
    lines = [(f"{intro}names of the {'answer' if evidence.answer_names else 'question'}: {', '.join(names)}", "dim")]
    lines.append((f"source sentences: {listed(len(evidence.sentences), evidence.sentence_count)}", "bold"))
    lines += [(f"  {sentence.title}: {sentence.text}", "") for sentence in evidence.sentences]
    joint = ""
    if evidence.answer_names and evidence.question_names:
        joint = f"; {evidence.joint_texts:,} also mention {' or '.join(evidence.question_names)}"
    lines.append(
        (
            f"training texts: {listed(len(evidence.texts), evidence.text_count)}, "
            f"of {evidence.searched_texts:,} read in training{joint}",
            "bold",
        )
    )
    for number, text in enumerate(evidence.texts, 1):
        about = f" about {', '.join(text.about)}" if text.about else ""
        lines.append((f"  {number}. {text.title}, {text.kind}{about} ({text.id})", "dim"))
        lines.append((f"     {text.excerpt}", ""))
    return lines


def listed(shown: int, count: int) -> str:
    return f"{count:,}" if shown == count else f"{shown} of {count:,}"


def ask(session: ChatSession, questions: Sequence[str], why: bool, as_json: bool) -> None:
    """Prints every model's answer to each question. Each question starts a new conversation."""
    terminal = Terminal(session)
    terminal.load()
    for question in questions:
        session.histories.clear()
        if as_json:
            print(json.dumps(answers_record(session, question, why), ensure_ascii=False))
            continue
        if len(questions) > 1:
            terminal.console.print(plain(question, "italic"))
        terminal.print_answers(question)
        if why:
            terminal.explain_last()


def answers_record(session: ChatSession, question: str, why: bool) -> dict[str, Any]:
    """Returns the answers as `--json` prints them."""
    passages = session.find_passages(question)
    record: dict[str, Any] = {
        "question": question,
        "answers": {model.name: "".join(session.answer(model, question, passages)).strip() for model in session.models},
        "passages": list(passages),
    }
    turn = session.last_turn
    return {**record, "why": asdict(session.explain(turn))} if why and turn else record
