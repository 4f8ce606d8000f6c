"""Closed-book summaries: a model writes of each document what it remembers (paper §4.3, App. I.2, Table 5).

They are judged afterwards (analysis=summaries), so that another judge reads the same ones.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Engine, Prompt, Sampled, Sampling, Source, hash_of, within
from entigraph.runtime.progress import Progress
from entigraph.storage.artifact import CHECKPOINTS
from entigraph.storage.jsonl import ResumableJsonLines, read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, Summary

PROMPTS_AT_ONCE = 256  # for one call of an engine
TOO_LONG = "prompt too long"


@dataclass(frozen=True, kw_only=True)
class Asking:
    """`text` names the document by slots: {document} is its title with author and year as far as they are known,
    {title} and the entries of its `meta` stand alone. A summary that has `max_tokens` is cut there.
    """

    text: str
    max_tokens: int

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"evaluation prompts: max_tokens {self.max_tokens} found, at least 1 expected")
        if not self.slots:
            raise ConfigError(
                f"evaluation prompts: {self.text!r} names no document; it needs a slot, such as {{document}}"
            )

    @property
    def slots(self) -> list[str]:
        try:
            return [name for _, name, _, _ in Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise ConfigError(f"evaluation prompts: {self.text!r}: {error}") from None

    def about(self, document: Document) -> str:
        known = {"document": named(document), "title": document.title, **document.meta}
        return self.text.format(**{slot: known[slot] for slot in self.slots})


@dataclass(frozen=True, kw_only=True)
class Summaries:
    """Every document of `corpus` (null: the run's own) by every prompt, `samples` times. A model with a chat template
    is asked in it, any other goes on with the prompt. `limit` draws that many documents, the same for every model.

    `prompts` by name, each with its `text` and `max_tokens`: the paper's are a short and a long one; it states neither
    temperature nor lengths.
    """

    prompts: dict[str, Any] = field(default_factory=dict)
    corpus: str | None = runtime_field(None)
    limit: int | None = None
    samples: int = 1
    temperature: float = 0.1
    batch_tokens: int = runtime_field(65_536)
    seed: int = 0
    needs_likelihoods: ClassVar[bool] = False
    asks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ConfigError("evaluation prompts: none given; give at least one with text and max_tokens")
        _ = self.askings
        for key, least in (("limit", 1), ("samples", 1), ("temperature", 0), ("batch_tokens", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ConfigError(f"evaluation {key}: {value} found, {least} or more expected")

    @property
    def askings(self) -> dict[str, Asking]:
        return {name: asking(name, options) for name, options in self.prompts.items()}

    @property
    def cache_key(self) -> dict[str, str]:
        return {}

    def measured(
        self, name: str, source: Source, engine: Callable[[], Engine], out: Path, progress: Progress
    ) -> dict[str, Any]:
        """The summaries go to summaries-<task>.jsonl; those from before a kill are kept."""
        documents = self.documents(source)
        kept = ResumableJsonLines(out / CHECKPOINTS / f"summaries-{name}.jsonl", Summary, "id")
        wanted = [identity(document, prompt, sample) for document, prompt, sample in self.all_of(documents)]
        with kept, progress.bar("evaluation", len(wanted), "summaries") as advance:
            advance(sum(each in kept for each in wanted))
            for prompt in self.prompts:
                todo = [each for each in documents if identity(each, prompt, self.samples - 1) not in kept]
                for summary in self.written(todo, prompt, engine):
                    kept.write(summary)
                    advance(1)
        write_jsonl(out / f"summaries-{name}.jsonl", (kept.read(each) for each in wanted))
        return scored(list(read_jsonl(out / f"summaries-{name}.jsonl", Summary)))

    def documents(self, source: Source) -> list[Document]:
        """Raises DataError where there is none, or where one lacks what a prompt names it by."""
        found = list(read_jsonl(source.documents, Document))
        if not found:
            raise DataError(f"{source.documents} holds no documents; give another corpus, or leave the task out")
        chosen = within(self.limit, [each.id for each in found])
        found = [each for each in found if each.id in chosen]
        for prompt, asking in self.askings.items():
            for document in found:
                missing = [slot for slot in asking.slots if slot not in {"document", "title", *document.meta}]
                if missing:
                    raise DataError(
                        f"{source.documents}: {document.id} has no {missing[0]!r}, which the prompt {prompt!r} of "
                        f"evaluation=summaries names; it has {', '.join(['document', 'title', *document.meta])}"
                    )
        return found

    def all_of(self, documents: Sequence[Document]) -> Iterator[tuple[Document, str, int]]:
        for prompt in self.prompts:
            for document in documents:
                yield from ((document, prompt, sample) for sample in range(self.samples))

    def written(self, documents: Sequence[Document], prompt: str, engine: Callable[[], Engine]) -> Iterator[Summary]:
        asking = self.askings[prompt]
        for start in range(0, len(documents), PROMPTS_AT_ONCE):
            asked = documents[start : start + PROMPTS_AT_ONCE]
            prompts = [self.prompt(document, prompt) for document in asked]
            for index, samples in engine().sample(prompts, self.sampling(asking)):
                too_long = [Sampled("", TOO_LONG)] * self.samples
                for number, sample in enumerate(samples or too_long):
                    yield summary(asked[index], prompt, number, prompts[index].text, sample)

    def prompt(self, document: Document, prompt: str) -> Prompt:
        text = self.askings[prompt].about(document)
        return Prompt(f"{self.seed}/{prompt}/{document.id}", text, instruction=True)

    def sampling(self, asking: Asking) -> Sampling:
        return Sampling(
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=asking.max_tokens,
            batch_tokens=self.batch_tokens,
        )


def asking(name: str, options: Any) -> Asking:
    text, max_tokens = (options.get(key) if isinstance(options, dict) else None for key in ("text", "max_tokens"))
    if not isinstance(text, str) or not isinstance(max_tokens, int) or len(options) != 2:
        raise ConfigError(f"evaluation prompts: {name} is {options!r}; text and max_tokens expected, and nothing else")
    return Asking(text=text, max_tokens=max_tokens)


def summary(document: Document, prompt: str, sample: int, asked: str, found: Sampled) -> Summary:
    return Summary(
        id=identity(document, prompt, sample),
        document_id=document.id,
        prompt=prompt,
        sample=sample,
        text=found.text.strip(),
        finish_reason=found.finish_reason,
        prompt_hash=hash_of(asked),
    )


def identity(document: Document, prompt: str, sample: int) -> str:
    return f"{document.id}/{prompt}/{sample}"


def named(document: Document) -> str:
    """As a reader names it; "Laumer, Keith" is Keith Laumer."""
    last, comma, first = document.meta.get("author", "").partition(", ")
    author = f" by {first} {last}" if comma else f" by {last}" if last else ""
    year = f" ({document.meta['year']})" if document.meta.get("year") else ""
    return f'"{document.title}"{author}{year}'


def scored(summaries: Sequence[Summary]) -> dict[str, Any]:
    """What was written; by prompt too. What is true of it is for a judge to say."""
    by_prompt: dict[str, list[Summary]] = {}
    for each in summaries:
        by_prompt.setdefault(each.prompt, []).append(each)
    return {**counted(summaries), "prompts": {prompt: counted(own) for prompt, own in by_prompt.items()}}


def counted(summaries: Sequence[Summary]) -> Mapping[str, Any]:
    """`unfinished`: by reason; "length" are those that were cut at max_tokens."""
    return {
        "summaries": len(summaries),
        "documents": len({each.document_id for each in summaries}),
        "empty": sum(not each.text for each in summaries),
        "unfinished": dict(Counter(each.finish_reason for each in summaries if each.finish_reason != "stop")),
        "words": sum(len(each.text.split()) for each in summaries) / len(summaries),
    }
