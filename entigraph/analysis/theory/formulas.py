"""The two theoretical studies: the toy model of the paper (Fig. 9), and the same on graphs of other shapes."""

from pathlib import Path
from typing import Any

import numpy as np

from entigraph.analysis.scaling.curve_forms import LogLinear, Vector
from entigraph.analysis.settings import GraphFamilies, ToyModel
from entigraph.analysis.theory import graphs
from entigraph.analysis.theory.toy_model import (
    Growth,
    Trees,
    branching_accuracy,
    growth,
    phases,
    pooled,
    random_graph,
    reachable_share,
    simulate,
    simulated_accuracy,
    trees,
)
from entigraph.storage.artifact import write_json

POINTS = 160
SHOWN = (0.0, 0.1, 1.0, 2.0, 10.0)  # rounds, in units of V(V-1), whose accuracy the summary tells


def toy_model(settings: ToyModel, out: Path) -> list[str]:
    """Writes toy_model.json, toy_model.png and toy_model.svg; returns what to tell."""
    from entigraph.analysis.theory.theory_figures import toy_model_figure

    p = settings.mean_degree / settings.vertices
    found = [
        trees(random_graph(settings.vertices, p, np.random.default_rng([settings.seed, number])))
        for number in range(settings.graphs)
    ]
    parts = [growth(graph) for graph in found]
    together = pooled(parts)
    pairs = together.pairs
    linear_end, plateau_start = phases(together)
    panels = {
        "linear": np.linspace(0, linear_end, POINTS),
        "logarithmic": np.geomspace(linear_end, plateau_start, POINTS),
        "plateau": np.linspace(plateau_start, 10 * plateau_start, POINTS),
    }
    result: dict[str, Any] = {
        "vertices": settings.vertices,
        "mean_degree": settings.mean_degree,
        "graphs": settings.graphs,
        "simulations": settings.simulations,
        "phases": {"linear_end": linear_end, "plateau_start": plateau_start},
        "limit": together.limit,
        "limit_of_many_vertices": reachable_share(settings.mean_degree),
        "panels": {name: panel(settings, found, parts, together, rounds) for name, rounds in panels.items()},
        "table": panel(settings, found, parts, together, np.array(SHOWN) * pairs),
    }
    write_json(out / "toy_model.json", result)
    toy_model_figure(result, out)
    return told(result, pairs)


