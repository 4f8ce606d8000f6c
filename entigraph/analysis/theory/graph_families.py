"""The toy model on random graphs that the paper leaves open: the same mean degree, arranged differently.

The paper analyzes independent relations only (§6.1). In each family relations are still independent, but each ordered
pair has its own probability.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.document_bootstrap import Vector
from entigraph.analysis.scaling.curve_forms import LogLinear
from entigraph.analysis.theory.knowledge_growth import (
    Booleans,
    Growth,
    find_phases,
    measure_growth,
    pool_growth,
    shortest_path_trees,
    without_loops,
)
from entigraph.analysis.theory.toy_model import check_graph_options
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, BLUE, GREEN, PURPLE, SKY, VERMILION
from entigraph.storage.artifact import write_json

CLUSTERS, WITHIN = 10, 0.9  # nine of ten relations stay within one of ten clusters
LEVELS, FALLOFF = 5, 0.35  # relations grow rarer by this factor for each level of a binary tree that is not shared
HUB_EXPONENT = 2.5  # exponent of the degrees' power law
SPARSER, DENSER = 0.5, 2.0


@dataclass(frozen=True, kw_only=True)
class GraphFamilies:
    """The toy model on denser, sparser, clustered and hierarchical graphs, and on graphs with hubs."""

    name: ClassVar[str] = "graph_families"
    needs_runs: ClassVar[bool] = False
    vertices: int = 500
    mean_degree: float = 3.0
    graphs: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_graph_options(self.vertices, self.mean_degree, self.graphs)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return {}

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes graph_families.json, .png and .svg."""
        families = [self.measure_family(family) for family in FAMILIES]
        result = {"vertices": self.vertices, "mean_degree": self.mean_degree, "families": families}
        write_json(out / "graph_families.json", result)
        draw_families(result, out)
        title = f"{self.graphs} graphs of {self.vertices} entities each; rounds in units of V(V-1)"
        return [title, *family_lines(families)]

    def measure_family(self, family: str) -> dict[str, Any]:
        graphs = (
            sample_graph(family, self.vertices, self.mean_degree, np.random.default_rng([self.seed, number]))
            for number in range(self.graphs)
        )
        return describe_growth(family, pool_growth([measure_growth(shortest_path_trees(graph)) for graph in graphs]))


def independent(vertices: int, degree: float) -> Vector:
    return np.full((vertices, vertices), degree / vertices)


def clustered(vertices: int, degree: float) -> Vector:
    cluster = np.arange(vertices) * CLUSTERS // vertices
    same = cluster[:, None] == cluster
    return np.asarray(np.where(same, WITHIN * degree / same.sum(axis=1), (1 - WITHIN) * degree / (~same).sum(axis=1)))


def hierarchical(vertices: int, degree: float) -> Vector:
    leaf = np.arange(vertices) * 2**LEVELS // vertices
    distance = np.zeros((vertices, vertices))
    for level in range(LEVELS):
        distance += (leaf[:, None] >> level) != (leaf >> level)
    weight = FALLOFF**distance
    return np.asarray(degree * weight / weight.sum(axis=1, keepdims=True))


def hubs(vertices: int, degree: float) -> Vector:
    weight = (np.arange(vertices) + 1.0) ** (-1 / (HUB_EXPONENT - 1))
    product = np.outer(weight, weight)
    return np.asarray(degree * vertices * product / product.sum())


# The probabilities of the edges, and the style of the line.
FAMILIES: Mapping[str, tuple[Callable[[int, float], Vector], str, str]] = {
    "independent": (independent, BLACK, "-"),
    "sparser": (lambda vertices, degree: independent(vertices, SPARSER * degree), SKY, "--"),
    "denser": (lambda vertices, degree: independent(vertices, DENSER * degree), BLUE, "-."),
    "clustered": (clustered, VERMILION, "-"),
    "hierarchical": (hierarchical, GREEN, "--"),
    "hubs": (hubs, PURPLE, "-."),
}


