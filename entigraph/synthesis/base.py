"""The augmenter protocol: documents in, requests out; answers in, texts out. An augmenter opens no network or file.

An augmenter is a frozen dataclass whose fields are its options. It derives from `Augmenter`, or from `PromptAugmenter`
if it asks about one document at a time with prompt files, and overrides up to four methods::

    split(document)                 the parts of a document that are asked about separately   default: the document
    graph(document)                 steps that return the document's EntityGraph              default: no graph
    tasks(documents, graphs, seed)  what to write about, in the order of generation           required
    write(task)                     steps that return the texts of one task                   required

*Steps* are a generator: each `yield` of a `Request` evaluates to the text of its answer. A request may therefore depend
on earlier answers, and an answer may be judged before it is kept::

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        draft = yield self.build_request(task.document, "draft")
        verdict = yield self.build_request(task.document, "judge", f"### Draft\\n{draft}", temperature=0.0)
        if not verdict.startswith("yes"):
            raise RejectedText("judged unfaithful")
        return [draft]

An answer that is refused, empty or truncated does not reach the steps: the task fails with that reason. Failed tasks
are retried `synthesis.max_retries` times with other samples, and what still fails is written to failures.jsonl. Raise
`BadAnswer` for an answer that is not usable; the next command requests it again.

Cost estimates are derived: `tasks` is counted and the first task of each kind is rendered. An augmenter whose tasks are
too many to enumerate also defines `count_tasks(entities)`.
"""

import sys
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError
from entigraph.llm.base import Request
from entigraph.storage.fingerprints import digest
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.document_parts import DocumentPart, split_document
from entigraph.text.languages import in_own_language
from entigraph.text.normalization import decode_text

Item = TypeVar("Item")
Result = TypeVar("Result")
Steps: TypeAlias = Generator[Request, str, Result]
Graphs: TypeAlias = Mapping[str, EntityGraph]  # by id of document or part


class BadAnswer(Exception):
    """Raised by steps whose last answer is not usable, so that the next command requests it again.

    The message is the reason in failures.jsonl and is counted there.
    """


class RejectedText(BadAnswer):
    """Raised by steps that return no text although all answers are usable: they are not requested again."""


@dataclass(frozen=True, kw_only=True)
class WritingTask:
    """Texts to write about one document: one for each group of entities in `about`.

    `about` has one empty group if the text is about the document as a whole. `sample` tells repetitions apart.
    `context` holds further documents that the requests show; the texts still belong to `document`. The id of a text
    consists of the document's id, kind, group and sample, so these must be unique together. `list_number`: tasks of a
    document and kind with the same number begin with the same request, for a list of which each takes an item; it is
    sent and counted once.

    If a task is about several groups, a truncated answer is used: only the last text in it is dropped.
    """

    document: Document
    kind: str
    about: Sequence[Sequence[str]] = ((),)
    sample: int = 0
    context: Sequence[Document] = ()
    list_number: int | None = None


