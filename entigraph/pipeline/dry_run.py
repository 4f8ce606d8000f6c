"""What is to be done and what it will take, in words; touches nothing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

from entigraph.config.schema import Stage
from entigraph.llm.response_cache import ResponseCache, response_cache_path
from entigraph.pipeline import dependencies, execution
from entigraph.pipeline.cost_estimate import (
    cost_of_baselines,
    cost_of_judging,
    cost_of_questions,
    cost_of_retrieval,
    span,
)
from entigraph.pipeline.differences import explain_difference
from entigraph.pipeline.run import Run
from entigraph.pipeline.steps import run_steps
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact
from entigraph.storage.disk import format_bytes

DOCUMENTS_SHOWN = 20
BYTES_SAVED = {"float32": 4, "bfloat16": 2}  # a parameter
BYTES_IN_CHECKPOINT = 12  # a parameter: fp32 weights and Adam's two moments


def render_plan(run: Run) -> Iterator[str]:
    """Yields the state of every artifact, then the costs and the memory known in advance.

    With `why` (entigraph plan --why), each unfinished artifact is compared with the nearest finished one.
    """
    for step in dependencies.all_steps(run):
        yield from render_artifact(step.artifact, explain=run.config.why)
    asked = (*cost_of_questions(run), *cost_of_retrieval(run), *cost_of_baselines(run), *cost_of_judging(run))
    yield from (*cost_of_synthesis(run), *asked, *need_of_training(run))
    if not execution.is_complete(run):
        yield "entigraph run makes what is to do"


def render_sweep(study: str, root: str, runs: Sequence[Run], half_width: float | None) -> Iterator[str]:
    """Yields the state of every artifact of a sweep once, with the number of jobs that share it, then the total cost.

    `half_width` is the target of early stopping, if the sweep has one.
    """
    artifacts: dict[Path, Artifact] = {}
    job_counts: Counter[Path] = Counter()
    trainings: dict[Path, Run] = {}
    for run in runs:
        job_artifacts: dict[Path, Artifact] = {}
        for owner, steps in (*dependencies.needed_steps(run), (run, list(run_steps(run)))):
            job_artifacts |= {step.artifact.folder: step.artifact for step in steps}
            trainings |= {step.artifact.folder: owner for step in steps if step.stage is Stage.training}
        artifacts |= job_artifacts
        job_counts.update(job_artifacts.keys())
    seeds = len({run.seed for run in runs})
    limit = "" if half_width is None else f"up to {seeds} seeds, until ±{half_width:g}: up to "
    yield f"{study}: {limit}{len(runs)} jobs"
    for folder, planned in artifacts.items():
        shared = f"  shared by {job_counts[folder]} jobs" if job_counts[folder] > 1 else ""
        yield from render_artifact(planned, explain=runs[0].config.why, suffix=shared)
    yield from cost_of_asking(runs) or ["dollars: none, no paid model is asked"]
    yield from need_of_trainings(list(trainings.values()))
    states = Counter(artifact_state(planned) for planned in artifacts.values())
    yield f"{len(artifacts)} folders below {root}: " + ", ".join(f"{count} {name}" for name, count in states.items())


def render_artifact(planned: Artifact, *, explain: bool, suffix: str = "") -> Iterator[str]:
    """Yields the line of one artifact and, if `explain`, its differences from the nearest finished one."""
    yield f"  {artifact_state(planned):9} {planned.stage:10} {planned.folder}{suffix}"
    if explain:
        yield from (f"      {line}" for line in explain_difference(planned))


def artifact_state(found: Artifact) -> str:
    if found.complete:
        return "done"
    return "begun" if found.folder.exists() else "to do"


def cost_of_asking(runs: Sequence[Run]) -> list[str]:
    """Of a sweep: each pool of texts, set of questions, set of rankings and set of other models' answers once."""
    pools = {run.artifacts.synthesis.folder: run for run in runs}
    questions = {run.artifacts.questions.folder: run for run in runs if run.artifacts.questions}
    answers = {found.folder: run for run in runs for found in run.artifacts.reference_evaluations.values()}
    lines = [line for run in pools.values() for line in cost_of_synthesis(run, documents_shown=0)]
    lines += [line for run in questions.values() for line in cost_of_questions(run)]
    rankings = {found.folder: run for run in runs for found in run.artifacts.rankings.values()}
    lines += [line for run in dict.fromkeys(rankings.values()) for line in cost_of_retrieval(run)]
    lines += [line for run in dict.fromkeys(answers.values()) for line in cost_of_baselines(run)]
    return lines + cost_of_judging(runs[0])


