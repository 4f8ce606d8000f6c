"""Stage 2: documents → graphs.jsonl, texts-*.parquet, failures.jsonl, near_duplicates.jsonl."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import Any

from entigraph.config.schema import NearDuplicates, Synthesis
from entigraph.errors import ConfigError, DataError
from entigraph.llm.base import LLM
from entigraph.runtime.progress import SILENT, Progress
from entigraph.storage.jsonl import JsonLinesWriter, write_jsonl
from entigraph.storage.schemas import SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.synthesis.base import Augmenter
from entigraph.synthesis.generation import CountTokens, TextGenerator
from entigraph.synthesis.generation_stats import GenerationStats, render_counts

BUDGET_TOLERANCE = 0.01  # share of the token budget by which texts may fall short of it without notice


def run(
    corpus: Path,
    out: Path,
    *,
    augmenter: Augmenter,
    llm: LLM | None,
    count_tokens: CountTokens,
    rules: Synthesis,
    progress: Progress = SILENT,
    log: Callable[[Mapping[str, Any]], None] = lambda values: None,
) -> dict[str, Any]:
    """Writes the synthetic texts and returns the counts for the manifest. `llm` is None if `augmenter` needs no writer.

    Raises ConfigError for an endless augmenter without a budget, DataError if there is no text or too many failures.
    """
    if rules.token_budget is None and augmenter.endless:
        raise ConfigError(f"augmenter={augmenter.name} does not end by itself: set synthesis.token_budget")
    with JsonLinesWriter(out / "failures.jsonl") as failures:
        stats = GenerationStats(failures, rules.token_budget, rules.max_failure_rate, log)
        generators = [
            TextGenerator(part, llm, count_tokens, budget, rules, stats)
            for part, budget in augmenter.divide(rules.token_budget)
        ]
        graphs = [graph for generator in generators for graph in generator.prepare(corpus, progress)]
        write_jsonl(out / "graphs.jsonl", graphs)
        stats.raise_if_unanswered()  # parts of a document show each other's summaries: all graphs come before any text
        with closing(generate_texts(generators, stats, rules.token_budget, progress)) as texts:
            write_texts(out, texts)
    stats.raise_if_unanswered()
    if stats.texts:
        stats.check_failure_rate()
    if stats.texts and augmenter.needs_writer and rules.near_duplicates is not NearDuplicates.ignore:
        handle_near_duplicates(out, stats, rules)
    if not stats.texts:
        why = render_counts(stats.reasons) or "it made no request"
        raise DataError(f"{augmenter.name} wrote no text about the documents of {corpus}: {why}")
    budget = rules.token_budget if augmenter.needs_writer and not stats.removed else None
    missing = max(0, budget - stats.tokens) if budget else 0
    return {
        **({"tokens_missing": missing} if budget and missing > BUDGET_TOLERANCE * budget else {}),
        "entities": sum(len(graph.entities) for graph in graphs),
        "entities_left_out": sum(graph.left_out for graph in graphs),
        "entities_merged": sum(map(len, chain(*(graph.merged.values() for graph in graphs)))),
        **stats.counts,
    }


def generate_texts(
    generators: Sequence[TextGenerator], stats: GenerationStats, token_budget: int | None, progress: Progress
) -> Generator[SyntheticText, None, None]:
    """Yields the texts of one augmenter after another, counting them and advancing the progress bar."""
    with progress.bar("texts", token_budget, "tokens") as advance:
        for generator in generators:
            with closing(generator.texts()) as texts:
                for text in texts:
                    stats.add_text(text)
                    advance(text.tokens, stats.note)
                    yield text


def handle_near_duplicates(out: Path, stats: GenerationStats, rules: Synthesis) -> None:
    """Reports near-duplicates, and removes them if `rules` say so."""
    from entigraph.synthesis import near_duplicates

    duplicates = near_duplicates.write_report(out, rules.similarity)
    stats.near_duplicates = len(duplicates)
    if duplicates and rules.near_duplicates is NearDuplicates.remove:
        stats.reset_texts()
        near_duplicates.remove_texts(out, duplicates, stats.add_text)
        stats.removed = len(duplicates)
