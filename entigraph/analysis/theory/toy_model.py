"""The paper's toy model (§6, Fig. 9): exact, simulated, and by the paper's formulas."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from entigraph.analysis.base import AnalysisContext
from entigraph.analysis.document_bootstrap import Vector
from entigraph.analysis.theory.knowledge_growth import (
    Growth,
    ShortestPathTrees,
    branching_accuracy,
    find_phases,
    measure_growth,
    pool_growth,
    random_graph,
    reachable_share,
    shortest_path_trees,
    simulate,
    simulated_accuracy,
)
from entigraph.config.fields import check_minimums
from entigraph.errors import ConfigError
from entigraph.reporting import figures
from entigraph.reporting.figures import BLACK, BLUE, GRAY, GREEN, VERMILION, Axes
from entigraph.storage.artifact import write_json

POINTS = 160  # per panel
TABLE_ROUNDS = (0.0, 0.1, 1.0, 2.0, 10.0)  # in units of V(V-1)
PANEL_TITLES = {"linear": "Linear: p + C m t", "logarithmic": "Logarithmic (log t axis)", "plateau": "Plateau"}


@dataclass(frozen=True, kw_only=True)
class ToyModel:
    """The paper's toy model, exact and simulated (§6, Fig. 9: 100 entities, p = 0.03)."""

    name: ClassVar[str] = "toy_model"
    needs_runs: ClassVar[bool] = False
    vertices: int = 100
    mean_degree: float = 3.0
    graphs: int = 20
    simulations: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        check_graph_options(self.vertices, self.mean_degree, self.graphs)
        check_minimums(self, "analysis.", simulations=2)

    def inputs(self, context: AnalysisContext) -> Mapping[str, Path]:
        return {}

    def run(self, context: AnalysisContext, out: Path) -> list[str]:
        """Writes toy_model.json, .png and .svg."""
        result = simulate_toy_model(self)
        write_json(out / "toy_model.json", result)
        draw_toy_model(result, out)
        return toy_model_lines(result)


def check_graph_options(vertices: int, mean_degree: float, graphs: int) -> None:
    if vertices < 10 or graphs < 1:
        raise ConfigError(f"analysis: vertices must be at least 10 and graphs at least 1, got {vertices} and {graphs}")
    if not 1 < mean_degree < vertices:
        raise ConfigError(
            f"analysis.mean_degree must be above 1, got {mean_degree} (at 1 and below no large part of a graph is "
            f"reachable) and below {vertices} vertices"
        )


def simulate_toy_model(settings: ToyModel) -> dict[str, Any]:
    p = settings.mean_degree / settings.vertices
    trees = [
        shortest_path_trees(random_graph(settings.vertices, p, np.random.default_rng([settings.seed, number])))
        for number in range(settings.graphs)
    ]
    pooled = pool_growth([measure_growth(graph) for graph in trees])
    linear_end, plateau_start = find_phases(pooled)
    panels = {
        "linear": np.linspace(0, linear_end, POINTS),
        "logarithmic": np.geomspace(linear_end, plateau_start, POINTS),
        "plateau": np.linspace(plateau_start, 10 * plateau_start, POINTS),
    }
    return {
        "vertices": settings.vertices,
        "mean_degree": settings.mean_degree,
        "graphs": settings.graphs,
        "simulations": settings.simulations,
        "phases": {"linear_end": linear_end, "plateau_start": plateau_start},
        "limit": pooled.limit,
        "limit_of_many_vertices": reachable_share(settings.mean_degree),
        "panels": {name: build_panel(settings, trees, pooled, rounds) for name, rounds in panels.items()},
        "table": build_panel(settings, trees, pooled, np.array(TABLE_ROUNDS) * pooled.pairs),
    }


