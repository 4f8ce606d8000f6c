"""A five-line summary of a study: question, model, texts and cost, significant and non-significant differences."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from entigraph.analysis.study_runs import StudyRun, list_augmenters, short_disclaimer
from entigraph.llm.cost import render_dollars
from entigraph.reporting.disclaimers import is_pipeline_check
from entigraph.reporting.figures import abbreviate
from entigraph.storage.artifact import read_manifest
from entigraph.storage.data_losses import count_of

NORMAL_QUANTILE = 1.96  # two-sided, 95%

DIGEST = re.compile(r"-[0-9a-f]{8}$")

Difference = tuple[str, Mapping[str, Any]]  # label, and an entry with `difference` and `interval`


def summarize_study(
    runs: Sequence[StudyRun], curve: Mapping[str, Any], pairs: Sequence[Mapping[str, Any]], confidence: float
) -> dict[str, str]:
    """Returns the summary lines by heading. A difference is significant if its interval excludes zero, unless the
    variance between runs is unknown. No difference is corrected for the number of comparisons.
    """
    differences = [*augmenter_differences(curve), *base_model_differences(pairs)]
    significant = [describe_difference(difference) for difference in differences if is_significant(difference[1])]
    others = [describe_other(difference) for difference in differences if not is_significant(difference[1])]
    if not differences:
        significant = [f"nothing: {no_comparison_reason(runs)}"]
    elif significant:
        significant[-1] += f" ({100 * confidence:g}% intervals, not corrected for their number)"
    else:
        significant = ["nothing"]
    if all_at_chance(runs):
        others.insert(0, "all accuracies are within noise of chance")
    return {
        "Question": describe_question(runs),
        "Model": describe_model(runs[0]),
        "Texts": describe_texts(runs),
        "Significant": "; ".join(significant) + ".",
        "Not significant": ("; ".join(others) or "none") + ".",
    }


def no_comparison_reason(runs: Sequence[StudyRun]) -> str:
    if is_pipeline_check(short_disclaimer(runs)):
        return "no accuracies are compared, because the offline writer only rearranges these documents"
    if len(list_augmenters(runs)) == 1:
        return "the study has one augmenter, and its base model was not evaluated"
    return "no two augmenters have runs with the same questions, budget and seed, and no base model was evaluated"


def describe_question(runs: Sequence[StudyRun]) -> str:
    budgets = sorted({run.budget for run in runs})
    seeds = len({run.seed for run in runs})
    return (
        f"How does the accuracy of {runs[0].task} change with the number of synthetic tokens? "
        f"{', '.join(list_augmenters(runs))} at {', '.join(map(abbreviate, budgets))} tokens, "
        f"{len(runs)} runs with {seeds} seed{'s' * (seeds > 1)}."
    )


def describe_model(run: StudyRun) -> str:
    manifest = read_manifest(run.folder("training"))
    start = str(manifest.get("cache_key", {}).get("model", {}).get("start", "an unknown model"))
    base = DIGEST.sub("", Path(start).parent.name) if start.endswith("/model") else start
    base = "random weights" if start == "random" else base
    counts = manifest["counts"]
    parameters = f", {counts['parameters']:,} parameters" if "parameters" in counts else ""
    return f"{base}{parameters}, trained in {counts.get('precision', 'unknown precision')}."


def describe_texts(runs: Sequence[StudyRun]) -> str:
    corpora = [read_manifest(folder)["counts"] for folder in distinct_folders(runs, "corpus")]
    documents = " or ".join(sorted({f"{counts['documents']:,}" for counts in corpora})) or "unknown"
    several = f" in each of {len(corpora)} corpora" if len(corpora) > 1 else ""
    manifests = [read_manifest(folder) for folder in distinct_folders(runs, "synthesis")]
    tokens = sum(manifest["counts"].get("tokens", 0) for manifest in manifests)
    writers = " and ".join(list_writers(runs)) or "(no writer)"
    return (
        f"{documents} documents{several}, {count_of(runs[0].score['questions'], 'question')}; "
        f"{abbreviate(float(f'{tokens:.3g}'))} synthetic tokens by {writers}, "
        f"{describe_cost([manifest['counts'].get('dollars') for manifest in manifests])}."
    )


def distinct_folders(runs: Iterable[StudyRun], stage: str) -> list[Path]:
    return list(dict.fromkeys(folder for run in runs if (folder := run.finished_folder(stage))))


def list_writers(runs: Iterable[StudyRun]) -> list[str]:
    """Returns the names of the writers of the runs' texts."""
    names = (writer_name(read_manifest(folder)) for folder in distinct_folders(runs, "synthesis"))
    return sorted({name for name in names if name})


def writer_name(manifest: Mapping[str, Any]) -> str:
    llm = manifest.get("cache_key", {}).get("llm") or {}
    return str(llm.get("model") or (f"the {llm['name']} writer" if llm.get("name") else ""))


def describe_cost(dollars: Sequence[float | None]) -> str:
    if any(cost is None for cost in dollars):
        return "cost unknown"
    total = sum(cost for cost in dollars if cost)
    return render_dollars(total) if total else "no cost"


def augmenter_differences(curve: Mapping[str, Any]) -> list[Difference]:
    """Returns the comparison of each two augmenters at the largest budget that both have."""
    largest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for entry in curve["comparisons"]:
        key = (entry["one"], entry["other"])
        if entry["equal"] == "tokens" and (key not in largest or entry["at"] > largest[key]["at"]):
            largest[key] = entry
    return [
        (f"{one} vs. {other} at {abbreviate(entry['at'])} tokens", entry) for (one, other), entry in largest.items()
    ]


def base_model_differences(pairs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    return [
        (f"{pair['one']} (best of {pair['best_of'][0]} runs) vs. the base model", pair)
        for pair in pairs
        if pair["other"] == "base"
    ]


def is_significant(entry: Mapping[str, Any]) -> bool:
    low, high = entry["interval"]
    return bool(low > 0 or high < 0) and not lacks_run_variance(entry)


def lacks_run_variance(entry: Mapping[str, Any]) -> bool:
    """Returns whether the variance between the runs of an augmenter is unknown."""
    return entry.get("scatter", "") is None


def describe_other(difference: Difference) -> str:
    name, entry = difference
    return f"{name} (one seed)" if lacks_run_variance(entry) else name


def describe_difference(difference: Difference) -> str:
    name, entry = difference
    low, high = entry["interval"]
    return f"{name}: {100 * entry['difference']:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def all_at_chance(runs: Sequence[StudyRun]) -> bool:
    """Returns whether every run's accuracy is within 1.96 standard errors (clustered by document) of chance."""
    return all(
        abs(run.score["accuracy"] - run.score["chance"]) <= NORMAL_QUANTILE * run.score["stderr"] for run in runs
    )
