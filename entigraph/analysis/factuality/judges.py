"""The LLMs that an analysis uses as judges, and how they are asked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar, TypeVar

from entigraph.analysis.base import AnalysisContext
from entigraph.config.fields import content_fields
from entigraph.errors import ConfigError
from entigraph.llm.answer_judge import ask_judge
from entigraph.llm.base import Completion, Request, Writer
from entigraph.llm.offline.offline_writer import OfflineWriter
from entigraph.storage.fingerprints import digest
from entigraph.storage.schemas import Document
from entigraph.text.refusals import REFUSAL_AS_TEXT, find_refusal
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

Value = TypeVar("Value")
SIMULATED = "offline (simulated: the rules of a grammar in place of an LLM)"
UNREADABLE = "unreadable"
Range = tuple[float, float]
REASONS = {"refusal": "refused", "content_filter": "refused", "length": "cut off"}


@dataclass
class JudgeUsage:
    """Requests and tokens of one judge. Token counts range from the shortest to the longest allowed answers."""

    requests: float = 0.0
    prompt_tokens: Range = (0.0, 0.0)
    completion_tokens: Range = (0.0, 0.0)

    def add(self, requests: float, prompt: Range, completion: Range) -> None:
        """Adds requests; `prompt` and `completion` are the tokens of one request."""
        self.requests += requests
        low, high = self.prompt_tokens
        self.prompt_tokens = (low + requests * prompt[0], high + requests * prompt[1])
        low, high = self.completion_tokens
        self.completion_tokens = (low + requests * completion[0], high + requests * completion[1])


@dataclass(frozen=True)
class JudgedConfiguration:
    """What determines the number and length of the requests: documents, tasks, and the models that they evaluate."""

    document_tokens: Sequence[float]
    tasks: Mapping[str, Any]
    models: int


@dataclass(frozen=True, kw_only=True)
class JudgedAnalysis(ABC):
    """`judge` is any writer of conf/llm; `second` another one, to measure their agreement (null: none).

    `judged_texts` says in a plan what the judges read.
    """

    judged_texts: ClassVar[str]
    judge: Any = None
    second: Any = None

    def __post_init__(self) -> None:
        _ = self.judges

    @property
    def judges(self) -> Mapping[str, Writer]:
        return {key: self.writer_at(key) for key in ("judge", "second") if key == "judge" or self.second}

    def writer_at(self, key: str) -> Writer:
        writer: Writer = getattr(self, key)
        if not hasattr(writer, "connect"):
            raise ConfigError(f"analysis.{key} must be a writer, got {writer!r}; set llm@analysis.{key}=openai")
        return writer

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {"judges": {key: writer_key(judge) for key, judge in self.judges.items()}}

    @abstractmethod
    def estimate_usage(self, configuration: JudgedConfiguration) -> Mapping[str, JudgeUsage]:
        """Returns the expected usage of each writer of the analysis, by its key in the config."""

    def check(self) -> None:
        """Raises LLMError if one of them could not answer."""
        for judge in self.judges.values():
            judge.check()


def writer_key(writer: Writer) -> dict[str, Any]:
    """Returns the options of a writer that affect its answers; files enter by their content."""
    return {**content_fields(writer), **getattr(writer, "cache_key", {})}


def writer_name(writer: Writer) -> str:
    return SIMULATED if isinstance(writer, OfflineWriter) else str(getattr(writer, "model", writer.name))


def load_prompt(name: str) -> str:
    return resources.files(__package__).joinpath(f"prompts/{name}.txt").read_text(encoding="utf-8").strip()


def prompt_tokens(*names: str) -> float:
    """Returns the total length of prompts, without what is filled in."""
    return sum(len(load_prompt(name)) for name in names) / CHARACTERS_PER_TOKEN


def prompt_digests(*names: str) -> dict[str, str]:
    return {name: digest(load_prompt(name)) for name in names}


def document_request(
    document: Document, system: str, task: str, schema: Mapping[str, Any] | None = None, **sections: str
) -> Request:
    """Returns a request that begins like all those about the document, so that a server can cache the beginning.

    `system` and `task` are names of prompts; `sections` are texts after the task, by heading.
    """
    texts = {"Task": load_prompt(task), **sections}
    suffix = "".join(f"\n\n### {heading}\n{text}" for heading, text in texts.items())
    user = f'### Document\n"{document.title}".\n{document.text}{suffix}'
    return Request(system=load_prompt(system), user=user, suffix=suffix, temperature=0.0, json_schema=schema)


def ask(requests: Sequence[Request], writer: Writer, context: AnalysisContext, noun: str) -> Iterator[Completion]:
    """Yields the answers in the order of the requests, as `ask_judge` does, with a progress bar."""
    with context.progress.bar("judge", len(requests), noun) as advance:
        yield from ask_judge(requests, writer, context.response_cache, context.progress.notify, advance, noun)


def failure_reason(completion: Completion) -> str:
    """Returns why a completion has no usable answer; empty if it has one."""
    if completion.finish_reason != "stop":
        return REASONS.get(completion.finish_reason, completion.finish_reason)
    if not completion.text.strip():
        return "empty"
    return REFUSAL_AS_TEXT if find_refusal(completion.text) else ""


def read_answer(completion: Completion, parse: Callable[[str], Value | None]) -> tuple[Value | None, str]:
    """Returns what `parse` finds in an answer, or None and the reason."""
    missing = failure_reason(completion)
    value = None if missing else parse(completion.text)
    if value is None:
        completion.discard()
    return value, missing or ("" if value is not None else UNREADABLE)
