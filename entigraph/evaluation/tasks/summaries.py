"""Closed-book summaries: a model summarizes each document from memory (paper §4.3, App. I.2, Table 5).

A separate analysis judges them (analysis=summaries), so that several judges can rate the same summaries.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.errors import ConfigError, DataError
from entigraph.evaluation.base import Backend, Generation, Prompt, Sampling, TaskInputs, hash_prompt, sample_documents
from entigraph.evaluation.tasks.base import EvaluationTask, TaskContext, UsageEstimate
from entigraph.llm.base import LENGTH
from entigraph.storage.data_losses import DataLoss
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, Summary
from entigraph.text.refusals import REFUSAL_AS_TEXT, find_refusal

PROMPTS_PER_CALL = 256  # per call of `Backend.sample`
TOO_LONG = "prompt too long"


@dataclass(frozen=True, kw_only=True)
class SummaryPrompt:
    """A prompt template. `text` refers to the document with at least one placeholder: {document} is its title with
    author and year if known, {title} its title, and {KEY} an entry of its `meta`. Summaries end at `max_tokens`.
    """

    text: str
    max_tokens: int

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"evaluation prompts: max_tokens must be at least 1, got {self.max_tokens}")
        if not self.placeholders:
            raise ConfigError(
                f"evaluation prompts: {self.text!r} has no placeholder for the document; add one, such as {{document}}"
            )

    @property
    def placeholders(self) -> list[str]:
        try:
            return [name for _, name, _, _ in Formatter().parse(self.text) if name is not None]
        except ValueError as error:
            raise ConfigError(f"evaluation prompts: {self.text!r}: {error}") from None

    def format(self, document: Document) -> str:
        values = {"document": document.citation, "title": document.title, **document.meta}
        return self.text.format(**{placeholder: values[placeholder] for placeholder in self.placeholders})


@dataclass(frozen=True, kw_only=True)
class ClosedBookSummaries(EvaluationTask):
    """Samples `samples` summaries of every document with every prompt. `limit` samples that many documents, the same
    for every model.

    `prompts` maps names to `text` and `max_tokens`. The paper has a short and a long prompt, and states neither
    temperature nor maximum lengths.
    """

    prompts: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    samples: int = 1
    temperature: float = 0.1
    batch_tokens: int = runtime_field(65_536)
    seed: int = 0
    headline_keys: ClassVar[Sequence[str]] = ("summaries", "documents", "empty")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.prompts:
            raise ConfigError("evaluation prompts: empty; add at least one prompt with text and max_tokens")
        _ = self.summary_prompts
        self.check_minimum(limit=1, samples=1, temperature=0, batch_tokens=1)

    @property
    def summary_prompts(self) -> dict[str, SummaryPrompt]:
        return {name: build_summary_prompt(name, options) for name, options in self.prompts.items()}

    def evaluate(self, context: TaskContext) -> dict[str, Any]:
        """Writes the summaries to summaries-TASK.jsonl."""
        documents = self.load_documents(context.inputs)
        ids = [
            summary_id(document, prompt, sample)
            for prompt in self.prompts
            for document in documents
            for sample in range(self.samples)
        ]

        def write_missing(missing: set[str]) -> Iterator[Summary]:
            for prompt in self.prompts:
                last = self.samples - 1  # the samples of a document are written in order
                incomplete = [document for document in documents if summary_id(document, prompt, last) in missing]
                yield from self.write_summaries(incomplete, prompt, context.backend)

        file = context.write_records("summaries", Summary, ids, write_missing, id_field="id", unit="summaries")
        return {**score_summaries(list(read_jsonl(file, Summary))), **self.compute_metric_scores(file, Summary)}

    def validate(self, inputs: TaskInputs) -> None:
        self.load_documents(inputs)

    def estimate_usage(self, inputs: TaskInputs) -> UsageEstimate:
        documents, prompts = self.load_documents(inputs), self.summary_prompts.values()
        characters = sum(len(prompt.format(document)) for prompt in prompts for document in documents)
        samples = len(documents) * len(prompts) * self.samples
        longest = len(documents) * self.samples * sum(prompt.max_tokens for prompt in prompts)
        return UsageEstimate(f"{len(documents):,} documents' summaries", characters, samples, longest)

    def load_documents(self, inputs: TaskInputs) -> list[Document]:
        """Returns the documents to summarize. Raises DataError if there are none, or one lacks a prompt's value."""
        documents = list(read_jsonl(inputs.documents, Document))
        if not documents:
            raise DataError(f"{inputs.documents} contains no documents; choose another corpus, or remove the task")
        selected = sample_documents(self.limit, [document.id for document in documents])
        documents = [document for document in documents if document.id in selected]
        for name, prompt in self.summary_prompts.items():
            for document in documents:
                missing = [
                    placeholder
                    for placeholder in prompt.placeholders
                    if placeholder not in {"document", "title", *document.meta}
                ]
                if missing:
                    raise DataError(
                        f"{inputs.documents}: {document.id} has no {missing[0]!r}, which the prompt {name!r} of "
                        f"evaluation=summaries uses; available: {', '.join(['document', 'title', *document.meta])}"
                    )
        return documents

    def write_summaries(
        self, documents: Sequence[Document], name: str, backend: Callable[[], Backend]
    ) -> Iterator[Summary]:
        prompt = self.summary_prompts[name]
        for start in range(0, len(documents), PROMPTS_PER_CALL):
            batch = documents[start : start + PROMPTS_PER_CALL]
            prompts = [
                Prompt(f"{self.seed}/{name}/{document.id}", prompt.format(document), instruction=True)
                for document in batch
            ]
            for index, samples in backend().sample(prompts, self.sampling(prompt)):
                too_long = [Generation("", TOO_LONG)] * self.samples
                for sample, generation in enumerate(samples or too_long):
                    yield Summary(
                        id=summary_id(batch[index], name, sample),
                        document_id=batch[index].id,
                        prompt=name,
                        sample=sample,
                        text=generation.text.strip(),
                        finish_reason=generation.finish_reason,
                        prompt_hash=hash_prompt(prompts[index].text),
                    )

    def sampling(self, prompt: SummaryPrompt) -> Sampling:
        return Sampling(
            samples=self.samples,
            temperature=self.temperature,
            max_tokens=prompt.max_tokens,
            batch_tokens=self.batch_tokens,
        )

    def data_losses(self, scores: Mapping[str, Any]) -> Sequence[DataLoss]:
        unfinished, total = scores["unfinished"], scores["summaries"]
        cut, too_long = unfinished.get(LENGTH, 0), unfinished.get(TOO_LONG, 0)
        return (
            DataLoss("summaries end at max_tokens", cut, total),
            DataLoss("summaries are empty because the prompt exceeds the model's context", too_long, total),
            DataLoss("summaries are refused or rejected", sum(unfinished.values()) - cut - too_long, total),
        )

    def describe(self, scores: Mapping[str, Any]) -> str:
        counts = f"{scores['summaries']:,} summaries, {scores['empty']:,} empty"
        return f"{counts} (judge: entigraph analyze analysis=summaries)"


