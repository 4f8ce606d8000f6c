"""Estimates what LLMs and other paid endpoints will cost, before the first request."""

from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import dataclass
from statistics import mean
from typing import Any

from entigraph.llm.response_cache import ResponseCache, response_cache_path
from entigraph.pipeline import steps
from entigraph.pipeline.run import Run
from entigraph.retrieval.base import build_query
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document
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
VERDICT, REFERENCE = 60, 300  # tokens of an answer
CLAIM_TOKENS_RATIO = 1.2  # tokens of a list of claims, or of its verdicts, per token of the text


def synthesis_cost_lines(run: Run, max_documents: int = MAX_DOCUMENTS_LISTED) -> list[str]:
    """Returns the cost of each augmenter; empty if the writer is the offline one or the texts are complete."""
    if not run.augmenter.needs_writer or run.llm.name == "offline" or run.artifacts.synthesis.complete:
        return []
    from entigraph.llm.caching import CachedAnswers
    from entigraph.tokenization.tokenizer import Tokenizer

    file = response_cache_path(run.root)
    documents = list(run.corpus.read().documents)
    count_tokens = Tokenizer(run.artifacts.tokenizer.folder).count if run.artifacts.tokenizer.complete else None
    lines = []
    with closing(ResponseCache(file)) if file.exists() else nullcontext() as cache:
        cached = CachedAnswers(cache, run.llm.body)
        for augmenter, budget in run.augmenter.divide(run.synthesis.token_budget):
            low, high = (
                estimate(augmenter, documents, budget, run.llm.expected_tokens, entities, cached, count_tokens)
                for entities in (FEW_ENTITIES, MANY_ENTITIES)
            )
            lines.append(f"synthesis with {augmenter.name} and {run.llm.model}:")
            lines += [*document_lines(run, low, high, max_documents), *total_lines(run, low, high)]
    return lines


def document_lines(run: Run, low: SynthesisEstimate, high: SynthesisEstimate, max_documents: int) -> Iterator[str]:
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
            f"{span(dollars(run, least, True), dollars(run, most, False), 2):>17}"
        )
    if len(pairs) > max_documents:
        yield f"  and {len(pairs) - max_documents:,} more documents"


def total_lines(run: Run, low: SynthesisEstimate, high: SynthesisEstimate) -> Iterator[str]:
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
    limit = run.llm.max_cost_usd
    stop = f"stopped at llm.max_cost_usd = {limit}" if limit is not None else "no limit (llm.max_cost_usd=null)"
    if run.llm.price.free:
        yield "  $0.00: a local server or model"
    else:
        cheapest, dearest = dollars(run, least, True), dollars(run, most, False)
        yield f"  ${cheapest:,.2f} (prompt prefixes cached) to ${dearest:,.2f} (nothing cached); {stop}"
    yield f"  time: {render_duration(run.llm, (least, most), low.seconds_per_request)}"
    if low.unknown_graphs:
        yield (
            f"  entity lists not known yet: {low.unknown_graphs:,}; assuming {FEW_ENTITIES} to {MANY_ENTITIES} "
            f"entities per list, and {low.tokens_per_request:,.0f} tokens per answer"
        )


def sum_documents(estimate: SynthesisEstimate) -> DocumentEstimate:
    names = ("requests", "free", "prompt_tokens", "cached_tokens", "completion_tokens")
    return DocumentEstimate("all", **{name: estimate.total(name) for name in names})  # type: ignore[arg-type]


def dollars(run: Run, tokens: DocumentEstimate, prefix_cached: bool) -> float:
    cached_tokens = tokens.cached_tokens if prefix_cached else 0.0
    return float(run.llm.price.dollars(tokens.prompt_tokens, cached_tokens, tokens.completion_tokens))


def render_duration(
    llm: Any, estimates: tuple[DocumentEstimate, DocumentEstimate], seconds_per_request: float | None
) -> str:
    """Returns the range of the longest time that any limit of the writer alone would take."""
    if estimates[1].requests == 0:
        return "none"
    if getattr(llm, "poll_s", None):
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
    return f"{span(minutes[0], minutes[1], 1)} minutes at the stated limits ({latency}{llm.concurrency} at a time)"


def shorten(name: str, width: int) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"