def panel(
    settings: ToyModel, found: list[Trees], parts: list[Growth], together: Growth, rounds: Vector
) -> dict[str, list[float]]:
    low, high = (np.mean(side, axis=0) for side in zip(*(part.bounds(rounds) for part in parts), strict=True))
    at = rounds[:: max(1, len(rounds) // 8)] if len(rounds) > len(SHOWN) else rounds
    exact = [part.accuracy(rounds) for part in parts]
    mean, error = simulations(settings, found, np.round(at))
    return {
        "rounds": rounds.tolist(),
        "exact": together.accuracy(rounds).tolist(),
        "spread": np.std(exact, axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "branching": branching_accuracy(settings.vertices, settings.mean_degree, rounds).tolist(),
        "corrected": branching_accuracy(settings.vertices, settings.mean_degree, rounds, corrected=True).tolist(),
        "simulated_at": np.round(at).tolist(),
        "simulated": mean.tolist(),
        "simulated_error": error.tolist(),
        "exact_there": together.accuracy(np.round(at)).tolist(),
    }


def simulations(settings: ToyModel, found: list[Trees], rounds: Vector) -> tuple[Vector, Vector]:
    """Mean accuracy over the simulations of all graphs alike, and its standard error for these graphs."""
    most = int(rounds.max())
    each = max(2, settings.simulations // len(found))
    accuracies = np.array(
        [
            [
                simulated_accuracy(
                    graph, simulate(graph, most, np.random.default_rng([settings.seed, 1, g, s])), rounds
                )
                for s in range(each)
            ]
            for g, graph in enumerate(found)
        ]
    )
    variance = accuracies.var(axis=1, ddof=1).mean(axis=0) / (each * len(found))
    return accuracies.mean(axis=(0, 1)), np.sqrt(variance)


def told(result: dict[str, Any], pairs: int) -> list[str]:
    table = result["table"]
    lines = [
        f"toy model: {result['graphs']} graphs of {result['vertices']} entities, "
        f"{result['mean_degree']:g} relations each; {pairs:,} ordered pairs",
        f"{'rounds':>10}{'exact':>9}{'± graphs':>10}{'simulated':>11}{'± s.e.':>9}{'branching':>11}{'corrected':>11}"
        f"{'lower':>8}{'upper':>8}",
    ]
    for row, rounds in enumerate(table["rounds"]):
        lines.append(
            f"{rounds:>10,.0f}{table['exact'][row]:>9.4f}{table['spread'][row]:>10.4f}{table['simulated'][row]:>11.4f}"
            f"{table['simulated_error'][row]:>9.4f}{table['branching'][row]:>11.4f}{table['corrected'][row]:>11.4f}"
            f"{table['low'][row]:>8.3f}{table['high'][row]:>8.3f}"
        )
    phase = result["phases"]
    lines.append(
        f"linear up to {phase['linear_end']:,.0f} rounds, a plateau from {phase['plateau_start']:,.0f}; "
        f"limit {result['limit']:.4f}, for many entities {result['limit_of_many_vertices']:.4f}"
    )
    return lines


def graph_families(settings: GraphFamilies, out: Path) -> list[str]:
    """Writes graph_families.json, .png and .svg; returns what to tell."""
    from entigraph.analysis.theory.theory_figures import graph_families_figure

    families = []
    for family in graphs.FAMILIES:
        parts = [
            growth(
                trees(
                    graphs.drawn(
                        family, settings.vertices, settings.mean_degree, np.random.default_rng([settings.seed, number])
                    )
                )
            )
            for number in range(settings.graphs)
        ]
        families.append(described(family, pooled(parts)))
    result = {"vertices": settings.vertices, "mean_degree": settings.mean_degree, "families": families}
    write_json(out / "graph_families.json", result)
    graph_families_figure(result, out)
    lines = [
        f"{settings.graphs} graphs of {settings.vertices} entities each; rounds in units of V(V-1)",
        f"{'':14}{'stated':>8}{'limit':>8}{'mean of µ':>11}{'half gained':>13}{'linear to':>11}{'plateau from':>14}"
        f"{'decades of log':>16}{'R² there':>10}",
    ]
    for one in families:
        lines.append(
            f"{one['family']:14}{one['start']:>8.4f}{one['limit']:>8.3f}{one['mean']:>11.2f}{one['half']:>13.3f}"
            f"{one['linear_end']:>11.4f}{one['plateau_start']:>14.2f}{one['decades']:>16.2f}{one['r2']:>10.3f}"
        )
    return lines


def described(family: str, together: Growth) -> dict[str, Any]:
    linear_end, plateau_start = phases(together)
    rounds = np.geomspace(1e-4, 1e2, 400) * together.pairs
    accuracy = together.accuracy(rounds)
    gained = (accuracy - together.start) / together.unstated
    middle = np.geomspace(linear_end, plateau_start, 50)
    there = together.accuracy(middle)
    line = LogLinear()
    residual = there - line.predict(line.fit(middle, there[None]), middle)[0]
    tail = np.cumsum(together.mu[::-1])[::-1]
    sizes = np.unique(np.geomspace(1, len(tail) - 1, 60).astype(int))
    return {
        "family": family,
        "start": together.start,
        "limit": together.limit,
        "mean": together.mean,
        "half": float(rounds[np.argmax(gained >= 0.5)] / together.pairs),
        "linear_end": linear_end / together.pairs,
        "plateau_start": plateau_start / together.pairs,
        "decades": float(np.log10(plateau_start / linear_end)),
        "r2": float(1 - (residual**2).sum() / ((there - there.mean()) ** 2).sum()),
        "rounds": (rounds / together.pairs).tolist(),
        "accuracy": accuracy.tolist(),
        "sizes": sizes.tolist(),
        "share_at_least": tail[sizes].tolist(),
    }