def cost_of_synthesis(run: Run, documents_shown: int = DOCUMENTS_SHOWN) -> list[str]:
    """Empty where the writer costs nothing to speak of, or its texts are there."""
    if not run.augmenter.needs_writer or run.llm.name == "offline" or run.artifacts.synthesis.complete:
        return []
    from entigraph.llm.caching import CachedAnswers
    from entigraph.synthesis.request_estimate import FEW_ENTITIES, MANY_ENTITIES, estimate
    from entigraph.tokenization.tokenizer import Tokenizer

    file = response_cache_path(run.root)
    budget, documents = run.synthesis.token_budget, list(run.corpus.read().documents)
    count_tokens = Tokenizer(run.artifacts.tokenizer.folder).count if run.artifacts.tokenizer.complete else None
    lines = []
    with closing(ResponseCache(file)) if file.exists() else nullcontext() as cache:
        known = CachedAnswers(cache, run.llm.body)
        for part, own in run.augmenter.divide(budget):
            low, high = (
                estimate(part, documents, own, run.llm.expected_tokens, entities, known, count_tokens)
                for entities in (FEW_ENTITIES, MANY_ENTITIES)
            )
            lines.append(f"synthesis with {part.name} and {run.llm.model}:")
            lines += [*by_document(run, low, high, documents_shown), *in_all(run, low, high)]
    return lines


def by_document(run: Run, low: Any, high: Any, most: int) -> Iterator[str]:
    """The documents that cost most, each with its range."""
    if not most:
        return
    pairs = sorted(zip(low.documents, high.documents, strict=True), key=lambda pair: -pair[1].prompt_tokens)
    yield (
        f"  {'document':<32} {'entities':>9} {'requests':>15} {'free':>9} "
        f"{'prompt tokens':>23} {'written':>21} {'dollars':>17}"
    )
    for less, more in pairs[:most]:
        entities = f"{less.entities}" if less.entities is not None else "unknown"
        yield (
            f"  {shortened(less.document, 32):<32} {entities:>9} {span(less.requests, more.requests):>15} "
            f"{span(less.free, more.free):>9} {span(less.prompt_tokens, more.prompt_tokens):>23} "
            f"{span(less.completion_tokens, more.completion_tokens):>21} "
            f"{span(dollars(run, less, True), dollars(run, more, False), 2):>17}"
        )
    if len(pairs) > most:
        yield f"  and {len(pairs) - most:,} more documents"


def in_all(run: Run, low: Any, high: Any) -> Iterator[str]:
    ends = (total_of(low), total_of(high))
    yield (
        f"  in all {span(ends[0].requests, ends[1].requests)} requests to send, "
        f"{span(ends[0].free, ends[1].free)} answers free from the response cache"
    )
    yield (
        f"  {span(ends[0].prompt_tokens, ends[1].prompt_tokens)} prompt tokens, of which up to "
        f"{ends[0].cached_tokens:,.0f} read from a prefix cache; "
        f"{span(ends[0].completion_tokens, ends[1].completion_tokens)} tokens written"
    )
    costs = (dollars(run, ends[0], True), dollars(run, ends[1], False))
    limit = run.llm.max_cost_usd
    stop = f"stopped at llm.max_cost_usd = {limit}" if limit is not None else "no limit (llm.max_cost_usd=null)"
    if run.llm.price.free:
        yield "  $0.00: a server or a model of one's own"
    else:
        yield f"  ${costs[0]:,.2f} (each document's prefix cached) to ${costs[1]:,.2f} (nothing cached); {stop}"
    yield f"  time: {time_at_limits(run.llm, ends, low.seconds_per_request)}"
    if low.unknown_graphs:
        from entigraph.synthesis.request_estimate import FEW_ENTITIES, MANY_ENTITIES

        yield (
            f"  entity lists not known yet: {low.unknown_graphs:,}; {FEW_ENTITIES} to {MANY_ENTITIES} entities are "
            f"taken for each, and {low.tokens_per_request:,.0f} tokens for an answer"
        )


def total_of(estimate: Any) -> Any:
    from entigraph.synthesis.request_estimate import DocumentEstimate

    names = ("requests", "free", "prompt_tokens", "cached_tokens", "completion_tokens")
    return DocumentEstimate("all", **{name: estimate.total(name) for name in names})


def dollars(run: Run, share: Any, cached: bool) -> float:
    price = run.llm.price
    return float(price.dollars(share.prompt_tokens, share.cached_tokens if cached else 0.0, share.completion_tokens))