@dataclass(frozen=True, kw_only=True)
class Augmenter:
    """Turns documents into synthetic texts. See the module docstring for what to override.

    `name` is used in folder names and figures.

    `needs_writer` is False if texts are copied instead of written: the text of each task is its document's, and
    `author` says who wrote it. `repeats`: a token budget beyond the texts is filled by repeating them. `endless`:
    `tasks` never ends, so a token budget is required. `requests_in_a_row`: how many consecutive requests show the same
    document, and therefore share a prefix in a server's cache.
    """

    name: str
    needs_writer: ClassVar[bool] = True
    repeats: ClassVar[bool] = False
    author: ClassVar[str] = "the writer"

    @property
    def endless(self) -> bool:
        return False

    @property
    def requests_in_a_row(self) -> int:
        return 1

    @property
    def cache_key(self) -> Mapping[str, Any]:
        """What determines the texts besides the fields."""
        return {}

    @property
    def user_texts(self) -> Mapping[str, str]:
        """Texts of the user that requests show, by the option that holds them: they must not quote a question."""
        return {}

    def sources(self) -> Sequence[str]:
        """Returns the files and folders whose content determines the texts. Raises ConfigError if one is missing."""
        return ()

    def split(self, document: Document) -> Sequence[Document]:
        """Returns what requests show of a document: the document itself or its parts."""
        return [document]

    def graph(self, document: Document) -> Steps[EntityGraph] | None:
        """Returns steps whose result is the graph of a document or part; None if the augmenter needs no graph."""
        return None

    def tasks(self, documents: Iterable[Document], graphs: Graphs, seed: int) -> Iterator[WritingTask]:
        """Yields the tasks in the order of generation, lazily: the token budget may end them anywhere.

        Interleave the documents, so that every prefix covers all of them evenly. `graphs` maps the id of each document
        or part to its graph; documents whose graph failed are missing.
        """
        raise NotImplementedError(f"{type(self).__name__}.tasks")

    def write(self, task: WritingTask) -> Steps[Sequence[str | None]]:
        """Returns steps whose result is the texts of a task, one for each group of `task.about`; None if missing."""
        raise NotImplementedError(f"{type(self).__name__}.write")

    def count_tasks(self, entities: int) -> Mapping[str, int] | None:
        """Returns how many tasks of each kind, in the order of generation, a document with that many entities yields.

        None: the tasks are enumerated instead, which takes about a second per million.
        """
        return None

    def divide(self, token_budget: int | None) -> Sequence[tuple["Augmenter", int | None]]:
        """Returns the augmenters that write and the token budget of each."""
        return [(self, token_budget)]


class PromptLayout(StrEnum):
    """Where a request states its instruction. `paper`: in the system message, before the document (paper App. H).
    `shared_prefix`: after the document, so that all requests about it share one prefix in a server's cache.
    """

    paper = "paper"
    shared_prefix = "shared_prefix"


BUILT_IN_PROMPTS = Path(__file__).parent / "augmenters" / "prompts"
WRITER_PROMPT = "writer"  # system message of every request in the shared_prefix layout


@dataclass(frozen=True, kw_only=True)
class PromptAugmenter(Augmenter):
    """An augmenter that asks about one document at a time with prompt files.

    The prompt files in `prompt_names` are built-in prompts or lie in a `prompts` folder next to the module of the class
    or of one of its base classes. The option `prompts` is a folder that replaces them; it must contain exactly these
    files. Temperature 1.0 is the value in the authors' code; the paper does not state one for EntiGraph. A
    document longer than `max_document_tokens` (of four characters) is split into overlapping parts.
    """

    prompts: str | None = runtime_field(None)  # enters the cache key by content
    layout: PromptLayout = PromptLayout.paper
    temperature: float = 1.0
    max_document_tokens: int | None = 32_000

    def __post_init__(self) -> None:
        if self.max_document_tokens is not None and self.max_document_tokens < 100:
            raise ConfigError(f"augmenter.max_document_tokens must be at least 100, got {self.max_document_tokens}")
        if self.prompts is not None:
            check_prompt_folder(Path(self.prompts).expanduser(), self.required_prompts)
        for name in self.required_prompts:
            self.prompt(name)

    @property
    def prompt_names(self) -> Sequence[str]:
        """The prompt files that the options need, without the suffix .txt."""
        raise NotImplementedError(f"{type(self).__name__}.prompt_names")

    @property
    def required_prompts(self) -> Sequence[str]:
        shared = [WRITER_PROMPT] if self.layout == PromptLayout.shared_prefix else []
        return [*shared, *self.prompt_names]

    @property
    def cache_key(self) -> Mapping[str, Any]:
        return {"prompts": {name: digest(self.prompt(name)) for name in self.required_prompts}}

    @property
    def user_texts(self) -> Mapping[str, str]:
        return {f"prompts, {name}.txt": self.prompt(name) for name in self.required_prompts} if self.prompts else {}

    def prompt(self, name: str) -> str:
        """Returns a prompt. Raises ConfigError for one that `prompt_names` lacks: it would not be in the cache key."""
        if name not in self.required_prompts:
            raise ConfigError(f"{type(self).__name__} reads the prompt {name}; add it to prompt_names")
        folder = Path(self.prompts).expanduser() if self.prompts else find_prompt_folder(type(self), name)
        return read_prompt(folder, name)

    def split(self, document: Document) -> Sequence[Document]:
        return split_document(document, self.max_document_tokens)

    def build_request(
        self,
        document: Document,
        prompt: str,
        details: str = "",
        *,
        show_text: bool = True,
        temperature: float | None = None,
        **options: Any,
    ) -> Request:
        """Returns a request that shows the document with the instruction in the file `prompt`, followed by `details`.

        Asks for texts in the language of the document if that is not English. `show_text` false: only the title.
        `options` are fields of `Request`, such as `sample` or `json_schema`.
        """
        suffix = f"\n\n{details}" if details else ""
        system = in_own_language(self.prompt(prompt), document.text)
        user = render_document(document if show_text else replace(document, text=""))
        if self.layout == PromptLayout.shared_prefix:
            system, user = self.prompt(WRITER_PROMPT), f"{user}\n\n### Task\n{system}"
        temperature = self.temperature if temperature is None else temperature
        return Request(system=system, user=user + suffix, suffix=suffix, temperature=temperature, **options)