def build_summary_prompt(name: str, options: Any) -> SummaryPrompt:
    text, max_tokens = (options.get(key) if isinstance(options, dict) else None for key in ("text", "max_tokens"))
    if not isinstance(text, str) or not isinstance(max_tokens, int) or len(options) != 2:
        raise ConfigError(f"evaluation prompts: {name} must have the keys text and max_tokens only, got {options!r}")
    return SummaryPrompt(text=text, max_tokens=max_tokens)


def summary_id(document: Document, prompt: str, sample: int) -> str:
    return f"{document.id}/{prompt}/{sample}"


def score_summaries(summaries: Sequence[Summary]) -> dict[str, Any]:
    """Returns the counts over all summaries and by prompt. analysis=summaries scores factuality."""
    by_prompt: dict[str, list[Summary]] = {}
    for summary in summaries:
        by_prompt.setdefault(summary.prompt, []).append(summary)
    prompts = {prompt: count_summaries(members) for prompt, members in by_prompt.items()}
    return {**count_summaries(summaries), "prompts": prompts}


def count_summaries(summaries: Sequence[Summary]) -> Mapping[str, Any]:
    """Returns counts. `unfinished` counts reasons: "length" for truncation at max_tokens, or a refusal."""
    return {
        "summaries": len(summaries),
        "documents": len({summary.document_id for summary in summaries}),
        "empty": sum(not summary.text for summary in summaries),
        "unfinished": dict(Counter(filter(None, map(why_unfinished, summaries)))),
        "words": sum(len(summary.text.split()) for summary in summaries) / len(summaries),
    }


def why_unfinished(summary: Summary) -> str | None:
    """Returns why a text is not a complete summary of its document; None if it is."""
    if summary.finish_reason != "stop":
        return summary.finish_reason
    return REFUSAL_AS_TEXT if find_refusal(summary.text) else None
