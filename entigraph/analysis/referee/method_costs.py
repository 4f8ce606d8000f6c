"""What each run of a study cost: synthetic tokens, trained tokens, and dollars by one price table.

Dollars are the writer's tokens and the training's floating-point operations at stated prices, so that studies with
other writers or machines are comparable. `dollars_paid` is what the writer charged.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from entigraph.analysis.study_runs import StudyRun
from entigraph.errors import DataError
from entigraph.llm.cost import Price
from entigraph.storage.artifact import read_manifest

EXA = 1e18
LOSS_TASK = "statement_loss"  # which measures the losses of students
TRAINING_FLOPS, FORWARD_FLOPS = 6, 2  # per parameter and token (Kaplan et al. 2020)


@dataclass(frozen=True)
class CostTable:
    """Dollars per million tokens of the writer, and per 10^18 floating-point operations of training."""

    date: str
    prompt: float
    cached: float
    completion: float
    training: float


@dataclass(frozen=True)
class RunCost:
    """The cost of one run: its share of the writing of its pool of texts, and its training.

    The FLOPs include the students of earlier rounds, whose losses determined what an adaptive augmenter wrote;
    `measuring_flops`, a part of them, are those of measuring these losses.
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
    """Raises DataError if the training does not state its tokens and parameters."""
    training = read_manifest(run.folder("training"))["counts"]
    if "tokens" not in training or "parameters" not in training:
        raise DataError(f"{run.folder('training')}: the manifest does not state tokens and parameters; train again")
    synthesis = run.finished_folder("synthesis")
    students = [*find_students(synthesis)] if synthesis else []
    measuring = sum(student.measuring_flops for student in students)
    flops = training_flops(training) + measuring + sum(training_flops(student.training) for student in students)
    counts: Mapping[str, Any] = read_manifest(synthesis)["counts"] if synthesis else {}
    share = min(1.0, run.synthetic_tokens / counts["tokens"]) if counts.get("tokens") else 0.0
    return RunCost(
        tokens=run.synthetic_tokens,
        trained_tokens=training["tokens"],
        training_flops=flops,
        measuring_flops=measuring,
        writing_dollars=share * writing_dollars(counts, table),
        training_dollars=flops / EXA * table.training,
        dollars_paid=share * counts["dollars"] if counts.get("dollars") is not None else None,
    )


def training_flops(counts: Mapping[str, Any]) -> float:
    return float(TRAINING_FLOPS * counts["parameters"] * counts["tokens"])


@dataclass(frozen=True)
class Student:
    """The counts of a student's training, and of the task that measured its losses."""

    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    @property
    def measuring_flops(self) -> float:
        return float(FORWARD_FLOPS * self.training["parameters"] * self.evaluation["tokens"])


def find_students(synthesis: Path) -> Iterator[Student]:
    """Yields the students whose losses determined what to write, in the rounds of an adaptive augmenter.

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
        yield Student(training["counts"], losses)
        yield from find_students(root / "synthesis" / inputs["synthesis"]["folder"])


def writing_dollars(counts: Mapping[str, Any], table: CostTable) -> float:
    """Returns the price of all answers of a synthesis by the table."""
    price = Price(table.prompt, table.cached, table.completion)
    return price.dollars(*(counts.get(f"{kind}_tokens", 0) for kind in ("prompt", "cached", "completion")))


def mean_cost(costs: Sequence[RunCost]) -> dict[str, float]:
    """Returns the mean of each part over seeds, and `dollars`."""
    parts = [{**asdict(cost), "dollars": cost.dollars} for cost in costs]
    return {name: sum(part[name] or 0.0 for part in parts) / len(parts) for name in parts[0]}


def pareto_front(points: Sequence[Mapping[str, Any]]) -> list[int]:
    """Returns the indices of the points that no other beats: at most as many dollars, and a higher accuracy."""
    front = []
    for index, point in enumerate(points):
        beaten = any(
            (other["dollars"] < point["dollars"] and other["accuracy"] >= point["accuracy"])
            or (other["dollars"] <= point["dollars"] and other["accuracy"] > point["accuracy"])
            for other in points
        )
        if not beaten:
            front.append(index)
    return sorted(front, key=lambda index: points[index]["dollars"])