def sample_graph(family: str, vertices: int, degree: float, rng: np.random.Generator) -> Booleans:
    """Probabilities above 1 (between the largest hubs) count as 1."""
    probabilities, _, _ = FAMILIES[family]
    return without_loops(rng.random((vertices, vertices)) < probabilities(vertices, degree))


def describe_growth(family: str, growth: Growth) -> dict[str, Any]:
    """`r2` is that of a log-linear fit between the linear phase and the plateau, `decades` the length of that range."""
    linear_end, plateau_start = find_phases(growth)
    rounds = np.geomspace(1e-4, 1e2, 400) * growth.pairs
    accuracy = growth.accuracy(rounds)
    gained = (accuracy - growth.start) / growth.unstated
    log_range = np.geomspace(linear_end, plateau_start, 50)
    log_accuracy = growth.accuracy(log_range)
    line = LogLinear()
    residual = log_accuracy - line.predict(line.fit(log_range, log_accuracy[None]), log_range)[0]
    tail = np.cumsum(growth.mu[::-1])[::-1]
    sizes = np.unique(np.geomspace(1, len(tail) - 1, 60).astype(int))
    return {
        "family": family,
        "start": growth.start,
        "limit": growth.limit,
        "mean": growth.mean,
        "half": float(rounds[np.argmax(gained >= 0.5)] / growth.pairs),
        "linear_end": linear_end / growth.pairs,
        "plateau_start": plateau_start / growth.pairs,
        "decades": float(np.log10(plateau_start / linear_end)),
        "r2": float(1 - (residual**2).sum() / ((log_accuracy - log_accuracy.mean()) ** 2).sum()),
        "rounds": (rounds / growth.pairs).tolist(),
        "accuracy": accuracy.tolist(),
        "sizes": sizes.tolist(),
        "share_at_least": tail[sizes].tolist(),
    }


def family_lines(families: list[dict[str, Any]]) -> list[str]:
    lines = [
        f"{'':14}{'stated':>8}{'limit':>8}{'mean of µ':>11}{'half gained':>13}{'linear to':>11}{'plateau from':>14}"
        f"{'decades of log':>16}{'R² of log':>11}"
    ]
    for family in families:
        lines.append(
            f"{family['family']:14}{family['start']:>8.4f}{family['limit']:>8.3f}{family['mean']:>11.2f}"
            f"{family['half']:>13.3f}{family['linear_end']:>11.4f}{family['plateau_start']:>14.2f}"
            f"{family['decades']:>16.2f}{family['r2']:>11.3f}"
        )
    return lines


def draw_families(result: Mapping[str, Any], out: Path) -> None:
    """Draws how the shape of the graph changes the curve, and the distribution that determines it."""
    figure, ((left, right),) = figures.create_figure(1, 2, figsize=(9.6, 3.9))
    for family in result["families"]:
        _, color, line = FAMILIES[family["family"]]
        style = {"color": color, "linestyle": line, "linewidth": 1.4}
        left.plot(family["rounds"], family["accuracy"], label=family["family"], **style)
        right.plot(family["sizes"], family["share_at_least"], **style)
    left.set_xscale("log")
    left.set_xlabel("rounds t / V(V-1)")
    left.set_ylabel("accuracy: share of ordered pairs known")
    figures.format_percent_axis(left)
    left.set_title("Exact accuracy", fontsize=9)
    left.legend(frameon=False, fontsize=8)
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_ylim(1e-6, 1.5)
    right.set_xlabel("k: vertices in the subtree that teaches a pair")
    right.set_ylabel("share of learnable pairs with at least k")
    right.set_title("The distribution µ(k)", fontsize=9)
    figures.add_grid(right, "y")
    figure.suptitle(
        f"Toy model on other graphs: {result['vertices']} entities, {result['mean_degree']:g} relations each "
        "(sparser: half, denser: twice)",
        fontsize=10,
    )
    figures.save_figure(figure, out, "graph_families")
