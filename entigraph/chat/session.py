"""A session with one or two models, for `entigraph ask`, `entigraph chat` and the web app."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from entigraph.chat.conversation import BuiltPrompt, PromptSettings, Turn, build_prompt
from entigraph.chat.lineage import Evidence, Lineage
from entigraph.chat.model_selection import SelectedModel, check_on_hub, select_base_model, select_model
from entigraph.chat.passage_search import PassageSearch
from entigraph.chat.streaming import ChatModel
from entigraph.errors import ConfigError
from entigraph.runtime.progress import Progress

DEFAULT_PASSAGES = 8


@dataclass(kw_only=True)
class ChatSession:
    """`passages` is the number of retrieved passages in a prompt; 0 is closed book. `histories` are the turns by model:
    each model sees its own earlier answers.
    """

    model: ChatModel
    base: ChatModel | None = None
    settings: PromptSettings = field(default_factory=PromptSettings)
    passages: int = 0
    histories: dict[str, list[Turn]] = field(default_factory=dict)

    @property
    def models(self) -> list[ChatModel]:
        return [self.model, self.base] if self.base else [self.model]

    @cached_property
    def lineage(self) -> Lineage:
        return Lineage(self.model.selected)

    @cached_property
    def search(self) -> PassageSearch:
        corpus = self.model.selected.corpus
        if corpus is None:
            raise ConfigError(f"--open-book: the documents of {self.model.name} are unavailable")
        return PassageSearch(corpus)

    def check(self) -> None:
        """Raises ConfigError if a model cannot be used with the settings. Loads tokenizers, but no weights."""
        for model in self.models:
            check_on_hub(model.selected)
            self.settings.resolve_mode(model)
        if self.passages:
            _ = self.search

    def load(self) -> None:
        """Loads the weights, so that the first answer does not wait for them."""
        for model in self.models:
            _ = model.backend

    def find_passages(self, question: str) -> Sequence[str]:
        return self.search.search(question, self.passages) if self.passages else ()

    def prompt(self, model: ChatModel, question: str, passages: Sequence[str] = ()) -> BuiltPrompt:
        return build_prompt(model, self.settings, question, self.histories.get(model.name, ()), passages)

    def answer(self, model: ChatModel, question: str, passages: Sequence[str] = ()) -> Iterator[str]:
        """Yields the parts of the model's answer and adds the turn to its history, even if it is interrupted."""
        built = self.prompt(model, question, passages)
        history = self.histories.setdefault(model.name, [])
        parts: list[str] = []
        try:
            for part in model.stream(built.ids, self.settings.sampling(built.mode), f"{len(history)}/{question}"):
                parts.append(part)
                yield part
        finally:
            history.append(Turn(question, "".join(parts).strip()))

    def explain(self, turn: Turn, progress: Progress | None = None) -> Evidence:
        return self.lineage.find_evidence(turn.question, turn.answer, progress)

    @property
    def last_turn(self) -> Turn | None:
        """The last turn of the first model."""
        return next(reversed(self.histories.get(self.model.name, [])), None)


def open_session(
    name: str | None,
    root: Path,
    *,
    base: str | None = None,
    with_base: bool = False,
    settings: PromptSettings | None = None,
    passages: int = 0,
    device: str = "auto",
) -> ChatSession:
    """Returns a session with a model and optionally a second one: `base`, or, with `with_base`, its base model."""
    selected = select_model(name, root)
    other: SelectedModel | None = None
    if base:
        other = select_model(base, root)
    elif with_base:
        other = select_base_model(selected, root)
    session = ChatSession(
        model=ChatModel(selected, device),
        base=ChatModel(other, device) if other else None,
        settings=settings or PromptSettings(),
        passages=passages,
    )
    session.check()
    return session