def question_cost_lines(run: Run) -> list[str]:
    """Returns a rough cost of drafting and verifying questions; cached answers are not deducted."""
    artifact = run.artifacts.questions
    if artifact is None or artifact.complete or not run.questions.needs_writer or run.llm.name == "offline":
        return []
    from entigraph.questions.drafting import TOKENS_PER_QUESTION, drafting_requests

    requests = [pair for document in run.corpus.read().documents for pair in drafting_requests(document, run.questions)]
    questions = run.questions.per_document * len({passage.document.id for passage, _ in requests})
    characters = sum(len(request.system + request.user) for _, request in requests)
    prompts = characters / CHARACTERS_PER_TOKEN / len(requests) * (len(requests) + questions)
    cost = run.llm.price.dollars(prompts, 0.0, questions * TOKENS_PER_QUESTION)
    return [
        f"questions with {run.llm.model}: {len(requests):,} requests for {questions:,} questions and one check of each,"
        f" about {prompts:,.0f} prompt tokens, ${cost:,.2f}; stopped at llm.max_cost_usd = {run.llm.max_cost_usd}"
    ]


def retrieval_cost_lines(run: Run) -> Iterator[str]:
    """Yields the maximum cost of embedding and reranking at paid endpoints; cached results are not deducted."""
    if not run.retriever.paid:
        return
    pending = {ranking.folder: name for name, ranking in run.artifacts.rankings.items() if not ranking.complete}
    for name in pending.values():
        inputs, task = steps.task_inputs(run, name), run.tasks[name]
        if not inputs.questions.exists():
            yield f"retrieval for {name}: its cost is unknown until the questions exist (run stage=corpus)"
            continue
        questions = task.load_questions(inputs)
        queries = [build_query(question, run.retriever.with_choices) for question in questions]
        characters = sum(len(document.text) for document in read_jsonl(inputs.documents, Document))
        tokens, searches, cost = run.retriever.estimate_cost(characters + sum(map(len, queries)), len(questions))
        yield (
            f"retrieval for {name}: about {tokens:,.0f} tokens to embed and {searches:,} searches to rerank, "
            f"${cost:,.2f}; stopped at retriever.max_cost_usd = {run.retriever.max_cost_usd}"
        )


def baseline_cost_lines(run: Run) -> list[str]:
    """Returns the cost of evaluating baselines at endpoints: from short answers to the longest that are allowed."""
    lines = []
    for name, answers in run.artifacts.reference_evaluations.items():
        baseline = run.baselines[name]
        if answers.complete or not hasattr(baseline, "price"):
            continue
        for task_name, task in run.tasks.items():
            inputs = steps.task_inputs(run, task_name)
            if not (inputs.questions if task.uses_questions else inputs.documents).exists():
                lines.append(f"baselines.{name}: its cost is unknown until the questions exist (run stage=corpus)")
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
                f"{prompts:,.0f} prompt tokens, ${span(costs[0], costs[1], 2)}; "
                f"stopped at max_cost_usd = {baseline.max_cost_usd}"
            )
    return lines


@dataclass
class JudgeUsage:
    """Requests and tokens of one judge. Token counts range from the shortest to the longest allowed answers."""

    requests: float = 0.0
    prompt_tokens: tuple[float, float] = (0.0, 0.0)
    completion_tokens: tuple[float, float] = (0.0, 0.0)

    def add(self, requests: float, prompt: tuple[float, float], completion: tuple[float, float]) -> None:
        """Adds requests; `prompt` and `completion` are the tokens of one request."""
        self.requests += requests
        low, high = self.prompt_tokens
        self.prompt_tokens = (low + requests * prompt[0], high + requests * prompt[1])
        low, high = self.completion_tokens
        self.completion_tokens = (low + requests * completion[0], high + requests * completion[1])


def judging_cost_lines(run: Run) -> list[str]:
    """Returns the cost of the judges of the selected analysis; cached answers are not deducted."""
    if not hasattr(run.analysis, "judges"):
        return []
    from entigraph.analysis.factuality.factuality import Factuality
    from entigraph.analysis.summaries.summary_claims import SummaryClaims

    analysis = run.analysis
    if isinstance(analysis, Factuality):
        usage = estimate_factuality_usage(run, analysis.sentences)
        return list(judge_lines(analysis.judges, dict.fromkeys(analysis.judges, usage), "the texts of each augmenter"))
    if isinstance(analysis, SummaryClaims):
        writer = {"writer": analysis.reference_writer} if analysis.reference_writer else {}
        usage_by_judge = estimate_summary_usage(run, analysis.compared)
        return list(judge_lines({**analysis.judges, **writer}, usage_by_judge, "the texts of this configuration"))
    return []


