"""The conversations of the web app: one pair of models is loaded at a time, each browser has its own history."""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from entigraph.chat.conversation import PromptSettings, Turn
from entigraph.chat.session import DEFAULT_PASSAGES, ChatSession, open_session
from entigraph.chat.terminal import render_evidence
from entigraph.text.normalization import normalize_text
from entigraph.ui import views

Histories = Mapping[str, list[Turn]]
NO_MODEL, BASE_MODEL = "no second model", "its base model"


@dataclass
class BrowserSessions:
    """Answers with the models that the browser selected. `lock` is held while models load or answer."""

    root: Path
    device: str = "auto"
    session: ChatSession | None = None
    selected: tuple[str, str] = ("", "")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, model: str, other: str) -> ChatSession:
        """Returns the session of the two models, which replaces the one that is loaded. Raises ConfigError for a model
        that no run under the root trained.
        """
        models = views.list_models(self.root)
        views.check_listed(model, models)
        views.check_listed(other, [BASE_MODEL, NO_MODEL, *models])
        if self.session is None or self.selected != (model, other):
            self.session = None  # frees the memory first
            self.session = open_session(
                model,
                self.root,
                base=None if other in (NO_MODEL, BASE_MODEL) else other,
                with_base=other == BASE_MODEL,
                device=self.device,
            )
            self.selected = (model, other)
        return self.session

    def ask(
        self, model: str, other: str, question: str, open_book: bool, max_tokens: int, histories: Histories
    ) -> Iterator[tuple[str, str, dict[str, list[Turn]]]]:
        """Yields the transcripts of both models while they answer, and the histories with the new turn."""
        with self.lock:
            session = self.open(model, other)
            session.settings = PromptSettings(max_tokens=max_tokens)
            session.passages = DEFAULT_PASSAGES if open_book else 0
            session.histories = {name: list(turns) for name, turns in histories.items()}
            passages = session.find_passages(question)
            for answering in session.models:
                answer = ""
                for part in session.answer(answering, question, passages):
                    answer += part
                    yield (*render_transcripts(session, {answering.name: (question, answer)}), dict(histories))
            yield (*render_transcripts(session, {}), session.histories)

    def explain(self, model: str, other: str, histories: Histories) -> str:
        """Returns the texts that mention the names in the first model's last answer."""
        with self.lock:
            session = self.open(model, other)
            session.histories = {name: list(turns) for name, turns in histories.items()}
            if session.last_turn is None:
                return "There is no complete answer yet: ask a question, or wait until its answer is complete."
            return normalize_text("\n".join(line for line, _ in render_evidence(session.explain(session.last_turn))))


def render_transcripts(session: ChatSession, running: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Returns the conversation with each model as plain text, including the answer that is being generated."""
    texts = []
    for model in session.models:
        turns = [(turn.question, turn.answer) for turn in session.histories.get(model.name, [])]
        if model.name in running:
            turns.append(running[model.name])
        lines = [f"> {question}\n{answer.strip()}" for question, answer in turns]
        texts.append(normalize_text("\n\n".join([model.name, *lines])))
    return texts[0], texts[1] if len(texts) > 1 else ""