def build_panel(
    settings: ToyModel, trees: list[ShortestPathTrees], pooled: Growth, rounds: Vector
) -> dict[str, list[float]]:
    parts = [measure_growth(graph) for graph in trees]
    low, high = (np.mean(side, axis=0) for side in zip(*(part.bounds(rounds) for part in parts), strict=True))
    simulated_at = np.round(rounds[:: max(1, len(rounds) // 8)] if len(rounds) > len(TABLE_ROUNDS) else rounds)
    mean, error = simulate_accuracy(settings, trees, simulated_at)
    vertices, degree = settings.vertices, settings.mean_degree
    return {
        "rounds": rounds.tolist(),
        "exact": pooled.accuracy(rounds).tolist(),
        "spread": np.std([part.accuracy(rounds) for part in parts], axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "branching": branching_accuracy(vertices, degree, rounds).tolist(),
        "corrected": branching_accuracy(vertices, degree, rounds, corrected=True).tolist(),
        "simulated_at": simulated_at.tolist(),
        "simulated": mean.tolist(),
        "simulated_error": error.tolist(),
        "exact_there": pooled.accuracy(simulated_at).tolist(),
    }


def simulate_accuracy(settings: ToyModel, trees: list[ShortestPathTrees], rounds: Vector) -> tuple[Vector, Vector]:
    """Returns the mean accuracy over all simulations, equally many per graph, and its standard error."""
    last = int(rounds.max())
    per_graph = max(2, settings.simulations // len(trees))
    accuracies = np.empty((len(trees), per_graph, len(rounds)))
    for number, graph in enumerate(trees):
        for repetition in range(per_graph):
            rng = np.random.default_rng([settings.seed, 1, number, repetition])
            accuracies[number, repetition] = simulated_accuracy(graph, simulate(graph, last, rng), rounds)
    variance = accuracies.var(axis=1, ddof=1).mean(axis=0) / (per_graph * len(trees))
    return accuracies.mean(axis=(0, 1)), np.sqrt(variance)


def toy_model_lines(result: Mapping[str, Any]) -> list[str]:
    table, vertices, phases = result["table"], result["vertices"], result["phases"]
    lines = [
        f"toy model: {result['graphs']} graphs of {vertices} entities, "
        f"{result['mean_degree']:g} relations each; {vertices * (vertices - 1):,} ordered pairs",
        f"{'rounds':>10}{'exact':>9}{'± graphs':>10}{'simulated':>11}{'± s.e.':>9}{'branching':>11}{'corrected':>11}"
        f"{'lower':>8}{'upper':>8}",
    ]
    for row, rounds in enumerate(table["rounds"]):
        lines.append(
            f"{rounds:>10,.0f}{table['exact'][row]:>9.4f}{table['spread'][row]:>10.4f}{table['simulated'][row]:>11.4f}"
            f"{table['simulated_error'][row]:>9.4f}{table['branching'][row]:>11.4f}{table['corrected'][row]:>11.4f}"
            f"{table['low'][row]:>8.3f}{table['high'][row]:>8.3f}"
        )
    return [
        *lines,
        f"linear up to {phases['linear_end']:,.0f} rounds, a plateau from {phases['plateau_start']:,.0f}; "
        f"limit {result['limit']:.4f}, for many entities {result['limit_of_many_vertices']:.4f}",
    ]


def draw_toy_model(result: Mapping[str, Any], out: Path) -> None:
    """Draws Fig. 9: accuracy against rounds in three phases."""
    figure, (panels,) = figures.create_figure(1, 3, figsize=(10.4, 3.7))
    for axes, (name, panel) in zip(panels, result["panels"].items(), strict=True):
        draw_phase(axes, panel)
        axes.set_title(PANEL_TITLES[name], fontsize=9)
        axes.set_xlabel("rounds t" + (" (logarithmic)" if name == "logarithmic" else ""))
        if name == "logarithmic":
            axes.set_xscale("log")
        figures.format_count_axis(axes)
    panels[0].set_ylabel("accuracy: share of ordered pairs known")
    panels[2].set_ylim(0.75 * result["limit"], min(1.0, 1.12 * result["limit"]))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(
        f"Toy model (paper Fig. 9): {result['vertices']} entities, p = "
        f"{result['mean_degree'] / result['vertices']:g}, mean of {result['graphs']} graphs",
        fontsize=10,
    )
    figures.save_figure(figure, out, "toy_model")


def draw_phase(axes: Axes, panel: Mapping[str, Any]) -> None:
    rounds = panel["rounds"]
    axes.fill_between(
        rounds, panel["low"], panel["high"], color=GRAY, alpha=0.18, linewidth=0, label="bounds, finite V"
    )
    axes.plot(rounds, panel["exact"], color=BLUE, linewidth=1.8, label="exact")
    axes.plot(
        rounds, panel["branching"], color=VERMILION, linestyle="--", linewidth=1.2, label="branching, as printed"
    )  # fmt: skip
    axes.plot(rounds, panel["corrected"], color=GREEN, linestyle=":", linewidth=1.6, label="branching, corrected")
    axes.errorbar(
        panel["simulated_at"],
        panel["simulated"],
        yerr=[3 * error for error in panel["simulated_error"]],
        color=BLACK, marker="o", markersize=3.5, markerfacecolor="white", linestyle="none", capsize=2,
        label="simulated, ± 3 s.e.", zorder=4,
    )  # fmt: skip
    figures.format_percent_axis(axes)
