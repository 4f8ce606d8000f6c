"""Estimates memory, time and disk space of training runs before they start."""

from collections.abc import Iterator, Sequence
from typing import Any

from entigraph.pipeline.run import Run
from entigraph.pipeline.training_rates import measured_rate
from entigraph.storage.artifact import read_manifest
from entigraph.storage.disk import format_bytes
from entigraph.training import memory
from entigraph.training.adapters import adapter_of
from entigraph.training.device_fit import ChosenSettings, TrainingTarget, alternatives, choose_settings, describe
from entigraph.training.memory import GIB, available_memory
from entigraph.training.optim import moment_bytes
from entigraph.training.trainer import TrainerSettings

BYTES_PER_PARAMETER = {"float32": 4, "bfloat16": 2}  # by save_dtype
WEIGHT_BYTES = 4  # per parameter in a checkpoint, in addition to the optimizer's moments


def training_lines(run: Run) -> list[str]:
    """Returns settings, memory and time of one training run; empty if it is complete or the model's size unknown."""
    shape = model_shape(run)
    if shape is None or run.artifacts.training.complete:
        return []
    target, chosen = training_settings(run)
    workload = target.workload(chosen.trainer)
    rate = measured_rate(run, shape.parameters) if target.device.shared else None
    lines = memory.summary_lines(shape, workload, training_tokens(run), target.device, rate)
    if chosen.values:
        lines.append(f"  trainer: {describe(chosen.values)}: {chosen.reason}")
    return [*lines, verdict_line(chosen.trainer, target)]


def training_settings(run: Run) -> tuple[TrainingTarget, ChosenSettings]:
    """Returns what is trained on which device, and the trainer settings that training will use there."""
    device = memory.find_device(run.trainer.accelerator)
    target = TrainingTarget(run.data, model_shape(run), device, adapter_of(run.model), moment_bytes(run.optim))
    return target, choose_settings(run.trainer, target)


def verdict_line(trainer: TrainerSettings, target: TrainingTarget) -> str:
    """Returns whether the settings fit the device, and what would if they do not."""
    room = f"{target.device.name} has room for {available_memory(target.device, trainer.world_size) / GIB:,.1f} GiB"
    if target.fits(trainer):
        return f"  it fits: {room}"
    options = alternatives(trainer, target)
    automatic = [] if trainer.activation_checkpointing == "full" else ["trainer.activation_checkpointing=full"]
    advice = " or ".join(options or automatic) or "a larger device"
    return f"  it will not fit: {target.offload_problem(trainer) or room}. What would: {advice}"


def sweep_training_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Yields tokens, time and disk space of all training runs of a sweep that are not complete, as far as known."""
    pending = [run for run in runs if not run.artifacts.training.complete]
    finished = [read_manifest(run.artifacts.training.folder) for run in runs if run.artifacts.training.complete]
    if not pending:
        return
    tokens = [training_tokens(run) for run in pending]
    hours = [training_hours(run, count, finished) for run, count in zip(pending, tokens, strict=True)]
    yield (
        f"training: {len(pending)} models to train, {sum(filter(None, tokens)):,.0f} tokens in total "
        f"(all epochs, replay included){count_unknown(tokens, 'with an unknown number of tokens')}"
    )
    yield from memory_lines(pending)
    if any(hours):
        device_hours = sum(value * run.trainer.world_size for run, value in zip(pending, hours, strict=True) if value)
        yield (
            f"  time: about {sum(filter(None, hours)):,.2f} h sequentially, {device_hours:,.2f} device-hours"
            f"{count_unknown(hours, 'of unknown duration')}"
        )
    else:
        yield "  time: unknown; the first training measures it"
    parameters = [count_parameters(run, finished) for run in pending]
    known_parameters = [(run, count) for run, count in zip(pending, parameters, strict=True) if count]
    if known_parameters:
        models = sum(count * BYTES_PER_PARAMETER[run.trainer.save_dtype] for run, count in known_parameters)
        checkpoint = max(count * (WEIGHT_BYTES + moment_bytes(run.optim)) for run, count in known_parameters)
        unknown = count_unknown(parameters, "of unknown size")
        yield (
            f"  disk: about {format_bytes(models)} for the trained models{unknown}; "
            f"{format_bytes(checkpoint)} for the checkpoint of each running job (twice that while one is written)"
        )


def memory_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Yields the memory of the run that needs the most, of those that do not fit if any, and how many do not fit."""
    targets = [(*training_settings(run), run) for run in runs if model_shape(run) is not None]
    if not targets:
        return
    target, chosen, run = max(
        targets, key=lambda item: (not item[0].fits(item[1].trainer), item[0].needed(item[1].trainer))
    )
    yield f"  memory: {training_lines(run)[0].removeprefix('training ')}"
    misfits = sum(not target.fits(chosen.trainer) for target, chosen, _ in targets)
    several = f" ({misfits} of {len(targets)} models do not fit)" if misfits else ""
    yield verdict_line(chosen.trainer, target) + several


def count_unknown(values: Sequence[float | None], description: str) -> str:
    unknown = sum(value is None for value in values)
    return f", and {unknown} {description}" if unknown else ""


def model_shape(run: Run) -> Any:
    """Returns None if the model's configuration is not available: it is on the Hub, or not built yet."""
    tokenizer = run.artifacts.tokenizer
    vocabulary = read_manifest(tokenizer.folder)["counts"]["vocabulary"] if tokenizer.complete else 0
    return memory.read_shape(run.model.config_values(vocabulary or getattr(run.tokenizer, "vocab_size", 0)))


def training_tokens(run: Run) -> float | None:
    """Returns the tokens of all epochs; None if the number of synthetic tokens is unknown."""
    token_budget = run.synthesis.token_budget if run.augmenter.needs_writer else None
    tokens = run.tokens.budget or token_budget
    if run.artifacts.tokens.complete:
        tokens = read_manifest(run.artifacts.tokens.folder)["counts"]["synthetic_tokens"]
    return memory.count_tokens_seen(run.data, run.trainer, tokens)


def training_hours(run: Run, tokens: float | None, finished: Sequence[dict[str, Any]]) -> float | None:
    """Uses the rate measured on this CPU, the sweep's finished training runs (their manifests), or else arithmetic.

    Returns None without any of them, where the model is too small for the arithmetic.
    """
    if not tokens:
        return None
    shape = model_shape(run)
    target, chosen = training_settings(run)
    if shape is not None and target.device.shared and (rate := measured_rate(run, shape.parameters)):
        return tokens / rate / 3600
    measured = [manifest for manifest in finished if manifest["seconds"] and manifest["counts"].get("tokens")]
    if measured:
        seconds = sum(manifest["seconds"] for manifest in measured)
        throughput = sum(manifest["counts"]["tokens"] for manifest in measured) / seconds
        return float(tokens / throughput / 3600)
    if shape is None or shape.parameters < memory.MIN_PARAMETERS:
        return None
    if target.device.shared:
        return None  # no datasheet states the speed of a CPU
    workload = target.workload(chosen.trainer)
    return memory.estimate_seconds(shape, workload, tokens, target.device.peak or memory.PEAKS[memory.REFERENCE]) / 3600


def count_parameters(run: Run, finished: Sequence[dict[str, Any]]) -> int | None:
    shape = model_shape(run)
    return shape.parameters if shape else next((manifest["counts"]["parameters"] for manifest in finished), None)
