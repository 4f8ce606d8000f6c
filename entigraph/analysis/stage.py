"""Stage 6: a study's finished runs → curve.json, curve.png, curve.svg, report.html, in the study's own folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from entigraph.analysis.collect import FinishedRun, base, finished, members, points
from entigraph.analysis.settings import ScalingCurve
from entigraph.artefact import MANIFEST, checksum, digest, is_complete, lock, read, versions, write_json
from entigraph.errors import DataError
from entigraph.tracking import Tracker

OUTPUTS = ("curve.json", "curve.png", "curve.svg", "report.html")
FICTIONAL = (
    "Simulated at small scale: the documents are fictional, the writer is a grammar and not an LLM, and the model has "
    "under a million parameters. The training and the measuring are real."
)
LABEL_FICTIONAL = "fictional documents, offline writer, tiny model"
LABEL_PLUMBING = "plumbing check: the offline writer does not understand these documents"
PLUMBING = (
    "A plumbing check: the offline writer does not understand these documents, it rearranges their sentences. "
    "Its accuracies say nothing about synthetic data, and no curve is fitted to them."
)


def is_due(study: Path, settings: ScalingCurve) -> bool:
    """Whether runs or settings changed since the curve was drawn."""
    if not is_complete(study):
        return True
    return bool(read(study)["key"] != key_of(study, settings))


def key_of(study: Path, settings: ScalingCurve) -> str:
    return digest({"runs": members(study), "settings": asdict(settings), "version": versions().get("entigraph")})


def run(study: Path, root: Path, *, settings: ScalingCurve, tracker: Tracker) -> None:
    """Draw the study anew unless nothing changed. Raises DataError where no run has finished."""
    with lock(study, root):
        if is_due(study, settings):
            draw(study, root, settings, tracker)


def draw(study: Path, root: Path, settings: ScalingCurve, tracker: Tracker) -> None:
    from entigraph.analysis.figure import scaling_curve
    from entigraph.analysis.report import write_report

    (study / MANIFEST).unlink(missing_ok=True)
    runs, unfinished = finished(study, root)
    if not runs:
        raise DataError(f"{study} has no finished run; run the study first (stage=pipeline)")
    curve = described(runs, unfinished, settings)
    write_json(study / "curve.json", curve)
    scaling_curve(curve, study, study.name.rsplit("-", 1)[0])
    write_report(study, root, curve, runs, settings)
    track(tracker, curve, study)
    files = {name: {"bytes": (study / name).stat().st_size, "sha256": checksum(study / name)} for name in OUTPUTS}
    manifest = {"stage": "analysis", "key": key_of(study, settings), "decides": asdict(settings), "inputs": {}}
    write_json(study / MANIFEST, {**manifest, "counts": {"runs": len(runs)}, "versions": versions(), "files": files})


def described(runs: Sequence[FinishedRun], unfinished: Sequence[str], settings: ScalingCurve) -> dict[str, Any]:
    from entigraph.analysis.curve import fits

    plumbing = any(run.member["offline_writer"] and not run.member["fictional"] for run in runs)
    fictional = any(run.member["fictional"] for run in runs)
    notes = [PLUMBING] if plumbing else [FICTIONAL] if fictional else []
    repeated = {run.augmenter for run in runs if run.member["repeats"] and run.passes > 1}
    notes += [
        f"{name}: nothing more to draw from, so its documents are repeated up to the budget."
        for name in sorted(repeated)
    ]
    notes += [f"left out, not finished or damaged: {name}" for name in unfinished]
    return {
        "label": LABEL_PLUMBING if plumbing else LABEL_FICTIONAL if fictional else "",
        "points": [asdict(point) for point in points(runs)],
        "base": base(runs),
        "fits": [] if plumbing else fits(runs, settings),
        "notes": notes,
        "runs": [
            {
                "augmenter": run.augmenter,
                "budget": run.budget,
                "seed": run.seed,
                "synthetic_tokens": run.synthetic_tokens,
                "accuracy": run.score["accuracy"],
                "accuracy_norm": run.score["accuracy_norm"],
            }
            for run in runs
        ],
    }


def track(tracker: Tracker, curve: dict[str, Any], study: Path) -> None:
    columns = ["augmenter", "synthetic_tokens", "accuracy", "stderr", "seeds", "questions"]
    tracker.table("curve", columns, [[point[column] for column in columns] for point in curve["points"]])
    tracker.image("scaling_curve", study / "curve.png")
    tracker.summarise({f"{fit['augmenter']}/r2": fit["r2"] for fit in curve["fits"] if "r2" in fit})


def summary(study: Path) -> str:
    """The table that the command prints, and where the rest is."""
    curve = json.loads((study / "curve.json").read_text(encoding="utf-8"))
    lines = ["", f"{'':12}{'tokens':>10}{'accuracy':>10}{'± s.e.':>9}{'seeds':>7}"]
    if curve["base"]:
        lines.append(
            f"{'base':12}{0:>10,}{curve['base']['accuracy']:>10.3f}{curve['base']['stderr']:>9.3f}{curve['base']['seeds']:>7}"
        )
    lines += [
        f"{point['augmenter']:12}{point['synthetic_tokens']:>10,}{point['accuracy']:>10.3f}{point['stderr']:>9.3f}{point['seeds']:>7}"
        for point in curve["points"]
    ]
    lines += [f"fit, {fit['augmenter']}: {fit.get('missing') or told(fit)}" for fit in curve["fits"]]
    if curve["base"]:
        lines += [f"base, {name}: {accuracy:.3f}" for name, accuracy in curve["base"]["tasks"].items()]
    lines += [f"note: {note}" for note in curve["notes"]]
    lines += ["", *(f"{name:12}{study / name}" for name in ("report.html", "curve.png", "curve.json"))]
    return "\n".join(lines)


def told(fit: dict[str, Any]) -> str:
    a, b = fit["parameters"]["a"], fit["parameters"]["b"]
    low, high = fit["tokens"]
    return (
        f"accuracy = {a:.3f} + {b:.4f} ln(tokens), R² {fit['r2']:.3f} over {fit['runs']} runs "
        f"of {low:,} to {high:,} tokens, {100 * fit['gain_per_doubling']:+.1f} points a doubling"
    )
