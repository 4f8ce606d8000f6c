"""Builds the prompt of a question: as a completion or with the model's chat template, with history and passages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from entigraph.chat.streaming import ChatModel
from entigraph.errors import ConfigError
from entigraph.evaluation.base import Sampling
from entigraph.evaluation.tasks.closed_book import ClosedBook

QUESTION_PROMPT = ClosedBook.prompt
TURN_SEPARATOR = "\n"


class PromptMode(StrEnum):
    """How a question becomes a prompt: `completion` fills a template, `chat` renders the model's chat template."""

    auto = "auto"
    completion = "completion"
    chat = "chat"


@dataclass(frozen=True)
class Turn:
    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class PromptSettings:
    """`prompt` is the template of completions, with {question}. `turns` limits the history in the prompt. With None, it
    has as many turns as fit with a chat template, and none in completions, because base models repeat them.
    """

    mode: PromptMode = PromptMode.auto
    prompt: str = QUESTION_PROMPT
    turns: int | None = None
    max_tokens: int = 200
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if "{question}" not in self.prompt:
            raise ConfigError(f"--prompt must contain {{question}}, got {self.prompt!r}")
        if self.max_tokens < 1:
            raise ConfigError(f"--max-tokens must be at least 1, got {self.max_tokens}")
        if self.temperature < 0:
            raise ConfigError(f"--temperature must be at least 0, got {self.temperature}")
        if self.turns is not None and self.turns < 0:
            raise ConfigError(f"--turns must be at least 0, got {self.turns}")

    def resolve_mode(self, model: ChatModel) -> PromptMode:
        """Returns `chat` or `completion`. Raises ConfigError for `chat` with a model that has no chat template."""
        if self.mode is PromptMode.chat and model.template is None:
            raise ConfigError(
                f"--mode=chat needs a chat template, and {model.name} has none; "
                "use --mode completion, or train it with tokenizer=chat"
            )
        if self.mode is PromptMode.auto:
            return PromptMode.chat if model.template else PromptMode.completion
        return self.mode

    def sampling(self, mode: PromptMode) -> Sampling:
        """Returns the sampling parameters. A completion ends where the model starts the next question."""
        next_question = self.prompt.partition("{question}")[0].strip()
        stops = (next_question,) if mode is PromptMode.completion and next_question else ()
        return Sampling(max_tokens=self.max_tokens, temperature=self.temperature, stop=stops)


@dataclass(frozen=True)
class BuiltPrompt:
    """The ids of a prompt, and the numbers of turns and passages in it after dropping what does not fit."""

    ids: Sequence[int] = field(repr=False)
    mode: PromptMode
    turns: int
    passages: int


def build_prompt(
    model: ChatModel,
    settings: PromptSettings,
    question: str,
    history: Sequence[Turn] = (),
    passages: Sequence[str] = (),
) -> BuiltPrompt:
    """Returns the prompt. If it exceeds the context, the oldest turns are dropped, then the lowest-ranked passages.

    Raises ConfigError if the question alone does not fit.
    """
    mode = settings.resolve_mode(model)
    limit = settings.turns if settings.turns is not None else len(history) if mode is PromptMode.chat else 0
    turns, used = list(history[len(history) - limit :] if limit else ()), list(passages)
    render = render_chat if mode is PromptMode.chat else render_completion
    while True:
        ids = model.encode(render(model, settings, question, turns, used), templated=mode is PromptMode.chat)
        if len(ids) + settings.max_tokens <= model.backend.max_length:
            return BuiltPrompt(ids, mode, len(turns), len(used))
        if turns:
            turns.pop(0)
        elif used:
            used.pop()
        else:
            raise ConfigError(
                f"the question has {len(ids):,} tokens, which with --max-tokens {settings.max_tokens:,} exceed the "
                f"context of {model.name}, {model.backend.max_length:,} tokens"
            )


def render_completion(
    model: ChatModel, settings: PromptSettings, question: str, turns: Sequence[Turn], passages: Sequence[str]
) -> str:
    """Returns the passages, the best one last, then the earlier questions with their answers, then the question."""
    template: Callable[[str], str] = lambda text: settings.prompt.replace("{question}", text)  # noqa: E731
    answered = [f"{template(turn.question)} {turn.answer}" for turn in turns]
    context = "".join(f"{passage}\n\n" for passage in reversed(passages))
    return context + TURN_SEPARATOR.join([*answered, template(question)])


def render_chat(
    model: ChatModel, settings: PromptSettings, question: str, turns: Sequence[Turn], passages: Sequence[str]
) -> str:
    """Returns the conversation, rendered with the model's chat template. The passages precede the last question."""
    from jinja2 import TemplateError

    context = "".join(f"{passage}\n\n" for passage in reversed(passages))
    messages = [
        message
        for turn in turns
        for message in ({"role": "user", "content": turn.question}, {"role": "assistant", "content": turn.answer})
    ]
    messages.append({"role": "user", "content": context + question})
    assert model.template is not None
    try:
        return model.template.render(messages)
    except TemplateError as error:
        raise ConfigError(f"the chat template of {model.name} rejects the conversation: {error}") from None
