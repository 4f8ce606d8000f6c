"""Estimates what LLMs and other paid endpoints will cost, before the first request."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import cast

from entigraph.analysis.factuality.judges import JudgedAnalysis, JudgedConfiguration, JudgeUsage
from entigraph.config.schema import Synthesis
from entigraph.config.validation import collect_problems
from entigraph.corpus.base import CorpusReader
from entigraph.evaluation.tasks.question_task import QuestionTask
from entigraph.llm.caching import CachedAnswers
from entigraph.llm.cost import Price, PricedWriter, render_dollars
from entigraph.llm.response_cache import ResponseCache, response_cache_path
from entigraph.pipeline import steps
from entigraph.pipeline.run import Run
from entigraph.questions.question_sources import GeneratedQuestions
from entigraph.retrieval.base import build_query
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document
from entigraph.synthesis.base import Augmenter
from entigraph.synthesis.request_estimate import (
    FEW_ENTITIES,
    MANY_ENTITIES,
    DocumentEstimate,
    SynthesisEstimate,
    estimate,
)
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN

MAX_DOCUMENTS_LISTED = 20
SHORT_ANSWER = 60  # tokens
UNKNOWN_COST = "its cost is unknown until the questions exist (run stage=corpus)"
TOKENS_PER_QUESTION = 120  # for writing and checking it


def synthesis_cost_lines(run: Run, max_documents: int = MAX_DOCUMENTS_LISTED) -> list[str]:
    """Returns the cost of each augmenter; empty if the writer is the offline one or the texts are complete."""
    llm = run.llm
    if not run.writes_texts or llm.name == "offline":
        return []
    if not isinstance(llm, PricedWriter):
        return [f"synthesis with {run.augmenter.name} and {llm.name}: its cost is unknown"]
    from entigraph.tokenization.tokenizer import Tokenizer

    documents = known_documents(run)
    count_tokens = Tokenizer(run.artifacts.tokenizer.folder).count if run.artifacts.tokenizer.complete else None
    lines = []
    with closing(ResponseCache(response_cache_path(run.root))) as cache:
        cached = CachedAnswers(cache, llm.body)
        parts = run.augmenter.divide(run.synthesis.token_budget)
        for augmenter, budget in parts:
            low, high = estimate_range(augmenter, documents, budget, llm, run.synthesis, cached, count_tokens)
            same_name = sum(part.name == augmenter.name for part, _ in parts) > 1
            kinds = f" ({', '.join(getattr(augmenter, 'kinds', ()))})" if same_name else ""
            lines.append(f"synthesis with {augmenter.name}{kinds} and {llm.model}:")
            lines += [*document_lines(llm.price, low, high, max_documents), *total_lines(llm, low, high)]
            lines += uncovered_lines(high, budget)
    return lines


def known_documents(run: Run) -> Sequence[Document]:
    """Returns the documents of a finished corpus, or else of its source, before duplicates are merged."""
    corpus = run.artifacts.corpus
    return read_known(KnownCorpus(corpus.folder, corpus.complete, run.corpus))


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus whose folder is `complete`, or will be written by the reader. Its name determines its content."""

    folder: Path
    complete: bool
    reader: CorpusReader = field(compare=False)


@lru_cache(maxsize=1)  # the lines of a plan, and the runs of a sweep, are about the same documents
def read_known(corpus: KnownCorpus) -> Sequence[Document]:
    if corpus.complete:
        return tuple(read_jsonl(corpus.folder / "documents.jsonl", Document))
    return tuple(corpus.reader.read().documents)


