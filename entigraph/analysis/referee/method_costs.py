"""What each run of a study cost: synthetic tokens, trained tokens, and dollars at fixed prices.

Dollars are computed from the writer's tokens and the training FLOPs at fixed prices, so that studies with other writers
or machines are comparable. `dollars_paid` is what the writer charged.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from omegaconf import OmegaConf

from entigraph.analysis.study_runs import StudyRun, by_augmenter
from entigraph.config.composition import home
from entigraph.errors import DataError
from entigraph.llm.cost import Price, find_price
from entigraph.storage.artifact import read_manifest

EXA = 1e18
REFERENCE_MODEL = "gpt-4o"  # its prices are those of writers without a list price, such as local ones
SAME_COST = 1.02  # two costs are equal up to this ratio
LOSS_TASK = "statement_loss"  # the evaluation task that measures student losses
TRAINING_FLOPS, ADAPTER_FLOPS, FORWARD_FLOPS = 6, 4, 2  # per parameter and token (Kaplan et al. 2020)


@dataclass(frozen=True)
class CostTable:
    """Prices in dollars: per million writer tokens, and per 10^18 training FLOPs. `model` has these list prices."""

    date: str
    prompt: float
    cached: float
    completion: float
    training: float
    model: str | None = None


def list_price(writers: Sequence[str]) -> tuple[str, Price]:
    """Returns the model whose prices in conf/llm/openai.yaml price the tokens of a study, and these prices.

    It is the study's only writer, or REFERENCE_MODEL if that has no price there or there are several writers.
    """
    prices: Any = OmegaConf.to_object(OmegaConf.load(home() / "conf" / "llm" / "openai.yaml").prices)
    model = writers[0] if len(writers) == 1 and writers[0] in prices else REFERENCE_MODEL
    return model, find_price(model, [], prices)


@dataclass(frozen=True)
class RunCost:
    """The cost of one run: its share of the cost of generating the synthetic corpus, plus its training.

    The FLOPs include the students of earlier rounds, whose losses an adaptive augmenter used; `measuring_flops` is the
    part spent on measuring these losses. `dollars_paid` is None if unknown.
    """

    tokens: float
    trained_tokens: float
    training_flops: float
    measuring_flops: float
    writing_dollars: float
    training_dollars: float
    dollars_paid: float | None

    @property
    def dollars(self) -> float:
        return self.writing_dollars + self.training_dollars


def run_cost(run: StudyRun, table: CostTable) -> RunCost:
    """Returns the cost of one run. Raises DataError if its training does not state its tokens and parameters."""
    training = read_manifest(run.folder("training"))["counts"]
    if "tokens" not in training or "parameters" not in training:
        raise DataError(f"{run.folder('training')}: the manifest does not state tokens and parameters; train again")
    synthesis = run.finished_folder("synthesis")
    students = [*student_flops(synthesis)] if synthesis else []
    measuring = sum(measured for _, measured in students)
    flops = training_flops(training) + measuring + sum(trained for trained, _ in students)
    counts: Mapping[str, Any] = read_manifest(synthesis)["counts"] if synthesis else {}
    fraction = min(1.0, run.synthetic_tokens / counts["tokens"]) if counts.get("tokens") else 0.0
    return RunCost(
        tokens=run.synthetic_tokens,
        trained_tokens=training["tokens"],
        training_flops=flops,
        measuring_flops=measuring,
        writing_dollars=fraction * writing_dollars(counts, table),
        training_dollars=flops / EXA * table.training,
        dollars_paid=fraction * counts["dollars"] if counts.get("dollars") is not None else None,
    )


def training_flops(counts: Mapping[str, Any]) -> float:
    """Returns the FLOPs of a training; those of an adapter compute no gradients of the frozen weights."""
    flops = ADAPTER_FLOPS if "trained_parameters" in counts else TRAINING_FLOPS
    return float(flops * counts["parameters"] * counts["tokens"])


def student_flops(synthesis: Path) -> Iterator[tuple[float, float]]:
    """Yields the FLOPs of training each student of an adaptive augmenter, and of measuring its losses.

    Raises ArtifactError if one was removed, DataError if an evaluation does not state its tokens.
    """
    root, inputs = synthesis.parents[1], read_manifest(synthesis).get("inputs", {})
    if "evaluation" in inputs:
        evaluation = read_manifest(root / "evaluation" / inputs["evaluation"]["folder"])
        training = read_manifest(root / "training" / evaluation["inputs"]["training"]["folder"])
        losses = evaluation["counts"].get(LOSS_TASK, {})
        if "tokens" not in losses:
            name = inputs["evaluation"]["folder"]
            raise DataError(f"{root / 'evaluation' / name}: the manifest does not state tokens; evaluate again")
        measuring = FORWARD_FLOPS * training["counts"]["parameters"] * losses["tokens"]
        yield training_flops(training["counts"]), float(measuring)
        yield from student_flops(root / "synthesis" / inputs["synthesis"]["folder"])


def writing_dollars(counts: Mapping[str, Any], table: CostTable) -> float:
    """Returns the price of all completions of a synthesis at the table's prices."""
    price = Price(table.prompt, table.cached, table.completion)
    return price.dollars(*(counts.get(f"{kind}_tokens", 0) for kind in ("prompt", "cached", "completion")))


def mean_cost(costs: Sequence[RunCost]) -> dict[str, float | None]:
    """Returns the mean over seeds of each field and of `dollars`; None if a value is unknown."""
    values = [{**asdict(cost), "dollars": cost.dollars} for cost in costs]
    return {
        name: None if any(entry[name] is None for entry in values) else mean(entry[name] for entry in values)
        for name in values[0]
    }


def uncounted_methods(runs: Sequence[StudyRun], costs: Mapping[str, RunCost]) -> list[str]:
    """Returns the methods whose texts were written at an unknown cost, if the cost of others is known."""
    if not any(cost.writing_dollars for cost in costs.values()):
        return []
    copied = {run.augmenter for run in runs if run.entry["repeats"]}
    return [
        name
        for name, series in by_augmenter(runs).items()
        if name not in copied and not any(costs[run.name].writing_dollars for run in series)
    ]


def pareto_front(
    points: Sequence[Mapping[str, Any]], uncounted: Container[str] = (), base_accuracy: float = 0.0
) -> list[int]:
    """Returns the indices of the points that no other point dominates: at most as many dollars, and a higher accuracy.

    Costs within SAME_COST are equal. The base model costs nothing; the cost of `uncounted` methods is unknown.
    """
    front = []
    counted = [(index, point) for index, point in enumerate(points) if point.get("method") not in uncounted]
    for index, point in counted:
        dominated = point["accuracy"] <= base_accuracy or any(
            (other["dollars"] < point["dollars"] and other["accuracy"] >= point["accuracy"])
            or (other["dollars"] <= SAME_COST * point["dollars"] and other["accuracy"] > point["accuracy"])
            for _, other in counted
        )
        if not dominated:
            front.append(index)
    return sorted(front, key=lambda index: points[index]["dollars"])
