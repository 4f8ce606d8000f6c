"""Stage 2: documents → graphs.jsonl, texts-*.parquet, failures.jsonl."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from entigraph.config.schema import NearDuplicates
from entigraph.errors import ConfigError, DataError
from entigraph.llm.base import LLM, Completion, Request
from entigraph.runtime.progress import Progress
from entigraph.storage.jsonl import JsonLinesWriter, read_jsonl, write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, Failure, SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.synthesis.augmenters.mixed import Mixed, portions
from entigraph.synthesis.base import Augmenter, Task
from entigraph.synthesis.document_parts import source_of, with_summaries
from entigraph.synthesis.generation_stats import Ledger, refuse_unanswered, told
from entigraph.synthesis.rules import Rules

CountTokens = Callable[[str], int]
Record = Callable[[Mapping[str, Any]], None]
FIRST_WAVE = 64  # requests, from which the length of an answer is learned
BARREN_WAVES = 3  # in a row, after which more asking makes no sense
SPARE = 1.02  # a wave asks for a little more than is expected to be needed
ANOTHER_SAMPLE = 1_000_000  # added to a request's sample number each time it is asked again


def run(
    corpus: Path,
    out: Path,
    *,
    augmenter: Augmenter | Mixed,
    llm: LLM | None,
    count_tokens: CountTokens,
    rules: Rules,
    progress: Progress,
    record: Record = lambda values: None,
) -> dict[str, Any]:
    """Write texts by the rules. `llm` is None where the augmenter needs no writer.

    Raises ConfigError for an endless augmenter without a budget, DataError where no text or too little came out.
    """
    if rules.token_budget is None and augmenter.endless:
        raise ConfigError(f"augmenter={augmenter.name} does not end by itself: set synthesis.token_budget")
    with JsonLinesWriter(out / "failures.jsonl") as failures:
        ledger = Ledger(failures, rules.token_budget, rules.max_lost, record)
        writings = [
            Writing(part, llm, count_tokens, replace(rules, token_budget=budget), ledger)
            for part, budget in portions(augmenter, rules.token_budget)
        ]
        graphs = [graph for writing in writings for graph in writing.read(corpus, progress)]
        write_jsonl(out / "graphs.jsonl", graphs)
        refuse_unanswered(ledger)  # parts carry each other's summaries: no text before all lists are answered
        with closing(one_after_another(writings)) as texts:
            count = write_texts(out, shown(texts, ledger, rules.token_budget, progress))
    refuse_unanswered(ledger)
    if count and augmenter.needs_writer and rules.near_duplicates is not NearDuplicates.ignore:
        count = without_near_duplicates(out, ledger, rules)
    if not count:
        why = told(ledger.reasons) or "it asked for none"
        raise DataError(f"{augmenter.name} wrote no text about the documents of {corpus}: {why}")
    return {
        "entities": sum(len(graph.entities) for graph in graphs),
        "entities_left_out": sum(graph.left_out for graph in graphs),
        **ledger.counts,
    }


def without_near_duplicates(out: Path, ledger: Ledger, rules: Rules) -> int:
    """They are reported in any case, and removed where the rules say so; returns how many texts there are then."""
    from entigraph.synthesis import near_duplicates

    unwanted = near_duplicates.report(out, ledger.texts, rules.similarity)
    ledger.near_duplicates = len(unwanted)
    if unwanted and rules.near_duplicates is NearDuplicates.remove:
        ledger.begin_again()
        near_duplicates.remove(out, unwanted, ledger.wrote)
        ledger.removed = len(unwanted)
    return ledger.texts


def one_after_another(writings: Sequence["Writing"]) -> Generator[SyntheticText, None, None]:
    for writing in writings:
        yield from writing.texts()


@dataclass
class Writing:
    """One augmenter at work with one writer, up to the budget in its rules; `ledger` is that of all who write."""

    augmenter: Augmenter
    llm: LLM | None
    count_tokens: CountTokens
    rules: Rules
    ledger: Ledger
    documents: Iterable[Document] = ()
    known: Mapping[str, EntityGraph] = field(default_factory=dict)
    began: tuple[int, int] = (0, 0)  # tokens and requests in the ledger, when its first text was asked for

    def read(self, corpus: Path, progress: Progress) -> Iterable[EntityGraph]:
        """The graphs of its documents, or of their parts."""
        self.documents = read_jsonl(corpus / "documents.jsonl", Document)
        if self.augmenter.needs_writer:  # asked about repeatedly
            self.documents = [part for document in self.documents for part in self.augmenter.parts(document)]
        self.known = {graph.document_id: graph for graph in self.graphs(self.documents, progress)}
        if self.known:
            self.documents = list(with_summaries(self.documents, self.known))
        return self.known.values()

    def graphs(self, documents: Iterable[Document], progress: Progress) -> Generator[EntityGraph, None, None]:
        """In the order of the documents, but for those whose first answer was no list."""
        if self.llm is None:
            return
        asked = [(document, request) for document in documents if (request := self.augmenter.graph_request(document))]
        with progress.bar("entities", len(asked), "documents") as advance:
            for again in range(self.rules.reask_failures + 1):
                failed = []
                with closing(self.llm.complete(another(request, again) for _, request in asked)) as answers:
                    for (document, request), completion in zip(asked, answers, strict=True):
                        self.ledger.answered(completion.usage)
                        lost = refused(document, "entities", (), completion)
                        found = lost or self.augmenter.graph(document, completion)
                        if isinstance(found, EntityGraph):
                            self.ledger.graphs += 1
                            yield found
                        elif again < self.rules.reask_failures:
                            failed.append((document, request))
                            continue
                        else:
                            self.ledger.failed(found)
                        advance(1, self.ledger.note)
                asked = failed

    def texts(self) -> Generator[SyntheticText, None, None]:
        """In waves, each as long as the token budget is expected to need: nothing is asked that nobody wants."""
        going, barren = True, 0
        tasks = self.augmenter.tasks(self.documents, self.known, self.rules.seed)
        self.began = (self.ledger.tokens, self.ledger.text_requests)
        while going:
            before = self.ledger.texts
            wave: Iterator[Task] = islice(tasks, self.wave())
            drawn = 0
            for again in range(self.rules.reask_failures + 1):
                failed: list[Task] = []
                with closing(self.answers(wave, again)) as answers:
                    for task, prompt_hash, completion in answers:
                        drawn += 1
                        retry = failed if again < self.rules.reask_failures else None
                        for text in self.split(task, prompt_hash, completion, retry):
                            yield text
                            if self.full:
                                return
                wave = iter(failed)
            going = drawn > 0
            barren = barren + 1 if self.ledger.texts == before else 0
            if going and barren == BARREN_WAVES:
                raise DataError(
                    f"the last {barren} rounds of requests gave no text ({told(self.ledger.reasons)}). Look at "
                    "failures.jsonl and mend the writer or the prompts; what was answered is not asked again"
                )

    def wave(self) -> int | None:
        """How many requests the rest of the budget will take; None where there is no budget, or no writer."""
        if self.rules.token_budget is None or self.llm is None:
            return None
        if not self.tokens:
            return FIRST_WAVE
        tokens_a_request = self.tokens / (self.ledger.text_requests - self.began[1])
        return max(1, ceil(SPARE * (self.rules.token_budget - self.tokens) / tokens_a_request))

    @property
    def tokens(self) -> int:
        """Of its own texts."""
        return self.ledger.tokens - self.began[0]

    @property
    def full(self) -> bool:
        return self.rules.token_budget is not None and self.tokens >= self.rules.token_budget

    def answers(self, tasks: Iterator[Task], again: int) -> Generator[tuple[Task, str, Completion], None, None]:
        """Each task with its request's hash and its completion. Requests are made as the writer draws them."""
        if self.llm is None:
            for task in tasks:
                yield task, "", Completion(text=task.document.text, model=self.augmenter.author)
            return
        ahead: deque[tuple[Task, str]] = deque()

        def requests() -> Iterator[Request]:
            for task in tasks:
                request = another(self.augmenter.request(task), again)
                ahead.append((task, request.hash))
                yield request

        with closing(self.llm.complete(requests())) as answers:
            for completion in answers:
                self.ledger.answered(completion.usage, with_texts=True)
                yield *ahead.popleft(), completion

    def split(
        self, task: Task, prompt_hash: str, completion: Completion, again: list[Task] | None
    ) -> Iterator[SyntheticText]:
        """The texts of one answer. What it lacks is a failure, or a task in `again` where there is one more try."""
        several = len(task.about) > 1
        answer, reason = completion.text, reason_of(completion)
        if several and completion.finish_reason == "length":
            reason = None  # what stands whole before the cut was paid for
        texts = self.augmenter.texts(task, answer) if reason is None else [None] * len(task.about)
        if several and completion.finish_reason == "length":
            texts = without_last(texts)
        missing = []
        for about, text in zip(task.about, texts, strict=True):
            if text is not None and text.strip():
                yield self.text(task, about, text, prompt_hash, completion)
            else:
                missing.append(about)
        if missing and again is not None:
            again.append(replace(task, about=missing))
            return
        for about in missing:
            told = reason or ("missing from an answer about several" if several else "an empty answer")
            self.ledger.failed(failure(task.document, task.kind, about, told, answer))

    def text(
        self, task: Task, about: Sequence[str], text: str, prompt_hash: str, completion: Completion
    ) -> SyntheticText:
        return SyntheticText(
            id="/".join((task.document.id, task.kind, *about, str(task.sample))),
            document_id=source_of(task.document),
            augmenter=self.augmenter.name,
            kind=task.kind,
            about=about,
            sample=task.sample,
            text=text,
            writer=completion.model,
            prompt_hash=prompt_hash,
            tokens=self.count_tokens(text),
        )