def missing_key_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Yields why the writer of unfinished texts or questions cannot be paid, such as a missing API key."""
    problems = [
        problem
        for run in runs
        if isinstance(run.llm, PricedWriter) and not run.llm.price.free and (run.writes_texts or run.writes_questions)
        for problem in collect_problems(run.llm.check)
    ]
    yield from (f"note: {problem}" for problem in dict.fromkeys(problems))


def estimate_range(
    augmenter: Augmenter,
    documents: Sequence[Document],
    token_budget: int | None,
    llm: PricedWriter,
    rules: Synthesis,
    cached: CachedAnswers,
    count_tokens: Callable[[str], int] | None,
) -> tuple[SynthesisEstimate, SynthesisEstimate]:
    """Returns the estimates for few and for many entities per document; one estimate if no entities are unknown."""

    def estimate_with(entities: int) -> SynthesisEstimate:
        tokens = llm.expected_tokens
        return estimate(augmenter, documents, token_budget, tokens, entities, cached, count_tokens, rules)

    low = estimate_with(FEW_ENTITIES)
    return low, estimate_with(MANY_ENTITIES) if low.unknown_graphs else low


def uncovered_lines(estimate: SynthesisEstimate, token_budget: int | None) -> list[str]:
    """Returns a line if the token budget is expected to end before every document has a text."""
    without_text = sum(not document.tasks for document in estimate.documents)
    if token_budget is None or not without_text:
        return []
    return [
        f"  {without_text:,} of {len(estimate.documents):,} documents or parts get no text within {token_budget:,} "
        f"tokens, at about {estimate.budget_tokens_per_request:,.0f} per answer; raise synthesis.token_budget"
    ]


def document_lines(price: Price, low: SynthesisEstimate, high: SynthesisEstimate, max_documents: int) -> Iterator[str]:
    """Yields a table of the most expensive documents, with the range of each number."""
    if not max_documents:
        return
    pairs = sorted(zip(low.documents, high.documents, strict=True), key=lambda pair: -pair[1].prompt_tokens)
    yield (
        f"  {'document':<32} {'entities':>9} {'requests':>15} {'cached':>9} "
        f"{'prompt tokens':>23} {'completion tokens':>21} {'dollars':>17}"
    )
    for least, most in pairs[:max_documents]:
        entities = f"{least.entities}" if least.entities is not None else "unknown"
        yield (
            f"  {shorten(least.document, 32):<32} {entities:>9} {span(least.requests, most.requests):>15} "
            f"{span(least.free, most.free):>9} {span(least.prompt_tokens, most.prompt_tokens):>23} "
            f"{span(least.completion_tokens, most.completion_tokens):>21} "
            f"{dollar_span(dollars(price, least, True), dollars(price, most, False)):>17}"
        )
    if len(pairs) > max_documents:
        yield f"  and {len(pairs) - max_documents:,} more documents"


def total_lines(llm: PricedWriter, low: SynthesisEstimate, high: SynthesisEstimate) -> Iterator[str]:
    least, most = sum_documents(low), sum_documents(high)
    yield (
        f"  total: {span(least.requests, most.requests)} requests to send, "
        f"{span(least.free, most.free)} answers from the response cache"
    )
    yield (
        f"  {span(least.prompt_tokens, most.prompt_tokens)} prompt tokens, of which up to "
        f"{least.cached_tokens:,.0f} read from a prefix cache; "
        f"{span(least.completion_tokens, most.completion_tokens)} completion tokens"
    )
    if llm.price.free:
        yield "  $0.00: a local server or model"
    else:
        cheapest, dearest = dollars(llm.price, least, True), dollars(llm.price, most, False)
        yield f"  {dollar_span(cheapest, dearest)}{describe_limit(llm.max_cost_usd, min(cheapest, dearest))}"
    yield f"  time: {render_duration(llm, (least, most), low.seconds_per_request)}"
    if low.unknown_graphs:
        yield (
            f"  entity lists not known yet: {low.unknown_graphs:,}; assuming {FEW_ENTITIES} to {MANY_ENTITIES} "
            f"entities per list, and {low.tokens_per_request:,.0f} tokens per answer"
        )
    if low.assumed_length:
        yield (
            f"  no answer is known yet: assuming {low.tokens_per_request:,.0f} tokens for each, whatever its kind; "
            "entigraph preview measures them"
        )


def describe_limit(limit: float | None, cost: float) -> str:
    if limit is None:
        return "; no limit (llm.max_cost_usd=null)"
    if cost > limit:
        return f", more than llm.max_cost_usd = {limit}: the run will stop there"
    return f"; stopped at llm.max_cost_usd = {limit}"


def sum_documents(estimate: SynthesisEstimate) -> DocumentEstimate:
    names = ("requests", "free", "prompt_tokens", "cached_tokens", "completion_tokens")
    return DocumentEstimate("all", **{name: estimate.total(name) for name in names})  # type: ignore[arg-type]


def dollars(price: Price, tokens: DocumentEstimate, prefix_cached: bool) -> float:
    cached_tokens = tokens.cached_tokens if prefix_cached else 0.0
    return float(price.dollars(tokens.prompt_tokens, cached_tokens, tokens.completion_tokens))


def render_duration(
    llm: PricedWriter, estimates: tuple[DocumentEstimate, DocumentEstimate], seconds_per_request: float | None
) -> str:
    """Returns the range of the longest time that any limit of the writer alone would take."""
    if estimates[1].requests == 0:
        return "none"
    if getattr(llm, "poll_interval_s", None):
        return "up to 24 hours for each round of batches"
    minutes = []
    for end in estimates:
        tokens = end.prompt_tokens + end.completion_tokens
        limits = [end.requests / llm.requests_per_minute] if llm.requests_per_minute else []
        limits += [tokens / llm.tokens_per_minute] if llm.tokens_per_minute else []
        limits += [end.requests * seconds_per_request / llm.concurrency / 60] if seconds_per_request else []
        minutes.append(max(limits, default=0.0))
    if not minutes[1]:
        return "unknown before the first answers (llm.requests_per_minute and llm.tokens_per_minute are not set)"
    latency = f"{seconds_per_request:.1f} s per answer so far, " if seconds_per_request else ""
    short = max(minutes) < 1
    time = f"{span(60 * minutes[0], 60 * minutes[1])} s" if short else f"{span(minutes[0], minutes[1], 1)} minutes"
    return f"{time} at the stated limits ({latency}{llm.concurrency} at a time)"


def shorten(name: str, width: int) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"


def question_cost_lines(run: Run) -> list[str]:
    """Returns a rough cost of drafting and verifying questions; cached answers are not deducted."""
    artifact, source, llm = run.artifacts.questions, run.questions, run.llm
    if artifact is None or artifact.complete or not isinstance(source, GeneratedQuestions) or llm.name == "offline":
        return []
    if not isinstance(llm, PricedWriter):
        return [f"questions with {llm.name}: their cost is unknown"]
    from entigraph.questions.stage import estimate_requests

    requests, questions, characters = estimate_requests(known_documents(run), source)
    prompts = characters / CHARACTERS_PER_TOKEN
    cost = llm.price.dollars(prompts, 0.0, questions * TOKENS_PER_QUESTION)
    checks, most = ("three checks", "up to ") if source.across_documents else ("one check", "")
    return [
        f"questions with {llm.model}: {most}{requests:,} requests for {questions:,} questions and {checks} of each,"
        f" about {prompts:,.0f} prompt tokens, {render_dollars(cost)}; stopped at llm.max_cost_usd = {llm.max_cost_usd}"
    ]


def quality_gate_lines(run: Run) -> Iterator[str]:
    """Yields the largest cost of the sentences that the writer judges; cached answers are not deducted."""
    llm = run.llm
    if not run.judges_texts or not isinstance(llm, PricedWriter):
        return
    from entigraph.analysis.factuality.factuality import judge_usage

    tokens = [len(document.text) / CHARACTERS_PER_TOKEN for document in known_documents(run)]
    usage = judge_usage(tokens, run.quality_gate.judged_sentences)
    prompt, completion = usage.prompt_tokens[1], usage.completion_tokens[1]
    yield (
        f"quality_gate with {llm.model}: {usage.requests:,.0f} requests for sentences of {run.augmenter.name}, "
        f"up to {prompt:,.0f} prompt tokens, {render_dollars(llm.price.dollars(prompt, 0.0, completion))}; "
        f"stopped at llm.max_cost_usd = {llm.max_cost_usd}"
    )


def retrieval_cost_lines(run: Run) -> Iterator[str]:
    """Yields the maximum cost of embedding and reranking at paid endpoints; cached results are not deducted."""
    if not run.retriever.paid:
        return
    limit = getattr(run.retriever, "max_cost_usd", None)
    pending = {ranking.folder: name for name, ranking in run.artifacts.rankings.items() if not ranking.complete}
    for name in pending.values():
        inputs, task = steps.task_inputs(run, name), cast(QuestionTask, run.tasks[name])
        if not inputs.questions.exists():
            yield f"retrieval for {name}: {UNKNOWN_COST}"
            continue
        questions = task.load_questions(inputs)
        queries = [build_query(question, run.retriever.with_choices) for question in questions]
        characters = sum(len(document.text) for document in read_jsonl(inputs.documents, Document))
        tokens, searches, cost = run.retriever.estimate_cost(characters + sum(map(len, queries)), len(questions))
        yield (
            f"retrieval for {name}: about {tokens:,.0f} tokens to embed and {searches:,} searches to rerank, "
            f"{render_dollars(cost)}; stopped at retriever.max_cost_usd = {limit}"
        )


def baseline_cost_lines(run: Run) -> list[str]:
    """Returns the cost of evaluating baselines at endpoints: from short answers to the longest that are allowed."""
    lines = []
    for name, answers in run.artifacts.reference_evaluations.items():
        baseline = run.baselines[name]
        if answers.complete or not isinstance(baseline, PricedWriter):
            continue
        for task_name, task in run.tasks.items():
            inputs = steps.task_inputs(run, task_name)
            if not (inputs.questions if task.uses_questions else inputs.documents).exists():
                lines.append(f"baselines.{name}: {UNKNOWN_COST}")
                continue
            usage = task.estimate_usage(inputs)
            if usage is None:
                lines.append(f"baselines.{name}, {task_name}: its cost is unknown")
                continue
            prompts, longest = usage.prompt_characters / CHARACTERS_PER_TOKEN, usage.max_completion_tokens
            shortest = min(usage.samples * SHORT_ANSWER, longest)
            costs = [baseline.price.dollars(prompts, 0.0, completion) for completion in (shortest, longest)]
            lines.append(
                f"baselines.{name}, {task_name}: {usage.samples:,} samples of {usage.items}, "
                f"{prompts:,.0f} prompt tokens, {dollar_span(*costs)}; "
                f"stopped at max_cost_usd = {baseline.max_cost_usd}"
            )
    return lines


def answer_judge_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Yields the largest cost of the judges of free-form answers, over all models that are still to be evaluated."""
    run = runs[0]
    evaluations = {
        evaluation.folder
        for job in runs
        for evaluation in (
            job.artifacts.evaluation,
            job.artifacts.base_model_evaluation,
            *job.artifacts.reference_evaluations.values(),
        )
        if evaluation and not evaluation.complete
    }
    for name, task in run.tasks.items():
        judge = getattr(task, "judge", None)
        if not evaluations or not isinstance(judge, PricedWriter):
            continue
        inputs = steps.task_inputs(run, name)
        usage = task.estimate_judge_usage(inputs) if inputs.questions.exists() else None
        if usage is None:
            yield f"evaluation.{name}.judge: {UNKNOWN_COST}"
            continue
        prompts = usage.prompt_characters / CHARACTERS_PER_TOKEN
        cost = judge.price.dollars(prompts, 0.0, usage.max_completion_tokens)
        yield (
            f"evaluation.{name}.judge with {judge.model}: up to {usage.samples:,} {usage.items} of each of "
            f"{len(evaluations):,} models, {render_dollars(len(evaluations) * cost)}; "
            f"stopped at max_cost_usd = {judge.max_cost_usd}"
        )


