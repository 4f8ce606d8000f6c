"""Stage 2: documents → graphs.jsonl, texts-*.parquet, failures.jsonl."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError, DataError, LLMError
from entigraph.llm.base import LLM, Completion, Request, Usage
from entigraph.progress import Progress
from entigraph.records import Document, EntityGraph, Failure, SyntheticText, read_jsonl, write_jsonl
from entigraph.synthesis.base import Augmenter, Task
from entigraph.texts import write_texts

CountTokens = Callable[[str], int]
UNANSWERED = "finish_reason gave up: "
FAILURES_IN_A_ROW = 500  # a writer that refuses everything is stopped


@dataclass
class Outcome:
    """What the stage has seen so far: failures are records too, and every loss is counted."""

    failures: list[Failure] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    dollars: float = 0.0
    documents: set[str] = field(default_factory=set)

    def paid(self, usage: Usage) -> None:
        """What the answers behind this corpus cost when they were asked, by this command or an earlier one."""
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.completion_tokens += usage.completion_tokens
        self.dollars += usage.dollars


def run(
    corpus: Path,
    out: Path,
    *,
    augmenter: Augmenter,
    llm: LLM | None,
    count_tokens: CountTokens,
    token_budget: int | None,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write texts until `token_budget` is reached (null: until the augmenter has no more to ask).

    `llm` is None where the augmenter needs no writer.
    Raises ConfigError for an endless augmenter without a budget, DataError where no text came out.
    """
    if token_budget is None and augmenter.endless:
        raise ConfigError(f"augmenter={augmenter.name} does not end by itself: set synthesis.token_budget")
    documents: Iterable[Document] = read_jsonl(corpus / "documents.jsonl", Document)
    if augmenter.needs_writer:
        documents = list(documents)  # asked about again and again
    outcome = Outcome()
    graphs = ask_for_graphs(documents, augmenter, llm, outcome, progress) if llm else []
    write_jsonl(out / "graphs.jsonl", graphs)
    tasks = augmenter.tasks(documents, {graph.document_id: graph for graph in graphs}, seed)
    texts = until(token_budget, written(tasks, augmenter, llm, count_tokens, outcome), outcome, progress)
    count = write_texts(out, texts)
    write_jsonl(out / "failures.jsonl", outcome.failures)
    refuse_unanswered(outcome)
    if not count:
        reasons = Counter(failure.reason for failure in outcome.failures).most_common(3)
        raise DataError(
            f"{augmenter.name} wrote no text about the documents of {corpus}: {reasons or 'it asked for none'}"
        )
    return {
        "texts": count,
        "tokens": outcome.tokens,
        "entities": sum(len(graph.entities) for graph in graphs),
        "kinds": dict(outcome.kinds),
        "documents_with_texts": len(outcome.documents),
        "failures": dict(Counter(failure.reason for failure in outcome.failures)),
        "prompt_tokens": outcome.prompt_tokens,
        "cached_tokens": outcome.cached_tokens,
        "completion_tokens": outcome.completion_tokens,
        "dollars": round(outcome.dollars, 4),
    }


def refuse_unanswered(outcome: Outcome) -> None:
    """What got no answer is asked again, not lost. Raises LLMError where there is any."""
    unanswered = [failure for failure in outcome.failures if failure.reason.startswith(UNANSWERED)]
    if unanswered:
        raise LLMError(
            f"{len(unanswered)} requests got no answer, the last: {unanswered[-1].reason.removeprefix(UNANSWERED)}. "
            "Check the writer's server and run the same command: what was answered is not asked again"
        )


def summary(counts: Mapping[str, Any], documents: int, token_budget: int | None) -> list[str]:
    """What a reader should know of the corpus at once; empty where all is well."""
    lines = []
    if counts["failures"]:
        told = ", ".join(f"{count} {reason}" for reason, count in counts["failures"].items())
        lines.append(f"  gave no text: {told} (failures.jsonl)")
    if counts["documents_with_texts"] < documents:
        lines.append(f"  {documents - counts['documents_with_texts']} of {documents} documents have no text")
    if token_budget is not None and counts["tokens"] < token_budget:
        lines.append(f"  the augmenter had no more to ask after {counts['tokens']:,} of {token_budget:,} tokens")
    return lines


def ask_for_graphs(
    documents: Iterable[Document], augmenter: Augmenter, llm: LLM, outcome: Outcome, progress: Progress
) -> list[EntityGraph]:
    asked = [(document, request) for document in documents if (request := augmenter.graph_request(document))]
    graphs: list[EntityGraph] = []
    with progress.bar("entities", len(asked), "documents") as advance:
        answers = llm.complete(request for _, request in asked)
        for (document, _), (_, completion) in zip(asked, answers, strict=True):
            outcome.paid(completion.usage)
            found = refused(document.id, "entities", (), completion) or augmenter.graph(document, completion)
            if isinstance(found, Failure):
                outcome.failures.append(found)
            else:
                graphs.append(found)
            advance(1)
    return graphs


def written(
    tasks: Iterator[Task], augmenter: Augmenter, llm: LLM | None, count_tokens: CountTokens, outcome: Outcome
) -> Iterator[SyntheticText]:
    """Each task's text, in the order of the tasks; failures are put aside."""
    in_a_row = 0
    for task, completion in answered(tasks, llm):
        outcome.paid(completion.usage)
        failure = refused(task.document.id, task.kind, task.about, completion)
        if failure:
            outcome.failures.append(failure)
            in_a_row += 1
            if in_a_row >= FAILURES_IN_A_ROW:
                raise DataError(f"{in_a_row} requests in a row gave no text, the last because of {failure.reason}")
            continue
        in_a_row = 0
        yield SyntheticText(
            id="/".join((task.document.id, task.kind, *task.about, str(task.sample))),
            document_id=task.document.id,
            augmenter=augmenter.name,
            kind=task.kind,
            about=task.about,
            sample=task.sample,
            text=completion.text,
            writer=completion.model,
            prompt_hash=task.request.hash if task.request else "",
            tokens=count_tokens(completion.text),
        )


def answered(tasks: Iterator[Task], llm: LLM | None) -> Iterator[tuple[Task, Completion]]:
    """Each task with its completion. Requests are made as the writer draws them, a few ahead of the answers."""
    if llm is None:
        for task in tasks:
            yield task, Completion(text=task.document.text, model="the document itself")
        return
    ahead: deque[Task] = deque()

    def requests() -> Iterator[Request]:
        for task in tasks:
            assert task.request is not None
            ahead.append(task)
            yield task.request

    for _, completion in llm.complete(requests()):
        yield ahead.popleft(), completion


def refused(document_id: str, kind: str, about: Sequence[str], completion: Completion) -> Failure | None:
    reason = None if completion.finish_reason == "stop" else f"finish_reason {completion.finish_reason}"
    if reason is None and not completion.text.strip():
        reason = "an empty answer"
    if reason is None:
        return None
    return Failure(document_id=document_id, kind=kind, about=about, reason=reason, response=completion.text)


def until(
    token_budget: int | None, texts: Iterator[SyntheticText], outcome: Outcome, progress: Progress
) -> Iterator[SyntheticText]:
    with progress.bar("texts", token_budget, "tokens") as advance:
        for text in texts:
            outcome.tokens += text.tokens
            outcome.kinds[text.kind] += 1
            outcome.documents.add(text.document_id)
            advance(text.tokens)
            yield text
            if token_budget is not None and outcome.tokens >= token_budget:
                return
