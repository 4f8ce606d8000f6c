"""Counts what a synthesis has generated so far: texts, failures by reason, and the cost of the answers."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from entigraph.errors import DataError, LLMError
from entigraph.llm.base import Completion, Usage
from entigraph.llm.cost import render_dollars
from entigraph.storage.data_losses import DataLoss, count_of
from entigraph.storage.jsonl import JsonLinesWriter
from entigraph.storage.schemas import EntityGraph, Failure, SyntheticText

UNANSWERED = "finish_reason gave up: "
MIN_RESULTS = 100  # graphs, texts and failures before the failure rate is enforced during generation
MIN_FAILURES = 5  # fewer failures say little about their rate: they are reported only
SECONDS_BETWEEN_LOGS = 5.0
TOKENS_MISSING = "tokens of synthesis.token_budget are not written"


class GenerationStats:
    """Writes each failure to `failures` immediately and calls `log` with the current state every few seconds."""

    def __init__(
        self,
        failures: JsonLinesWriter,
        token_budget: int | None,
        max_failure_rate: float,
        log: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.failures, self.token_budget, self.log = failures, token_budget, log
        self.max_failure_rate = max_failure_rate
        self.requests = self.graphs = self.retried_graphs = self.removed = 0
        self.near_duplicates: int | None = None  # unless they are counted
        self.reasons: Counter[str] = Counter()
        self.usage = Usage()
        self.counted_lists: set[str] = set()
        self.answer_notes: Counter[str] = Counter()
        self.last_log = time.monotonic()
        self.reset_texts()

    def reset_texts(self) -> None:
        """Resets the text counters before a recount."""
        self.texts = self.tokens = 0
        self.kinds: Counter[str] = Counter()
        self.augmenter_tokens: Counter[str] = Counter()
        self.documents: set[str] = set()

    def add_answer(self, completion: Completion, request_hash: str, has_next_step: bool) -> None:
        """Adds an answer's usage (paid by this or an earlier command) and its notes.

        An answer that is followed by another step may be the list with which several texts begin: it counts once.
        """
        if request_hash in self.counted_lists:
            return
        if has_next_step:
            self.counted_lists.add(request_hash)
        self.requests += 1
        self.usage += completion.usage
        self.answer_notes.update(completion.notes)

    def add_graph(self, graph: EntityGraph, retried: bool) -> None:
        self.graphs += 1
        self.retried_graphs += retried

    def add_text(self, text: SyntheticText) -> None:
        self.texts += 1
        self.tokens += text.tokens
        self.kinds[text.kind] += 1
        self.augmenter_tokens[text.augmenter] += text.tokens
        self.documents.add(text.document_id)
        now = time.monotonic()
        if now - self.last_log > SECONDS_BETWEEN_LOGS:
            self.last_log = now
            self.log(self.state)

    def add_failure(self, failure: Failure) -> None:
        """Records a failure. Raises DataError if too many requests have failed."""
        self.failures.write(failure)
        self.reasons[failure.reason] += 1
        self.check_failure_rate(MIN_RESULTS)

    def check_failure_rate(self, min_results: int = 0) -> None:
        """Raises DataError if more than `max_failure_rate` of at least `min_results` results have failed."""
        failed = sum(count for reason, count in self.reasons.items() if not reason.startswith(UNANSWERED))
        results = failed + self.graphs + self.texts
        if results >= min_results and failed >= MIN_FAILURES and failed > self.max_failure_rate * results:
            raise DataError(
                f"{failed} of {results} entity lists and texts failed ({render_counts(self.reasons)}), more than "
                f"synthesis.max_failure_rate = {self.max_failure_rate:.0%}. See failures.jsonl and fix the writer or "
                "the prompts, or raise synthesis.max_failure_rate; answered requests are not sent again"
            )

    @property
    def note(self) -> str:
        """Failures and cost for the progress bar; empty if there are none."""
        failed = f"{self.reasons.total()} failed" if self.reasons else ""
        return ", ".join(filter(None, (failed, self.cost)))

    @property
    def cost(self) -> str:
        dollars = self.usage.dollars
        if not dollars:
            return ""
        if not self.token_budget or not self.tokens:
            return render_dollars(dollars)
        total = dollars * max(1, self.token_budget / self.tokens)
        return f"{render_dollars(dollars)} of about {render_dollars(total)}"

    @property
    def state(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "texts": self.texts,
            "tokens": self.tokens,
            "failed": self.reasons.total(),
            "dollars": self.usage.dollars,
            "cached_share": self.usage.cached_tokens / max(1, self.usage.prompt_tokens),
        }

    @property
    def counts(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "kinds": dict(self.kinds),
            "tokens_by_augmenter": dict(self.augmenter_tokens),
            "documents_with_texts": len(self.documents),
            "requests": self.requests,
            "failures": dict(self.reasons),
            "entity_lists_retried": self.retried_graphs,
            **({} if self.near_duplicates is None else {"near_duplicates": self.near_duplicates}),
            "removed": self.removed,
            "answer_notes": dict(self.answer_notes),
            **asdict(self.usage),
            "dollars": round(self.usage.dollars, 4),
        }

    def raise_if_unanswered(self) -> None:
        """Raises LLMError if a request got no answer: it is sent again by the next command and is not a failure."""
        unanswered = {reason: count for reason, count in self.reasons.items() if reason.startswith(UNANSWERED)}
        if unanswered:
            raise LLMError(
                f"{sum(unanswered.values())} requests got no answer (last error: "
                f"{[*unanswered][-1].removeprefix(UNANSWERED)}). "
                "Check the writer's server and run the same command: answered requests are not sent again"
            )


def summary_lines(counts: Mapping[str, Any], documents: int, token_budget: int | None) -> list[str]:
    """Returns the lines to print after the stage."""
    lines = []
    if counts["requests"]:
        cost = f", {render_dollars(counts['dollars'])}" if counts["dollars"] else ""
        texts = count_of(counts["texts"], "text")
        lines.append(f"  {texts} of {counts['tokens']:,} tokens, {count_of(counts['requests'], 'request')}{cost}")
    if len(counts["tokens_by_augmenter"]) > 1:
        lines.append(f"  tokens by augmenter: {render_mixture(counts['tokens_by_augmenter'])}")
    if counts["answer_notes"]:
        lines.append(f"  answers: {render_counts(counts['answer_notes'])}")
    if counts["failures"]:
        lines.append(f"  failed: {render_counts(counts['failures'])} (failures.jsonl)")
    if counts["entity_lists_retried"]:
        lines.append(
            f"  entity lists that needed a retry: {counts['entity_lists_retried']:,} (synthesis.max_entity_retries)"
        )
    if counts["entities_merged"]:
        lines.append(f"  merged spellings: {counts['entities_merged']:,} (graphs.jsonl)")
    if counts["entities_left_out"]:
        lines.append(f"  {counts['entities_left_out']} entities beyond augmenter.max_entities are left out")
    if counts.get("near_duplicates"):
        removed = ", removed" if counts["removed"] else ""
        lines.append(f"  {count_of(counts['near_duplicates'], 'near-duplicate')}{removed} (near_duplicates.jsonl)")
    if counts["documents_with_texts"] < documents:
        lines.append(f"  {documents - counts['documents_with_texts']} of {documents} documents have no text")
    if token_budget is not None and counts["tokens"] < token_budget:
        why = "remain after removal" if counts["removed"] else "exist: the augmenter has no more requests"
        lines.append(f"  {counts['tokens']:,} of {token_budget:,} tokens {why}")
    return lines


def data_losses(counts: Mapping[str, Any], documents: int) -> list[DataLoss]:
    """Returns what the stage omits: documents without texts, texts that failed, removed near-duplicates, dropped
    entities, and the part of the token budget for which the augmenter has no requests.
    """
    failures, texts = sum(counts["failures"].values()), counts["texts"] + counts["removed"]
    missing = counts.get("tokens_missing", 0)
    return [
        DataLoss("documents have no synthetic text", documents - counts["documents_with_texts"], documents),
        DataLoss("texts were not written", failures, texts + failures),
        DataLoss("near-duplicate texts are removed", counts["removed"], texts),
        DataLoss(
            "entities are beyond augmenter.max_entities",
            counts["entities_left_out"],
            counts["entities"] + counts["entities_left_out"],
        ),
        DataLoss(f"{TOKENS_MISSING}, because the augmenter has no more requests", missing, counts["tokens"] + missing),
    ]


def render_mixture(tokens: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,} ({count / sum(tokens.values()):.1%})" for name, count in tokens.items())


def render_counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
