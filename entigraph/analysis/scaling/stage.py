"""Stage 6: a study's finished runs → curve.json, curve.png, curve.svg, report.html, in the study's own folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from math import log10
from pathlib import Path
from typing import Any, cast

from entigraph.analysis.scaling import forgetting
from entigraph.analysis.scaling.series import differences
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import (
    LABEL_PLUMBING,
    FinishedRun,
    asked_baselines,
    base,
    baselines,
    finished,
    label_of,
    members,
    points,
)
from entigraph.errors import DataError
from entigraph.reporting.disclaimers import FICTIONAL, PLUMBING
from entigraph.storage.artifact import (
    FORMAT_VERSIONS,
    MANIFEST,
    is_complete,
    package_versions,
    read_manifest,
    write_json,
)
from entigraph.storage.fingerprints import checksum, digest, flatten
from entigraph.storage.locks import lock
from entigraph.tracking.base import Tracker

FORECAST = ("forecast.png", "forecast.svg")
OUTPUTS = ("curve.json", "curve.png", "curve.svg", *FORECAST, "paired.json", "report.html")


def is_due(study: Path, root: Path, settings: ScalingCurve) -> bool:
    """Whether runs, their scores or the settings changed since the curve was drawn, or a part of it is missing."""
    if not is_complete(study):
        return True
    manifest = read_manifest(study)
    there = all((study / name).exists() for name in manifest["files"])
    return not there or bool(manifest["key"] != key_of(study, root, settings))


def key_of(study: Path, root: Path, settings: ScalingCurve) -> str:
    runs = [FinishedRun(root, member) for member in members(study)]
    scores = [read_manifest(run.folder("evaluation"))["files"] if run.complete else None for run in runs]
    others = [[entry, is_complete(root / entry["evaluation"])] for entry in asked_baselines(study)]
    decided = {"format": FORMAT_VERSIONS["analysis"], "runs": [run.member for run in runs], "scores": scores}
    decided |= {"settings": asdict(settings)}
    return digest({**decided, **({"baselines": others} if others else {})})


def run(study: Path, root: Path, *, settings: ScalingCurve, tracker: Tracker) -> None:
    """Draw the study anew unless nothing changed. Raises DataError where no run has finished."""
    with lock(study, root):
        if is_due(study, root, settings):
            draw(study, root, settings, tracker)


def draw(study: Path, root: Path, settings: ScalingCurve, tracker: Tracker) -> None:
    from entigraph.analysis.paired import paired_tests
    from entigraph.analysis.scaling.forecast_figure import forecast_figure
    from entigraph.analysis.scaling.scaling_figure import scaling_curve
    from entigraph.analysis.study_report import write_report

    (study / MANIFEST).unlink(missing_ok=True)
    runs, left_out = finished(study, root)
    if not runs:
        raise DataError(f"{study} has no finished run; run the study first (entigraph run)")
    curve = described(study, runs, left_out, settings)
    curve["baselines"] = baselines(study, root, runs[0].task)
    write_json(study / "curve.json", curve)
    scaling_curve(curve, study, study.name.rsplit("-", 1)[0])
    if not forecast_figure(curve, study):  # those of runs that are there no more
        for name in FORECAST:
            (study / name).unlink(missing_ok=True)
    recall = draw_recall(study, runs, curve)
    pairs = [] if curve["label"] == LABEL_PLUMBING else paired_tests.of_study(runs, settings)
    write_json(study / "paired.json", pairs)
    write_report(study, root, curve, pairs, runs, settings)
    track(tracker, curve, study)
    paired_tests.track(tracker, pairs)
    drawn = [*(name for name in OUTPUTS if (study / name).exists()), *recall]
    files = {name: {"bytes": (study / name).stat().st_size, "sha256": checksum(study / name)} for name in drawn}
    manifest = {"stage": "analysis", "key": key_of(study, root, settings), "cache_key": asdict(settings), "inputs": {}}
    write_json(
        study / MANIFEST, {**manifest, "counts": {"runs": len(runs)}, "versions": package_versions(), "files": files}
    )
    tracker.lineage(study, [run.folder("evaluation") for run in runs])


def draw_recall(study: Path, runs: Sequence[FinishedRun], curve: dict[str, Any]) -> Sequence[str]:
    """recall.json and its figure, where the study asked with an open book; the names of the files."""
    from entigraph.analysis.scaling import recall_curve

    found = recall_curve.by_recall(runs)
    for name in recall_curve.FILES:
        (study / name).unlink(missing_ok=True)
    if found is None:
        return ()
    write_json(study / "recall.json", found)
    recall_curve.recall_figure(found, study, study.name.rsplit("-", 1)[0], curve["label"])
    return recall_curve.FILES


def settings_of(study: Path) -> dict[str, Any]:
    """What all runs of the study have in common, with dotted keys."""
    file = study / "settings.json"
    return flatten(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}


def described(
    study: Path, runs: Sequence[FinishedRun], left_out: Sequence[str], settings: ScalingCurve
) -> dict[str, Any]:
    from entigraph.analysis.scaling.comparison import comparisons
    from entigraph.analysis.scaling.forecast import forecasts
    from entigraph.analysis.scaling.log_linear import fits

    labels = {run.member["label"] for run in runs}
    plumbing, fictional = PLUMBING in labels, FICTIONAL in labels
    notes = [PLUMBING] if plumbing else [FICTIONAL] if fictional else []
    repeated = {run.augmenter for run in runs if run.member["repeats"] and run.passes > 1}
    notes += [
        f"{name}: nothing more to draw from, so its documents are repeated up to the budget."
        for name in sorted(repeated)
    ]
    notes += differences([run.member for run in runs])
    notes += [f"left out: {name}" for name in left_out]
    if settings.stop_at_half_width is not None:
        notes.append(
            f"Seeds were added until the interval of each point's mean was ±{settings.stop_at_half_width:g}, or none "
            "was left. Intervals that ended it are narrow by choice, and hold a little less often than they say."
        )
    ahead = [] if plumbing else forecasts(runs, settings)
    return {
        "label": label_of(runs),
        "points": [asdict(point) for point in points(runs)],
        "base": base(runs),
        "chance": runs[0].score["chance"],
        "losses": forgetting.losses(runs),
        "settings": settings_of(study),
        "varies": sorted({key for run in runs for key in run.member.get("varies", {})}),
        "fits": [] if plumbing else fits(runs, settings),
        "forecasts": ahead,
        "comparisons": [] if plumbing else comparisons(runs, ahead, settings),
        "notes": notes,
        "runs": [
            {
                "augmenter": run.augmenter,
                "budget": run.budget,
                "seed": run.seed,
                "synthetic_tokens": run.synthetic_tokens,
                "accuracy": run.score["accuracy"],
                "accuracy_norm": run.score.get("accuracy_norm"),
            }
            for run in runs
        ],
    }


def track(tracker: Tracker, curve: dict[str, Any], study: Path) -> None:
    columns = ["augmenter", "synthetic_tokens", "accuracy", "stderr", "seeds", "questions"]
    tracker.table("curve", columns, [[point[column] for column in columns] for point in curve["points"]])
    over = [(log10(point["synthetic_tokens"]), point["accuracy"], point["augmenter"]) for point in curve["points"]]
    tracker.lines("accuracy_by_tokens", ("log10_tokens", "accuracy", "augmenter"), over)
    tracker.image("scaling_curve", study / "curve.png")
    if (study / "forecast.png").exists():
        tracker.image("forecast", study / "forecast.png")
    tracker.summarize({f"{fit['augmenter']}/r2": fit["r2"] for fit in curve["fits"] if "r2" in fit})


def curve_of(study: Path) -> dict[str, Any]:
    return cast(dict[str, Any], json.loads((study / "curve.json").read_text(encoding="utf-8")))


def summary(study: Path) -> str:
    """The table that the command prints, and where the rest is."""
    curve = curve_of(study)
    wide = max(12, *(len(point["augmenter"]) + 2 for point in curve["points"]))
    lines = ["", study.name, f"{'':{wide}}{'tokens':>10}{'accuracy':>10}{'± s.e.':>9}{'seeds':>7}"]
    if curve["base"]:
        lines.append(
            f"{'base':{wide}}{0:>10,}{curve['base']['accuracy']:>10.3f}{curve['base']['stderr']:>9.3f}{curve['base']['seeds']:>7}"
        )
    lines += [
        f"{each['name']:{wide}}{'':>10}{each['accuracy']:>10.3f}{each['stderr']:>9.3f}" for each in curve["baselines"]
    ]
    lines += [
        f"{point['augmenter']:{wide}}{point['synthetic_tokens']:>10,}{point['accuracy']:>10.3f}{point['stderr']:>9.3f}{point['seeds']:>7}"
        for point in curve["points"]
    ]
    lines += [f"fit, {fit['augmenter']}: {fit.get('missing') or told(fit)}" for fit in curve["fits"]]
    lines += [line for one in curve["forecasts"] for line in foretold(one)]
    if curve["base"]:
        lines += [f"base, {name}: {accuracy:.3f}" for name, accuracy in curve["base"]["tasks"].items()]
    lines += recall_summary(study)
    lines += forgetting.told(curve["losses"])
    lines += [f"note: {note}" for note in curve["notes"]]
    lines += ["", *(f"{name:12}{study / name}" for name in ("report.html", "curve.png", "curve.json"))]
    return "\n".join(lines)


def foretold(one: dict[str, Any]) -> list[str]:
    """What the forecasts made on the way would have been worth, and what the last one says."""
    lines = []
    if one.get("held_out"):
        worst = max(one["held_out"], key=lambda held: abs(held["error"]))
        inside, count = (sum(held[key] for held in one["held_out"]) for key in ("inside", "runs"))
        lines.append(
            f"forecasts held out, {one['augmenter']}: {inside} of {count} runs inside their band; largest miss "
            f"{100 * worst['error']:+.1f} points ({worst['form']} fitted to {worst['fitted_to']:,}, at {worst['at']:,})"
        )
    reached = [target for target in one.get("targets", ()) if target["tokens"] is not None]
    if reached:
        told = ", ".join(f"{target['accuracy']:g} at {target['tokens']:,} tokens" for target in reached)
        lines.append(f"forecast, {one['augmenter']} ({one['chosen']}): {told}")
    return lines


def recall_summary(study: Path) -> list[str]:
    from entigraph.analysis.scaling.recall_curve import FILES, told

    file = study / FILES[0]
    if not file.exists():
        return []
    return [*told(json.loads(file.read_text(encoding="utf-8"))), f"{'recall.png':12}{study / FILES[1]}", ""]


def told(fit: dict[str, Any]) -> str:
    a, b = fit["parameters"]["a"], fit["parameters"]["b"]
    low, high = fit["tokens"]
    return (
        f"accuracy = {a:.3f} {b:+.4f} ln(tokens), R² {fit['r2']:.3f} over {fit['runs']} runs "
        f"of {low:,} to {high:,} tokens, {100 * fit['gain_per_doubling']:+.1f} points a doubling"
    )
