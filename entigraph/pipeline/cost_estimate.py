"""What asking LLMs will take beside the synthesis: for questions, of baselines, and as judges. Rough, and in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

from entigraph.llm.base import CHARACTERS_PER_TOKEN
from entigraph.pipeline import steps
from entigraph.pipeline.run import Run
from entigraph.retrieval.base import build_query
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import Document

SHORT_ANSWER = 60  # tokens
VERDICT, REFERENCE = 60, 300  # tokens of an answer
CLAIMS_OF_TEXT = 1.2  # tokens of a list of claims, and of their verdicts, by those of the text


def cost_of_questions(run: Run) -> list[str]:
    """What writing and checking questions will take, roughly; cached answers are not taken off."""
    todo = run.artifacts.questions
    if todo is None or todo.complete or not run.questions.needs_writer or run.llm.name == "offline":
        return []
    from entigraph.questions.drafting import TOKENS_PER_QUESTION, drafting_requests

    asked = [pair for document in run.corpus.read().documents for pair in drafting_requests(document, run.questions)]
    wanted = run.questions.per_document * len({passage.document.id for passage, _ in asked})
    a_passage = sum(len(request.system + request.user) for _, request in asked) / CHARACTERS_PER_TOKEN / len(asked)
    prompts = a_passage * (len(asked) + wanted)
    cost = run.llm.price.dollars(prompts, 0.0, wanted * TOKENS_PER_QUESTION)
    return [
        f"questions with {run.llm.model}: {len(asked):,} requests for {wanted:,} questions and one check of each, "
        f"about {prompts:,.0f} prompt tokens, ${cost:,.2f}; stopped at llm.max_cost_usd = {run.llm.max_cost_usd}"
    ]


def cost_of_retrieval(run: Run) -> Iterator[str]:
    """What embedding and reranking at paid endpoints will take, at most; what is kept already is not taken off."""
    todo = {found.folder: name for name, found in run.artifacts.rankings.items() if not found.complete}
    for name in todo.values() if run.retriever.paid else ():
        source, task = steps.task_inputs(run, name), run.tasks[name]
        if not source.questions.exists():
            yield f"retrieval for {name}: its cost is known once the questions are there (stage=corpus)"
            continue
        questions = task.load_questions(source)
        queries = [build_query(question, run.retriever.with_choices) for question in questions]
        characters = sum(len(document.text) for document in read_jsonl(source.documents, Document))
        tokens, searches, cost = run.retriever.estimate_cost(characters + sum(map(len, queries)), len(questions))
        yield (
            f"retrieval for {name}: about {tokens:,.0f} tokens to embed and {searches:,} searches to rerank, "
            f"${cost:,.2f}; stopped at retriever.max_cost_usd = {run.retriever.max_cost_usd}"
        )


def cost_of_baselines(run: Run) -> list[str]:
    """What asking endpoints will take: from short thoughts to the longest that are allowed."""
    lines = []
    for name, answers in run.artifacts.reference_evaluations.items():
        subject = run.baselines[name]
        if answers.complete or not hasattr(subject, "price"):
            continue
        for task_name, task in run.tasks.items():
            source = steps.task_inputs(run, task_name)
            if not (source.questions if task.uses_questions else source.documents).exists():
                lines.append(f"baselines.{name}: its cost is known once the questions are there (stage=corpus)")
                continue
            load = task.prompt_load(source)
            if load is None:
                lines.append(f"baselines.{name}, {task_name}: its cost is not known")
                continue
            prompts, longest = load.prompt_characters / CHARACTERS_PER_TOKEN, load.max_completion_tokens
            short = min(load.samples * SHORT_ANSWER, longest)
            costs = [subject.price.dollars(prompts, 0.0, written) for written in (short, longest)]
            lines.append(
                f"baselines.{name}, {task_name}: {load.samples:,} samples of {load.items}, "
                f"{prompts:,.0f} prompt tokens, ${span(costs[0], costs[1], 2)}; "
                f"stopped at max_cost_usd = {subject.max_cost_usd}"
            )
    return lines


@dataclass
class Load:
    """Of one judge: tokens from the shortest answers to the longest that are allowed."""

    requests: float = 0.0
    prompt: tuple[float, float] = (0.0, 0.0)
    written: tuple[float, float] = (0.0, 0.0)

    def add(self, requests: float, prompt: tuple[float, float], written: tuple[float, float]) -> None:
        """So many requests, with the tokens of each."""
        self.requests += requests
        self.prompt = (self.prompt[0] + requests * prompt[0], self.prompt[1] + requests * prompt[1])
        self.written = (self.written[0] + requests * written[0], self.written[1] + requests * written[1])


def cost_of_judging(run: Run) -> list[str]:
    """What the judges of the chosen analysis will take; what the response cache holds already is not taken off."""
    from entigraph.analysis.factuality.factuality import Factuality
    from entigraph.analysis.summaries.summary_claims import SummaryClaims

    settings = run.analysis
    if isinstance(settings, Factuality):
        return list(
            judge_cost_lines(
                settings.judges, {key: factuality_load(run) for key in settings.judges}, "each augmenter's"
            )
        )
    if isinstance(settings, SummaryClaims):
        writer = {"writer": settings.reference_writer} if settings.reference_writer else {}
        return list(judge_cost_lines({**settings.judges, **writer}, summaries_load(run), "this configuration's"))
    return []


def judge_cost_lines(judges: Any, loads: dict[str, Load], owner: str) -> Iterator[str]:
    for key, judge in judges.items():
        load = loads[key]
        if hasattr(judge, "price") and load.requests:
            costs = [judge.price.dollars(load.prompt[end], 0.0, load.written[end]) for end in (0, 1)]
            yield (
                f"analysis.{key} with {judge.model}: {load.requests:,.0f} requests for {owner} texts, "
                f"{span(*load.prompt)} prompt tokens, ${span(costs[0], costs[1], 2)}; "
                f"stopped at max_cost_usd = {judge.max_cost_usd}"
            )


def document_tokens(run: Run) -> list[float]:
    return [len(document.text) / CHARACTERS_PER_TOKEN for document in run.corpus.read().documents]


def prompt_tokens(*names: str) -> float:
    from entigraph.analysis.factuality.judges import load_prompt

    return sum(len(load_prompt(name)) for name in names) / CHARACTERS_PER_TOKEN


def factuality_load(run: Run) -> Load:
    from entigraph.analysis.factuality.sentences import CONTEXT_CHARACTERS

    load = Load()
    each = mean(document_tokens(run)) + prompt_tokens("judge_system", "judge")
    longest = each + CONTEXT_CHARACTERS / CHARACTERS_PER_TOKEN
    load.add(run.analysis.sentences, (each, longest), (VERDICT, VERDICT))
    return load


def summaries_load(run: Run) -> dict[str, Load]:
    """Of this run's model, its base and its baselines, and of the references."""
    loads = {key: Load() for key in ("judge", "second", "writer")}
    tokens = document_tokens(run)
    subjects = 1 + bool(run.artifacts.base_model_evaluation) + len(run.baselines)
    lengths = [(len(tokens), (REFERENCE, REFERENCE))]  # how many summaries of how many tokens
    for task in run.tasks.values():
        documents = min(getattr(task, "limit", None) or len(tokens), len(tokens))
        for asking in getattr(task, "summary_prompts", {}).values():
            ends = (min(SHORT_ANSWER, asking.max_tokens), asking.max_tokens)
            lengths.append((subjects * task.samples * documents, ends))
    if len(lengths) == 1:
        return loads
    split, judging = prompt_tokens("split_system", "split"), prompt_tokens("judge_system", "judge_claims")
    document = mean(tokens)
    for count, ends in lengths:
        claims = (CLAIMS_OF_TEXT * ends[0], CLAIMS_OF_TEXT * ends[1])
        judged = (document + judging + claims[0], document + judging + claims[1])
        loads["judge"].add(count, (split + ends[0], split + ends[1]), claims)
        loads["judge"].add(count, judged, claims)
    summaries = sum(count for count, _ in lengths)
    loads["second"].add(min(run.analysis.compared, summaries), judged, claims)
    asked = document + prompt_tokens("summarize_system", "summarize")
    loads["writer"].add(len(tokens), (asked, asked), (REFERENCE, REFERENCE))
    return loads


def span(low: float, high: float, digits: int = 0) -> str:
    one, other = f"{min(low, high):,.{digits}f}", f"{max(low, high):,.{digits}f}"
    return one if one == other else f"{one}-{other}"