def judge_lines(judges: Mapping[str, Any], usage_by_judge: Mapping[str, JudgeUsage], texts: str) -> Iterator[str]:
    for key, judge in judges.items():
        usage = usage_by_judge[key]
        if hasattr(judge, "price") and usage.requests:
            ends = zip(usage.prompt_tokens, usage.completion_tokens, strict=True)
            costs = [judge.price.dollars(prompt, 0.0, completion) for prompt, completion in ends]
            yield (
                f"analysis.{key} with {judge.model}: {usage.requests:,.0f} requests for {texts}, "
                f"{span(*usage.prompt_tokens)} prompt tokens, ${span(costs[0], costs[1], 2)}; "
                f"stopped at max_cost_usd = {judge.max_cost_usd}"
            )


def document_lengths(run: Run) -> list[float]:
    """Returns the length of each document in tokens."""
    return [len(document.text) / CHARACTERS_PER_TOKEN for document in run.corpus.read().documents]


def prompt_length(*names: str) -> float:
    """Returns the total length of judge prompts in tokens."""
    from entigraph.analysis.factuality.judges import load_prompt

    return sum(len(load_prompt(name)) for name in names) / CHARACTERS_PER_TOKEN


def estimate_factuality_usage(run: Run, sentences: int) -> JudgeUsage:
    from entigraph.analysis.factuality.sentences import CONTEXT_CHARACTERS

    usage = JudgeUsage()
    shortest = mean(document_lengths(run)) + prompt_length("judge_system", "judge")
    longest = shortest + CONTEXT_CHARACTERS / CHARACTERS_PER_TOKEN
    usage.add(sentences, (shortest, longest), (VERDICT, VERDICT))
    return usage


def estimate_summary_usage(run: Run, compared: int) -> dict[str, JudgeUsage]:
    """Returns the usage of the judges for the summaries of the run's model, base model and baselines, and references.

    `compared` is the number of summaries that the second judge reads.
    """
    usage_by_judge = {key: JudgeUsage() for key in ("judge", "second", "writer")}
    documents = document_lengths(run)
    groups = summary_groups(run, len(documents))
    if len(groups) == 1:  # only the references: no task summarizes
        return usage_by_judge
    document = mean(documents)
    splitting, judging = prompt_length("split_system", "split"), prompt_length("judge_system", "judge_claims")
    for count, (low, high) in groups:
        claims = (CLAIM_TOKENS_RATIO * low, CLAIM_TOKENS_RATIO * high)
        judged = (document + judging + claims[0], document + judging + claims[1])
        usage_by_judge["judge"].add(count, (splitting + low, splitting + high), claims)
        usage_by_judge["judge"].add(count, judged, claims)
    usage_by_judge["second"].add(min(compared, sum(count for count, _ in groups)), judged, claims)
    prompt = document + prompt_length("summarize_system", "summarize")
    usage_by_judge["writer"].add(len(documents), (prompt, prompt), (REFERENCE, REFERENCE))
    return usage_by_judge


def summary_groups(run: Run, documents: int) -> list[tuple[int, tuple[int, int]]]:
    """Returns the number of summaries and the range of their tokens, of the references and of each task and prompt."""
    groups = [(documents, (REFERENCE, REFERENCE))]
    models = 1 + bool(run.artifacts.base_model_evaluation) + len(run.baselines)
    for task in run.tasks.values():
        summarized = min(getattr(task, "limit", None) or documents, documents)
        for prompt in getattr(task, "summary_prompts", {}).values():
            tokens = (min(SHORT_ANSWER, prompt.max_tokens), prompt.max_tokens)
            groups.append((models * task.samples * summarized, tokens))
    return groups


def span(low: float, high: float, digits: int = 0) -> str:
    """Renders a range, or one number if both ends round to the same."""
    first, last = f"{min(low, high):,.{digits}f}", f"{max(low, high):,.{digits}f}"
    return first if first == last else f"{first}-{last}"