def time_at_limits(llm: Any, ends: Sequence[Any], seconds: float | None) -> str:
    """The longest of what each limit alone would take."""
    if ends[1].requests == 0:
        return "none"
    if getattr(llm, "poll_s", None):
        return "up to 24 hours for each round of batches"
    minutes = []
    for end in ends:
        tokens = end.prompt_tokens + end.completion_tokens
        found = [end.requests / llm.requests_per_minute] if llm.requests_per_minute else []
        found += [tokens / llm.tokens_per_minute] if llm.tokens_per_minute else []
        found += [end.requests * seconds / llm.concurrency / 60] if seconds else []
        minutes.append(max(found, default=0.0))
    if not minutes[1]:
        return "unknown until something was answered (no llm.requests_per_minute or llm.tokens_per_minute is set)"
    learned = f"{seconds:.1f} s an answer as so far, " if seconds else ""
    return f"{span(minutes[0], minutes[1], 1)} minutes at the stated limits ({learned}{llm.concurrency} at a time)"


def shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"...{name[3 - width :]}"


def need_of_training(run: Run) -> list[str]:
    """Memory and time by arithmetic; empty where the model is trained, or its shape is not known here."""
    from entigraph.training import memory

    shape = shape_of(run)
    if shape is None or run.artifacts.training.complete:
        return []
    device = memory.find_device(run.trainer.accelerator)
    workload = memory.plan_workload(run.data, run.trainer, device)
    return memory.summary_lines(shape, workload, tokens_to_see(run), device)


def shape_of(run: Run) -> Any:
    """None where the model's configuration is not known here: it is on a hub, or still to be made."""
    from entigraph.training import memory

    made = run.artifacts.tokenizer.complete
    vocabulary = artifact.read_manifest(run.artifacts.tokenizer.folder)["counts"]["vocabulary"] if made else 0
    return memory.read_shape(run.model.config_values(vocabulary or getattr(run.tokenizer, "vocabulary", 0)))


def tokens_to_see(run: Run) -> float | None:
    from entigraph.training import memory

    written = run.synthesis.token_budget if run.augmenter.needs_writer else None
    tokens = run.tokens.budget or written
    if run.artifacts.tokens.complete:
        tokens = artifact.read_manifest(run.artifacts.tokens.folder)["counts"]["synthetic_tokens"]
    return memory.count_tokens_seen(run.data, run.trainer, tokens)


def need_of_trainings(trainings: Sequence[Run]) -> Iterator[str]:
    """The tokens, time and disk of all that is still to be trained; each is told as far as it is known."""
    todo = [run for run in trainings if not run.artifacts.training.complete]
    done = [
        artifact.read_manifest(run.artifacts.training.folder) for run in trainings if run.artifacts.training.complete
    ]
    if not todo:
        return
    tokens = [tokens_to_see(run) for run in todo]
    hours = [hours_of(run, seen, done) for run, seen in zip(todo, tokens, strict=True)]
    yield (
        f"training: {len(todo)} models to make, {sum(filter(None, tokens)):,.0f} tokens to train on "
        f"(every epoch, replay included){besides(tokens, 'whose texts are unknown')}"
    )
    if any(hours):
        devices = sum(found * run.trainer.world_size for run, found in zip(todo, hours, strict=True) if found)
        yield (
            f"  time: about {sum(filter(None, hours)):,.2f} h one after another, {devices:,.2f} device-hours"
            f"{besides(hours, 'of unknown length')}"
        )
    sizes = [(found, BYTES_SAVED[run.trainer.save_dtype]) for run in todo if (found := parameters_of(run, done))]
    if sizes:
        models, checkpoint = sum(found * each for found, each in sizes), max(sizes)[0] * BYTES_IN_CHECKPOINT
        yield (
            f"  disk: about {format_bytes(models)} of models that stay, and {format_bytes(checkpoint)} for a "
            "checkpoint of each that trains, twice while one is written"
        )


def besides(values: Sequence[float | None], what: str) -> str:
    unknown = sum(value is None for value in values)
    return f", and {unknown} {what}" if unknown else ""


def hours_of(run: Run, tokens: float | None, done: Sequence[dict[str, Any]]) -> float | None:
    """At the speed of this sweep's own finished trainings; else by arithmetic, where models are large enough for it."""
    from entigraph.training import memory

    if not tokens:
        return None
    finished = [found for found in done if found["seconds"] and found["counts"].get("tokens")]
    if finished:
        speed = sum(found["counts"]["tokens"] for found in finished) / sum(found["seconds"] for found in finished)
        return float(tokens / speed / 3600)
    shape = shape_of(run)
    if shape is None or shape.parameters < memory.LEAST_PARAMETERS:
        return None
    device = memory.find_device(run.trainer.accelerator)
    workload = memory.plan_workload(run.data, run.trainer, device)
    return memory.estimate_seconds(shape, workload, tokens, device.peak or memory.PEAKS[memory.REFERENCE]) / 3600


def parameters_of(run: Run, done: Sequence[dict[str, Any]]) -> int | None:
    shape = shape_of(run)
    return shape.parameters if shape else next((found["counts"]["parameters"] for found in done), None)
