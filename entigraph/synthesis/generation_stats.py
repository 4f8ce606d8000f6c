"""What a synthesis has seen so far: what it wrote, what it lost and why, and what the answers behind it cost."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from entigraph.errors import DataError, LLMError
from entigraph.llm.base import Usage
from entigraph.storage.jsonl import JsonLinesWriter
from entigraph.storage.schemas import Failure, SyntheticText

UNANSWERED = "finish_reason gave up: "
FEWEST_TO_JUDGE = 100  # requests, before the share that was lost says anything
SECONDS_BETWEEN_RECORDS = 5.0


class Ledger:
    """Every loss is counted and written to `failures` when it happens; `record` hears of the state now and then."""

    def __init__(
        self,
        failures: JsonLinesWriter,
        token_budget: int | None,
        max_lost: float,
        record: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.failures, self.token_budget, self.max_lost, self.record = failures, token_budget, max_lost, record
        self.requests = self.text_requests = self.graphs = self.near_duplicates = self.removed = 0
        self.reasons: Counter[str] = Counter()
        self.prompt_tokens = self.cached_tokens = self.completion_tokens = 0
        self.dollars = 0.0
        self.last_record = time.monotonic()
        self.begin_again()

    def begin_again(self) -> None:
        """Before the texts are counted anew."""
        self.texts = self.tokens = 0
        self.kinds: Counter[str] = Counter()
        self.augmenters: Counter[str] = Counter()  # tokens
        self.documents: set[str] = set()

    def answered(self, usage: Usage, with_texts: bool = False) -> None:
        """What an answer cost when it was asked, by this command or an earlier one."""
        self.requests += 1
        self.text_requests += with_texts
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.completion_tokens += usage.completion_tokens
        self.dollars += usage.dollars

    def wrote(self, text: SyntheticText) -> None:
        self.texts += 1
        self.tokens += text.tokens
        self.kinds[text.kind] += 1
        self.augmenters[text.augmenter] += text.tokens
        self.documents.add(text.document_id)
        now = time.monotonic()
        if now - self.last_record > SECONDS_BETWEEN_RECORDS:
            self.last_record = now
            self.record(self.state)

    def failed(self, failure: Failure) -> None:
        """Raises DataError where too much was lost already."""
        self.failures.write(failure)
        self.reasons[failure.reason] += 1
        lost = sum(count for reason, count in self.reasons.items() if not reason.startswith(UNANSWERED))
        tried = lost + self.graphs + self.texts
        if tried >= FEWEST_TO_JUDGE and lost > self.max_lost * tried:
            raise DataError(
                f"{lost} of {tried} lists and texts asked for were lost ({told(self.reasons)}), more than "
                f"synthesis.max_lost = {self.max_lost:.0%}. Look at failures.jsonl, mend the writer or the prompts, "
                "or raise synthesis.max_lost; what was answered is not asked again"
            )

    @property
    def note(self) -> str:
        """For a progress bar: losses and dollars, where there are any."""
        lost = f"{self.reasons.total()} lost" if self.reasons else ""
        return ", ".join(filter(None, (lost, self.cost)))

    @property
    def cost(self) -> str:
        if not self.dollars:
            return ""
        if not self.token_budget or not self.tokens:
            return f"${self.dollars:,.2f}"
        return f"${self.dollars:,.2f} of about ${self.dollars * max(1, self.token_budget / self.tokens):,.2f}"

    @property
    def state(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "texts": self.texts,
            "tokens": self.tokens,
            "lost": self.reasons.total(),
            "dollars": self.dollars,
            "cached_share": self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0,
        }

    @property
    def counts(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "kinds": dict(self.kinds),
            "tokens_by_augmenter": dict(self.augmenters),
            "documents_with_texts": len(self.documents),
            "requests": self.requests,
            "failures": dict(self.reasons),
            "near_duplicates": self.near_duplicates,
            "removed": self.removed,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.completion_tokens,
            "dollars": round(self.dollars, 4),
        }


def refuse_unanswered(ledger: Ledger) -> None:
    """What got no answer is asked again, not lost. Raises LLMError where there is any."""
    unanswered = {reason: count for reason, count in ledger.reasons.items() if reason.startswith(UNANSWERED)}
    if unanswered:
        raise LLMError(
            f"{sum(unanswered.values())} requests got no answer, the last: "
            f"{[*unanswered][-1].removeprefix(UNANSWERED)}. "
            "Check the writer's server and run the same command: what was answered is not asked again"
        )


def summary(counts: Mapping[str, Any], documents: int, token_budget: int | None) -> list[str]:
    """What a reader should know of the corpus at once."""
    lines = []
    if counts["requests"]:
        cost = f", ${counts['dollars']:,.2f}" if counts["dollars"] else ""
        lines.append(
            f"  {counts['texts']:,} texts of {counts['tokens']:,} tokens, {counts['requests']:,} requests{cost}"
        )
    if len(counts["tokens_by_augmenter"]) > 1:
        lines.append(f"  of them {mixture(counts['tokens_by_augmenter'])}")
    if counts["failures"]:
        lines.append(f"  gave no text: {told(counts['failures'])} (failures.jsonl)")
    if counts["entities_left_out"]:
        lines.append(f"  {counts['entities_left_out']} entities beyond augmenter.max_entities are left out")
    if counts["near_duplicates"]:
        removed = ", and are removed" if counts["removed"] else ""
        lines.append(
            f"  {counts['near_duplicates']} texts say nearly the same as another{removed} (near_duplicates.jsonl)"
        )
    if counts["documents_with_texts"] < documents:
        lines.append(f"  {documents - counts['documents_with_texts']} of {documents} documents have no text")
    if token_budget is not None and counts["tokens"] < token_budget:
        why = "are left" if counts["removed"] else "exist: the augmenter had no more to ask"
        lines.append(f"  {counts['tokens']:,} of {token_budget:,} tokens {why}")
    return lines


def mixture(tokens: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,} ({count / sum(tokens.values()):.1%})" for name, count in tokens.items())


def told(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