def judging_cost_lines(run: Run) -> list[str]:
    """Returns the cost of the judges of the selected analysis; cached answers are not deducted."""
    if not isinstance(run.analysis, JudgedAnalysis):
        return []
    configuration = JudgedConfiguration(
        document_tokens=[len(document.text) / CHARACTERS_PER_TOKEN for document in known_documents(run)],
        tasks=run.tasks,
        models=1 + bool(run.artifacts.base_model_evaluation) + len(run.baselines),
    )
    return list(judge_lines(run.analysis, run.analysis.estimate_usage(configuration)))


def judge_lines(analysis: JudgedAnalysis, usage_by_writer: Mapping[str, JudgeUsage]) -> Iterator[str]:
    for key, usage in usage_by_writer.items():
        writer = analysis.writer_at(key)
        if isinstance(writer, PricedWriter) and usage.requests:
            ends = zip(usage.prompt_tokens, usage.completion_tokens, strict=True)
            costs = [writer.price.dollars(prompt, 0.0, completion) for prompt, completion in ends]
            yield (
                f"analysis.{key} with {writer.model}: {usage.requests:,.0f} requests for {analysis.judged_texts}, "
                f"{span(*usage.prompt_tokens)} prompt tokens, {dollar_span(*costs)}; "
                f"stopped at max_cost_usd = {writer.max_cost_usd}"
            )


def dollar_span(low: float, high: float) -> str:
    first, last = render_dollars(min(low, high)), render_dollars(max(low, high))
    return first if first == last else f"{first}-{last.removeprefix('$')}"


def span(low: float, high: float, digits: int = 0) -> str:
    """Renders a range, or one number if both ends round to the same."""
    first, last = f"{min(low, high):,.{digits}f}", f"{max(low, high):,.{digits}f}"
    return first if first == last else f"{first}-{last}"