def check_prompt_folder(folder: Path, required: Sequence[str]) -> None:
    """Raises ConfigError naming every missing and every unknown file."""
    if not folder.is_dir():
        raise ConfigError(f"augmenter.prompts must be a folder, got {folder}")
    present = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    expected = {f"{name}.txt" for name in required}
    problems = [f"{name} is missing" for name in sorted(expected - present)]
    problems += [f"{name} is unknown" for name in sorted(present - expected)]
    if problems:
        raise ConfigError(
            f"augmenter.prompts: in {folder}: {', '.join(problems)}; expected exactly {', '.join(sorted(expected))}"
        )


def find_prompt_folder(augmenter: type, name: str) -> Path:
    """Returns the first folder that has the prompt, next to the module of the class or of one of its base classes.

    Raises ConfigError if there is none.
    """
    files = (getattr(sys.modules[cls.__module__], "__file__", None) for cls in augmenter.__mro__)
    folders = [Path(file).parent / "prompts" for file in files if file] + [BUILT_IN_PROMPTS]
    for folder in folders:
        if (folder / f"{name}.txt").is_file():
            return folder
    raise ConfigError(f"augmenter: {folders[0] / name}.txt does not exist; {augmenter.__name__} needs this prompt")


@cache
def read_prompt(folder: Path, name: str) -> str:
    """Returns a prompt. Raises ConfigError if it is empty or cannot be read."""
    file = folder / f"{name}.txt"
    try:
        prompt = decode_text(file.read_bytes()).strip()
        prompt.encode()
    except UnicodeError:
        raise ConfigError(f"augmenter.prompts: {file} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"augmenter.prompts: {file} cannot be read ({error.strerror})") from None
    if not prompt:
        raise ConfigError(f"augmenter.prompts: {file} is empty; write an instruction")
    return prompt


def render_document(document: Document) -> str:
    """Returns the document as every request shows it: title, author and year in the first line, then the text."""
    heading = f"{document.heading}."
    if isinstance(document, DocumentPart):
        heading += f" Part {document.number} of {document.of}."
        heading += f" The whole: {document.summary}" if document.summary else ""
    return f"### Document\n{heading}\n{document.text}"


def round_robin(streams: Iterable[Iterator[Item]], size: int) -> Iterator[Item]:
    """Yields `size` items of each stream in turn until all streams have ended."""
    waiting = list(streams)
    while waiting:
        remaining = []
        for stream in waiting:
            items = list(islice(stream, size))
            yield from items
            if len(items) == size:
                remaining.append(stream)
        waiting = remaining