def another(request: Request, again: int) -> Request:
    """The same request asked once more: another sample of it."""
    return replace(request, sample=request.sample + again * ANOTHER_SAMPLE) if again else request


def without_last(texts: Sequence[str | None]) -> list[str | None]:
    """Without the text at whose end the answer was cut."""
    last = max((number for number, text in enumerate(texts) if text), default=-1)
    return [None if number == last else text for number, text in enumerate(texts)]


def reason_of(completion: Completion) -> str | None:
    """Why an answer is no text at all; None where it is one."""
    if completion.finish_reason != "stop":
        return f"finish_reason {completion.finish_reason}"
    return None if completion.text.strip() else "an empty answer"


def refused(document: Document, kind: str, about: Sequence[str], completion: Completion) -> Failure | None:
    reason = reason_of(completion)
    return failure(document, kind, about, reason, completion.text) if reason else None


def failure(document: Document, kind: str, about: Sequence[str], reason: str, response: str) -> Failure:
    return Failure(document_id=source_of(document), kind=kind, about=about, reason=reason, response=response)


def shown(
    texts: Iterator[SyntheticText], ledger: Ledger, token_budget: int | None, progress: Progress
) -> Iterator[SyntheticText]:
    """Counted and displayed."""
    with progress.bar("texts", token_budget, "tokens") as advance:
        for text in texts:
            ledger.wrote(text)
            advance(text.tokens, ledger.note)
            yield text
