"""Generates the texts of one augmenter in waves, each as long as the rest of the token budget is expected to need."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from math import ceil
from pathlib import Path

from entigraph.config.schema import Synthesis
from entigraph.errors import ConfigError, DataError
from entigraph.llm.base import LLM
from entigraph.runtime.progress import Progress
from entigraph.storage.data_losses import count_of
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, SyntheticText
from entigraph.synthesis.base import Augmenter, WritingTask
from entigraph.synthesis.document_parts import add_summaries, source_id
from entigraph.synthesis.even_start import AnsweredAhead, TextOutcome, first_round, first_tasks, max_consecutive, spread
from entigraph.synthesis.exchanges import run_exchanges
from entigraph.synthesis.generation_stats import UNANSWERED, GenerationStats, render_counts
from entigraph.text.refusals import find_refusal

CountTokens = Callable[[str], int]
FIRST_WAVE = 64  # tasks, from which answer length is estimated
MAX_EMPTY_WAVES = 3  # consecutive; more requests would not help
MARGIN = 1.02  # a wave requests slightly more than the expected need


@dataclass
class TextGenerator:
    """Generates the texts of one augmenter with one writer, up to a token budget. `stats` is shared by all generators
    of a synthesis.
    """

    augmenter: Augmenter
    llm: LLM | None
    count_tokens: CountTokens
    token_budget: int | None
    rules: Synthesis
    stats: GenerationStats
    documents: Iterable[Document] = ()
    graphs: Mapping[str, EntityGraph] = field(default_factory=dict)
    tokens: int = 0  # of the texts so far
    attempts: int = 0  # of tasks so far, retries included
    tokens_per_task: float = 0.0  # by the tasks answered ahead
    answered_ahead: AnsweredAhead = field(default_factory=AnsweredAhead)

    def prepare(self, corpus: Path, progress: Progress) -> Iterable[EntityGraph]:
        """Reads the documents and requests their graphs. Returns the graphs."""
        self.documents = read_jsonl(corpus / "documents.jsonl", Document)
        if self.augmenter.needs_writer:  # iterated several times
            self.documents = [part for document in self.documents for part in self.augmenter.split(document)]
            self.graphs = {graph.document_id: graph for graph in self.build_graphs(self.documents, progress)}
        if self.graphs:
            self.documents = list(add_summaries(self.documents, self.graphs))
        return self.graphs.values()

    def build_graphs(self, documents: Iterable[Document], progress: Progress) -> Iterator[EntityGraph]:
        """Yields the graphs in the order of the documents, those from retries last.

        Everything that is written about a document depends on its graph, so that failed graphs are retried even where
        failed texts are not. A request without an answer is left to the next command.
        """
        assert self.llm is not None
        remaining = [document for document in documents if self.augmenter.graph(document) is not None]
        retries = self.rules.graph_retries
        with progress.bar("entities", len(remaining), "documents") as advance:
            for attempt in range(retries + 1):
                failed = []
                exchanges = run_exchanges(
                    self.llm,
                    remaining,
                    self.augmenter.graph,
                    attempt=attempt,
                    on_answer=self.stats.add_answer,
                    detect_refusals=self.rules.detect_refusals,
                )
                with closing(exchanges) as outcomes:
                    for outcome in outcomes:
                        if outcome.result is not None:
                            self.stats.add_graph(outcome.result, retried=attempt > 0)
                            yield outcome.result
                        elif attempt < retries and not outcome.reason.startswith(UNANSWERED):
                            failed.append(outcome.subject)
                            continue
                        else:
                            reason, answer = outcome.reason, outcome.completion.text
                            self.stats.add_failure(failure(outcome.subject, "entities", (), reason, answer))
                        advance(1, self.stats.note)
                remaining = failed

    def texts(self) -> Generator[SyntheticText, None, None]:
        """Yields texts until the token budget is reached or the tasks end.

        Raises DataError if several waves in a row give no text.
        """
        tasks = iter(self.augmenter.tasks(self.documents, self.graphs, self.rules.seed))
        if self.llm and self.token_budget is not None:
            tasks = self.start_evenly(tasks, self.token_budget)
        empty_waves = 0
        while not self.finished and (first := next(tasks, None)) is not None:
            size = self.wave_size()
            wave = chain([first], islice(tasks, None if size is None else size - 1))
            tokens = self.tokens
            yield from self.write_wave(wave) if self.llm else self.copy_documents(wave)
            empty_waves = empty_waves + 1 if self.tokens == tokens else 0
            if empty_waves == MAX_EMPTY_WAVES:
                raise DataError(
                    f"the last {empty_waves} waves of requests gave no text ({render_counts(self.stats.reasons)}). See "
                    "failures.jsonl and fix the writer or the prompts; answered requests are not sent again"
                )

    def start_evenly(self, tasks: Iterator[WritingTask], token_budget: int) -> Iterator[WritingTask]:
        """Returns the tasks, in an order that spreads the budget evenly if it ends in the first round of documents.

        Answers the first task of up to FIRST_WAVE documents.
        """
        covered = {source_id(document) for document in self.documents if not self.graphs or document.id in self.graphs}
        ahead = first_round(tasks, covered, self.augmenter.requests_in_a_row)
        if not ahead:
            return tasks
        with closing(self.run_tasks(first_tasks(ahead)[:FIRST_WAVE], attempt=0)) as outcomes:
            probes = list(outcomes)
        self.answered_ahead = AnsweredAhead({id(outcome.subject): outcome for outcome in probes})
        texts = [text for outcome in probes for text in usable_texts(outcome, self.augmenter.name) if text]
        self.tokens_per_task = sum(map(self.count_tokens, texts)) / len(probes)
        consecutive = max_consecutive(ahead) > 1  # otherwise the augmenter cycles through the documents itself
        if consecutive and self.tokens_per_task * len(ahead) > token_budget:
            ahead = spread(ahead, token_budget / self.tokens_per_task)
        return chain(ahead, tasks)

    @property
    def finished(self) -> bool:
        return self.token_budget is not None and self.tokens >= self.token_budget

    def wave_size(self) -> int | None:
        """Returns how many tasks the rest of the budget will take; None if there is no budget or no writer."""
        if self.token_budget is None or self.llm is None:
            return None
        tokens_per_task = self.tokens / self.attempts if self.tokens else self.tokens_per_task
        if not tokens_per_task:
            return FIRST_WAVE
        return max(1, ceil(MARGIN * (self.token_budget - self.tokens) / tokens_per_task))

    def copy_documents(self, tasks: Iterable[WritingTask]) -> Iterator[SyntheticText]:
        for task in tasks:
            for about in task.about:
                yield self.build_text(task, about, task.document.text, writer=self.augmenter.author, prompt_hash="")
                if self.finished:
                    return

    def write_wave(self, wave: Iterable[WritingTask]) -> Iterator[SyntheticText]:
        """Yields the texts of a wave of tasks, then those of its retries."""
        for attempt in range(self.rules.max_retries + 1):
            failed: list[WritingTask] = []
            answer = partial(self.run_tasks, attempt=attempt)
            with closing(answer(wave) if attempt else self.answered_ahead.merge(wave, answer)) as outcomes:
                for outcome in outcomes:
                    self.attempts += 1
                    missing = yield from self.collect_texts(outcome)
                    if self.finished:
                        return
                    if missing and attempt < self.rules.max_retries:
                        failed.append(replace(outcome.subject, about=missing))
                    else:
                        self.record_failures(outcome, missing)
            wave = failed

    def run_tasks(self, tasks: Iterable[WritingTask], attempt: int) -> Generator[TextOutcome, None, None]:
        assert self.llm is not None
        return run_exchanges(
            self.llm,
            tasks,
            self.augmenter.write,
            attempt=attempt,
            on_answer=self.stats.add_answer,
            use_truncated=lambda task: len(task.about) > 1,
            detect_refusals=self.rules.detect_refusals,
        )

    def collect_texts(self, outcome: TextOutcome) -> Generator[SyntheticText, None, Sequence[Sequence[str]]]:
        """Yields the texts of a task until the budget is reached. Returns the groups without a text."""
        task, completion = outcome.subject, outcome.completion
        missing = []
        texts = usable_texts(outcome, self.augmenter.name)
        if outcome.result and not any(texts):
            completion.discard()
        for about, text in zip(task.about, texts, strict=True):
            if text is None or (self.rules.detect_refusals and find_refusal(text)):
                missing.append(about)
                continue
            yield self.build_text(task, about, text, writer=completion.model, prompt_hash=outcome.prompt_hash)
            if self.finished:
                break
        return missing

    def record_failures(self, outcome: TextOutcome, missing: Sequence[Sequence[str]]) -> None:
        task = outcome.subject
        several = len(task.about) > 1
        reason = outcome.reason or ("missing from an answer about several" if several else "an empty answer")
        for about in missing:
            self.stats.add_failure(failure(task.document, task.kind, about, reason, outcome.completion.text))

    def build_text(
        self, task: WritingTask, about: Sequence[str], text: str, *, writer: str, prompt_hash: str
    ) -> SyntheticText:
        tokens = self.count_tokens(text)
        self.tokens += tokens
        return SyntheticText(
            id=task.document.id + text_id_suffix(task.kind, about, task.sample),
            document_id=source_id(task.document),
            augmenter=self.augmenter.name,
            kind=task.kind,
            about=about,
            sample=task.sample,
            text=text,
            writer=writer,
            prompt_hash=prompt_hash,
            tokens=tokens,
            context=list(dict.fromkeys(map(source_id, task.context))),
        )


def usable_texts(outcome: TextOutcome, augmenter: str) -> Sequence[str | None]:
    """Returns a text for each group of the task; None for those that are missing, empty or truncated."""
    groups = outcome.subject.about
    texts = outcome.result or [None] * len(groups)
    if len(texts) != len(groups):
        raise ConfigError(
            f"augmenter={augmenter}: write returned {count_of(len(texts), 'text')} for a task with "
            f"{count_of(len(groups), 'group')} in `about`; return one text for each group, or announce more groups in "
            "tasks, such as WritingTask(..., about=[[], []]) for two texts about the document"
        )
    if outcome.truncated:
        texts = drop_last(texts)
    return [text if text and text.strip() else None for text in texts]


def drop_last(texts: Sequence[str | None]) -> list[str | None]:
    """Removes the last text that is present: it is the truncated one."""
    last = max((number for number, text in enumerate(texts) if text), default=-1)
    return [None if number == last else text for number, text in enumerate(texts)]


def failure(document: Document, kind: str, about: Sequence[str], reason: str, response: str) -> Failure:
    return Failure(document_id=source_id(document), kind=kind, about=about, reason=reason, response=response)


def text_id_suffix(kind: str, about: Sequence[str], sample: int) -> str:
    """Returns what follows the id of the document or part in the id of a text.

    Slashes in names are escaped: otherwise "TCP, IP/UDP" and "TCP/IP, UDP" would give the same id.
    """
    names = (name.replace("%", "%25").replace("/", "%2F") for name in about)
    return "/".join(("", kind, *names, str(sample)))


def part_of_text(text: SyntheticText) -> str:
    """Returns the id of the document or part, with which the id of the text starts."""
    return text.id.removesuffix(text_id_suffix(text.kind, text.about, text.sample))
