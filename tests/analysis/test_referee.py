"""The referee: its numbers on a study, and the coverage and error rates of its statistics in simulation."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.base import analysis_output, run_analysis
from entigraph.analysis.equal_budgets import budget_levels, comparable_level
from entigraph.analysis.method_comparisons import (
    CostLevel,
    SeedAnswers,
    accuracy_intervals,
    compare_methods,
    describe_needed_data,
    holm,
    seed_variance,
)
from entigraph.analysis.referee.cost_levels import interpolate
from entigraph.analysis.referee.method_costs import CostTable, RunCost, mean_cost, pareto_front, run_cost
from entigraph.analysis.referee.method_texts import measure_texts, method_protocols
from entigraph.analysis.referee.referee import Referee, general_text_tasks, mean_loss_change
from entigraph.analysis.study_runs import StudyRun
from entigraph.config.composition import home
from entigraph.config.fields import content_fields
from entigraph.errors import ConfigError, DataError
from entigraph.storage.artifact import content_key, write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, DocumentLoss
from entigraph.storage.texts import write_texts
from entigraph.tokenization.builders import ByteTokenizer
from tests.analysis.corpora import texts_about
from tests.analysis.studies import make_context, make_folder, make_run, study_folder
from tests.conftest import Command

TABLE = CostTable("2025-06-01", prompt=2.0, cached=1.0, completion=10.0, training=2.0)


# --- statistics ---


def simulate(
    rng: np.random.Generator,
    effects: dict[str, float],
    *,
    budgets: int = 3,
    seeds: int = 3,
    documents: int = 8,
    questions: int = 20,
    shared: bool = False,
    seed_noise: float = 0.03,
) -> list[CostLevel]:
    """Answers of methods whose accuracies differ by `effects`, with variance of documents, of their interaction with
    the method, of runs and of questions. `shared`: all seeds ask about the same documents.
    """
    difficulty = {seed: rng.normal(0, 0.1, documents) for seed in range(seeds)}
    taste = {(name, seed): rng.normal(0, 0.05, documents) for name in effects for seed in range(seeds)}
    if shared:
        difficulty = dict.fromkeys(difficulty, difficulty[0])
        taste = {(name, seed): taste[name, 0] for name, seed in taste}
    names = [[f"{0 if shared else seed}-{document}" for document in range(documents)] for seed in range(seeds)]
    levels = []
    for budget in range(budgets):
        answers: dict[str, dict[int, SeedAnswers]] = {}
        for name, effect in effects.items():
            for seed in range(seeds):
                run = rng.normal(0, seed_noise)
                chance = np.clip(0.4 + 0.08 * budget + effect + difficulty[seed] + taste[name, seed] + run, 0.02, 0.98)
                correct = (rng.random((questions, documents)) < chance).T.ravel().astype(float)
                asked = [document for document in names[seed] for _ in range(questions)]
                answers.setdefault(name, {})[seed] = SeedAnswers(correct, asked)
        levels.append(CostLevel(25_000.0 * 2**budget, answers))
    return levels


@pytest.mark.parametrize("shared", [False, True], ids=["documents of each seed", "shared documents"])
def test_intervals_cover_and_families_rarely_err(shared: bool) -> None:
    rng = np.random.default_rng(0)
    effects = {"raw": 0.0, "rephrase": 0.0, "entigraph": 0.0, "qa": 0.0}
    covered, comparisons, wrong = 0, 0, 0
    simulations = 300
    for _ in range(simulations):
        rows = compare_methods(simulate(rng, effects, shared=shared, budgets=1), "tokens", 0.9, 0.05)
        covered += sum(row.interval[0] <= 0 <= row.interval[1] for row in rows)
        comparisons += len(rows)
        wrong += any(row.significant for row in rows)
    assert 0.87 <= covered / comparisons <= 0.93, covered / comparisons
    assert wrong / simulations <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / simulations), wrong / simulations


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_coverage_and_family_wise_error_by_seeds(shared: bool, seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    truth = {"raw": 0.0, "rephrase": 0.06, "entigraph": 0.12}
    covered, comparisons, wrong = 0, 0, 0
    for _ in range(1_000):
        rows = compare_methods(simulate(rng, truth, shared=shared, seeds=seeds), "tokens", 0.9, 0.05)
        expected = [truth[row.one] - truth[row.other] for row in rows]
        covered += sum(row.interval[0] <= value <= row.interval[1] for row, value in zip(rows, expected, strict=True))
        comparisons += len(rows)
        null = compare_methods(
            simulate(rng, dict.fromkeys(truth, 0.0), shared=shared, seeds=seeds), "tokens", 0.9, 0.05
        )
        wrong += any(row.significant for row in null)
    kind = "shared documents" if shared else "documents of each seed"
    print(f"{kind}, {seeds} seeds: coverage {covered / comparisons:.3f}, family-wise error {wrong / 1_000:.3f}")
    assert 0.87 <= covered / comparisons <= 0.93, covered / comparisons
    assert wrong / 1_000 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 1_000), wrong / 1_000


def test_large_difference_is_significant_and_small_one_is_planned() -> None:
    levels = simulate(np.random.default_rng(1), {"raw": 0.0, "rephrase": 0.04, "entigraph": 0.35})
    rows = compare_methods(levels, "tokens", 0.9, 0.05)
    assert all(row.significant for row in rows if row.one == "entigraph" and row.other == "raw")
    others = [row for row in rows if not row.significant]
    assert others and all(row.needed_seeds is None or row.needed_seeds > 3 for row in others)
    assert any(row.needed_seeds for row in others)


def test_equal_document_ids_of_other_corpora_are_other_documents(tmp_path: Path) -> None:
    """Fictional corpora number their documents alike, whatever their seed."""
    rng = np.random.default_rng(0)
    runs = [make_run(tmp_path, name, 1_000, seed, 0.5, rng) for name in ("raw", "rephrase") for seed in (0, 1)]
    (shared,) = compare_methods(budget_levels(runs), "tokens", 0.9, 0.05)
    for run in runs:
        run.entry["corpus"] = f"corpus/fictional-{run.seed}"
    (own,) = compare_methods(budget_levels(runs), "tokens", 0.9, 0.05)
    assert (shared.documents, [*shared.parts]) == (10, ["seeds", "documents"])
    assert (own.documents, [*own.parts]) == (20, ["seeds"])


@pytest.mark.parametrize(
    ("seeds", "compared", "used", "note"),
    [
        ({"a": [0, 1, 2], "b": [0, 1, 2], "c": [0, 1], "d": [0, 1, 2]}, ["a", "b", "d"], [0, 1, 2],
         "c is left out: it has no run on the same questions of seed 2"),
        ({"a": [0, 1, 2], "b": [0, 1], "c": [0, 1]}, ["a", "b", "c"], [0, 1],
         "seed 2 is used for no method: only some have it (a)"),
        ({"a": [0, 1], "b": [0, 1], "c": []}, ["a", "b"], [0, 1], "c is left out: it has no run"),
        ({"a": [0], "b": [0, 1], "c": [0]}, ["a", "b", "c"], [0],
         "seed 1 is used for no method: only some have it (b)"),
    ],
    ids=["a missing seed", "an additional seed", "no run", "one common seed"],
)  # fmt: skip
def test_level_uses_the_seeds_that_most_methods_share(
    seeds: dict[str, list[int]], compared: list[str], used: list[int], note: str
) -> None:
    answers = {name: {seed: SeedAnswers(np.ones(2), ["x", "y"]) for seed in of} for name, of in seeds.items()}
    level = comparable_level(1.0, answers, all_measured=True)
    assert level.methods == compared and level.seeds == used and level.notes == [note]


def test_other_questions_about_the_same_documents_are_not_compared() -> None:
    answers = {name: {0: SeedAnswers(np.ones(2), ["x", "y"], key)} for name, key in (("a", 1), ("b", 1), ("c", 2))}
    level = comparable_level(1.0, answers)
    assert level.methods == ["a", "b"] and level.notes[0].startswith("c is left out")


def test_interpolated_levels_have_the_stated_error_rate() -> None:
    """Levels between two budgets interpolate the same runs: they use the variance of the measured levels."""
    rng = np.random.default_rng(0)
    simulations, covered, comparisons, wrong = 60, 0, 0, 0
    for _ in range(simulations):
        low, high = measured = simulate(rng, dict.fromkeys("abcdefg", 0.0), budgets=2, seeds=2)
        levels = [interpolate_level(low, high, share) for share in (0.4, 0.5, 0.6, 0.7, 0.8)]
        rows = compare_methods(levels, "dollars", 0.9, 0.05, seed_variance(measured))
        covered += sum(row.interval[0] <= 0 <= row.interval[1] for row in rows)
        comparisons += len(rows)
        wrong += any(row.significant for row in rows)
    assert covered / comparisons >= 0.88, covered / comparisons
    assert wrong / simulations <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / simulations), wrong / simulations


def interpolate_level(low: CostLevel, high: CostLevel, share: float) -> CostLevel:
    answers = {
        name: {
            seed: SeedAnswers((1 - share) * first.correct + share * high.answers[name][seed].correct, first.documents)
            for seed, first in by_seed.items()
        }
        for name, by_seed in low.answers.items()
    }
    return CostLevel(share, answers)


def test_one_seed_uses_the_variance_over_documents() -> None:
    (row,) = compare_methods(
        simulate(np.random.default_rng(2), {"a": 0.0, "b": 0.3}, seeds=1, budgets=1), "t", 0.9, 0.05
    )
    assert row.adjusted_p < 0.05 and [*row.parts] == ["documents"] and row.documents == 8
    assert not row.significant and "run two or more" in describe_needed_data(asdict(row)), (
        "the variance of training is unknown"
    )


def test_equal_answers_do_not_differ() -> None:
    answers = SeedAnswers(np.ones(10), [f"d{number}" for number in range(10)])
    (row,) = compare_methods([CostLevel(1.0, {"a": {0: answers}, "b": {0: answers}})], "tokens", 0.9, 0.05)
    assert row.difference == 0 and row.p == 1.0 and not row.significant and row.needed_documents is None


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_accuracy_interval_of_a_single_seed_is_clustered_by_document() -> None:
    correct = np.array([1.0] * 10 + [0.0] * 10)
    ((low, high),) = accuracy_intervals([[SeedAnswers(correct, ["a"] * 10 + ["b"] * 10)]], 0.9)
    assert (low, high) == (0.0, 1.0), "two documents say little"


# --- costs ---


def price_run(root: Path, run: StudyRun, synthesis_tokens: int = 0) -> None:
    """Completes the manifests of a run, with what the stages state about cost."""
    counts = {
        "training": {"tokens": 2 * run.budget, "parameters": 1_000_000},
        "tokens": {"synthetic_tokens": run.budget, "passes": 1.0},
        "evaluation": {},
    }
    if synthesis_tokens:
        written = {"prompt_tokens": 3_000_000, "cached_tokens": 1_000_000, "completion_tokens": 500_000}
        counts["synthesis"] = {"tokens": synthesis_tokens, **written, "dollars": 4.5}
        run.entry["synthesis"] = f"synthesis/{run.augmenter}"
        write_json(study_folder(root) / "runs" / f"{run.name}.json", run.entry)
    for stage, values in counts.items():
        folder = root / run.entry[stage]
        folder.mkdir(parents=True, exist_ok=True)
        manifest = {"stage": stage, "key": content_key(stage, {}, {}), "cache_key": {}, "inputs": {}, "files": {}}
        write_json(folder / "manifest.json", {**manifest, "counts": values})


def replace_count(folder: Path, **counts: int) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    write_json(folder / "manifest.json", {**manifest, "counts": {**manifest["counts"], **counts}})


def test_dollars_are_the_share_of_the_pool_and_the_training(tmp_path: Path) -> None:
    run = make_run(tmp_path, "entigraph", 50_000, 0, 0.5, np.random.default_rng(0))
    price_run(tmp_path, run, synthesis_tokens=200_000)
    cost = run_cost(run, TABLE)
    assert cost.writing_dollars == pytest.approx((2 * 2.0 + 1 * 1.0 + 0.5 * 10.0) / 4)
    assert cost.training_flops == 6 * 1_000_000 * 100_000
    assert cost.training_dollars == pytest.approx(6e11 / 1e18 * 2.0) and cost.dollars_paid == pytest.approx(4.5 / 4)


def test_cost_includes_students_and_the_measurement_of_their_losses(tmp_path: Path) -> None:
    run = make_run(tmp_path, "entigraph", 50_000, 0, 0.5, np.random.default_rng(0))
    price_run(tmp_path, run, synthesis_tokens=200_000)

    def add_input(folder: Path, counts: dict[str, object] | None = None, **inputs: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        manifest = json.loads((folder / "manifest.json").read_text()) if counts is None else {"counts": counts}
        write_json(folder / "manifest.json", {**manifest, "inputs": {k: {"folder": v} for k, v in inputs.items()}})

    add_input(tmp_path / run.entry["synthesis"], evaluation="losses", synthesis="first")
    add_input(tmp_path / "evaluation/losses", {"statement_loss": {"tokens": 3_000}}, training="student")
    add_input(tmp_path / "training/student", {"tokens": 10_000, "parameters": 1_000_000})
    add_input(tmp_path / "synthesis/first", {})
    cost = run_cost(run, TABLE)
    assert cost.measuring_flops == 2 * 1_000_000 * 3_000
    assert cost.training_flops == 6 * 1_000_000 * (100_000 + 10_000) + cost.measuring_flops
    add_input(tmp_path / "evaluation/losses", {"statement_loss": {}}, training="student")
    with pytest.raises(DataError, match="losses: the manifest does not state tokens; evaluate again"):
        run_cost(run, TABLE)


def test_pareto_front() -> None:
    points = [{"dollars": d, "accuracy": a} for d, a in ((1, 0.3), (2, 0.5), (2, 0.4), (3, 0.5), (4, 0.9), (0.5, 0.1))]
    assert pareto_front(points) == [5, 0, 1, 4]
    assert pareto_front(points, base_accuracy=0.3) == [1, 4], "the base model costs nothing"
    nearly_equal = [{"dollars": 1.0, "accuracy": 0.5}, {"dollars": 1.01, "accuracy": 0.6}]
    assert pareto_front(nearly_equal) == [1]
    named = [{**point, "method": f"m{number}"} for number, point in enumerate(points)]
    assert pareto_front(named, uncounted=["m5", "m4"]) == [0, 1], "their cost is unknown"


def test_training_of_an_adapter_computes_no_gradients_of_the_weights(tmp_path: Path) -> None:
    run = make_run(tmp_path, "entigraph", 50_000, 0, 0.5, np.random.default_rng(0))
    price_run(tmp_path, run)
    manifest = json.loads((run.folder("training") / "manifest.json").read_text())
    manifest["counts"]["trained_parameters"] = 10_000
    write_json(run.folder("training") / "manifest.json", manifest)
    assert run_cost(run, TABLE).training_flops == 4 * 1_000_000 * 100_000


def test_unknown_payment_is_not_free() -> None:
    costs = [RunCost(1.0, 1.0, 1.0, 0.0, 2.0, 0.5, paid) for paid in (3.0, None)]
    assert mean_cost(costs)["dollars_paid"] is None and mean_cost(costs[:1])["dollars_paid"] == 3.0
    assert mean_cost(costs)["dollars"] == 2.5


def test_answers_are_interpolated_between_measured_costs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    small, large = (make_run(tmp_path, "raw", budget, 0, 0.5, rng) for budget in (10_000, 40_000))
    measured = [(1.0, small), (4.0, large)]
    middle = interpolate(measured, 2.0)
    assert middle is not None
    assert middle.correct == pytest.approx((np.array(small.correct, float) + np.array(large.correct, float)) / 2)
    exact = interpolate(measured, 1.01)
    assert exact is not None and exact.correct == pytest.approx(np.array(small.correct, float))
    assert interpolate(measured, 0.5) is None and interpolate(measured, 8.0) is None
    largest = interpolate([(1.0, small), (1.0, large)], 1.0)
    assert largest is not None and largest.correct == pytest.approx(np.array(large.correct, float))


# --- the analysis ---


def referee(context: Any, **options: Any) -> tuple[Path, list[str]]:
    analysis = Referee(resamples=50, **options)
    output = analysis_output(analysis, context, content_fields(analysis))
    return output.folder, run_analysis(analysis, output, context)


def test_referee_writes_page_numbers_and_figure(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    accuracies = {"raw": 0.36, "rephrase": 0.37, "entigraph": 0.7}
    runs = [
        make_run(tmp_path, name, budget, seed, accuracy + 0.05 * (budget > 30_000), rng)
        for name, accuracy in accuracies.items()
        for budget in (25_000, 50_000)
        for seed in range(3)
    ]
    runs += [make_run(tmp_path, "entigraph", 100_000, seed, 0.85, rng) for seed in range(3)]
    for run in runs:
        price_run(tmp_path, run, synthesis_tokens=0 if run.augmenter == "raw" else 100_000)
        if (run.augmenter, run.budget) == ("rephrase", 50_000):
            replace_count(tmp_path / run.entry["tokens"], synthetic_tokens=48_000)
    folder, lines = referee(make_context(tmp_path, study_folder(tmp_path)))
    result = json.loads((folder / "referee.json").read_text())
    assert [point["method"] for point in result["points"]] == ["raw"] * 2 + ["rephrase"] * 2 + ["entigraph"] * 3
    tokens = [row for row in result["comparisons"] if row["equal"] == "tokens"]
    assert len(tokens) == 6 and {row["at"] for row in tokens} == {25_000, 50_000}
    for row in tokens:
        assert row["significant"] == (row["one"] == "entigraph"), row
        assert row["seeds"] == 3 and row["questions"] == 200, "the seeds share their questions"
    dollars = [row for row in result["comparisons"] if row["equal"] == "dollars"]
    assert {(row["one"], row["other"]) for row in dollars} == {("entigraph", "rephrase")}
    assert any("raw is not compared" in note for note in result["notes"]), "it costs only its training"
    assert result["points"][result["pareto"][-1]]["method"] == "entigraph" and result["pareto"][0] == 0
    forecasts = {forecast["method"]: forecast for forecast in result["forecasts"]}
    assert "need three" in forecasts["raw"]["missing"] and not forecasts["raw"]["targets"]
    below, reached, _ = forecasts["entigraph"]["targets"]
    assert below["below"] == 25_000 and below["tokens"] is None and below["dollars"] == [None] * 3
    assert reached["accuracy"] == 0.75 and 25_000 < reached["tokens"] < 90_000 and reached["dollars"][0] > 0
    (unmet,) = [note for note in result["notes"] if "than its budget" in note]
    assert unmet.startswith("rephrase has up to 4.0% fewer synthetic tokens than its budget (at 50,000)")
    page = (folder / "referee.html").read_text()
    assert "of them writing</th>" in page and "loss elsewhere" not in page and "known before" not in page
    assert "entigraph is better" in page and "not significant; " in page and "Prices of 2026-06" in page
    assert (folder / "referee.png").stat().st_size > 10_000
    assert any("at equal synthetic tokens: 4 of 6 differences are significant" in line for line in lines)
    assert "  at 50,000 (differences in percentage points):" in lines
    assert any(", without raw (differences" in line for line in lines), "at equal dollars, raw is not compared"


def test_released_texts_are_not_free(tmp_path: Path) -> None:
    """Texts that others wrote have no token counts: their cost is unknown, and they are on no front."""
    rng = np.random.default_rng(3)
    for name, accuracy in (("rephrase", 0.4), ("entigraph", 0.6), ("entigraph_release", 0.9)):
        for budget in (25_000, 50_000):
            for seed in (0, 1):
                run = make_run(tmp_path, name, budget, seed, accuracy, rng)
                price_run(tmp_path, run, synthesis_tokens=100_000)
        if name == "entigraph_release":
            folder = tmp_path / "synthesis" / name / "manifest.json"
            manifest = json.loads(folder.read_text())
            write_json(folder, {**manifest, "counts": {"tokens": 100_000, "prompt_tokens": 0, "dollars": 0.0}})
    folder, lines = referee(make_context(tmp_path, study_folder(tmp_path)))
    result = json.loads((folder / "referee.json").read_text())
    assert any(
        note.startswith("The texts of entigraph_release were written at an unknown cost") for note in result["notes"]
    )
    assert "entigraph_release" not in {result["points"][index]["method"] for index in result["pareto"]}
    assert {row["one"] for row in result["comparisons"] if row["equal"] == "dollars"} == {"entigraph"}
    assert any("charged 0.4 times the price" in note for note in result["notes"]), "4.5 of 11.25 dollars"


def test_point_states_its_own_losses_and_counts_unparsed_answers(tmp_path: Path) -> None:
    """Accuracy is over all questions, also where the task's own leaves out answers that cannot be parsed."""
    rng = np.random.default_rng(0)
    runs = [make_run(tmp_path, name, 1_000, 0, 0.5, rng) for name in ("raw", "rephrase")]
    for run in runs:
        price_run(tmp_path, run)
        losses = {"documents have no synthetic text": {"count": 3, "total": 10}} if run.augmenter == "raw" else {}
        score = {**run.score, "accuracy": 0.99, "data_losses": losses}
        write_json(run.folder("evaluation") / "scores.json", {"closed_book": score})
    folder, _ = referee(make_context(tmp_path, study_folder(tmp_path)))
    raw, rephrase = json.loads((folder / "referee.json").read_text())["points"]
    assert raw["accuracy"] == np.mean(runs[0].correct) and raw["interval"][0] < raw["accuracy"] < raw["interval"][1]
    assert raw["data_losses"] and not rephrase["data_losses"]
    assert (folder / "referee.html").read_text().count("documents have no synthetic text") == 1


def test_referee_needs_two_augmenters(tmp_path: Path) -> None:
    make_run(tmp_path, "raw", 25_000, 0, 0.5, np.random.default_rng(0))
    with pytest.raises(DataError, match="runs of two or more augmenters are needed, got raw"):
        referee(make_context(tmp_path, study_folder(tmp_path)))


def lab(root: Path, methods: dict[str, float], seeds: Sequence[int], **settings: Any) -> Path:
    """The output folder of a lab: runs of each method with two budgets, and the settings of their study."""
    rng = np.random.default_rng([*seeds, len(methods)])
    for name, accuracy in methods.items():
        for budget in (25_000, 50_000):
            for seed in seeds:
                price_run(root, make_run(root, name, budget, seed, accuracy, rng))
    write_json(study_folder(root) / "settings.json", {"optim": {"lr": 1e-4, "betas": [0.9, 0.99]}, **settings})
    return root


def test_studies_of_two_labs_merge_into_one_page(tmp_path: Path) -> None:
    ours = lab(tmp_path / "ours", {"raw": 0.35, "rephrase": 0.5}, seeds=[0, 1])
    theirs = lab(tmp_path / "theirs", {"raw": 0.35, "entigraph": 0.8}, seeds=[0, 1])
    study_folder(theirs).rename(theirs / "studies" / "another-name-00000000")
    folder, lines = referee(make_context(ours, study_folder(ours)), merge=[str(theirs)])
    result = json.loads((folder / "referee.json").read_text())
    assert result["methods"] == ["raw", "rephrase", "entigraph"]
    assert [point["seeds"] for point in result["points"]] == [2] * 6, "a run that both have counts once"
    assert sum("is newer" in note for note in result["notes"]) == 4
    assert sum(result["folders"].values()) == 12 and set(result["folders"]) == {str(ours), str(theirs)}
    pairs = {(row["one"], row["other"]) for row in result["comparisons"] if row["equal"] == "tokens"}
    assert ("entigraph", "rephrase") in pairs and f"{theirs}" in (folder / "referee.html").read_text()
    alone, _ = referee(make_context(ours, study_folder(ours)))
    assert alone != folder and "entigraph" not in json.loads((alone / "referee.json").read_text())["methods"]
    assert any(line.startswith(f"{ours}: ") for line in lines)


def test_methods_of_two_labs_that_vary_a_setting_are_two_series(tmp_path: Path) -> None:
    ours = lab(tmp_path / "ours", {"raw": 0.35, "entigraph": 0.5}, seeds=[0])
    theirs = lab(tmp_path / "theirs", {"entigraph": 0.8}, seeds=[0])
    for root, epochs in ((ours, 2), (theirs, 4)):
        for file in (study_folder(root) / "runs").glob("entigraph-*.json"):
            entry = json.loads(file.read_text())
            write_json(file, {**entry, "varies": {"trainer.max_epochs": epochs}})
    folder, _ = referee(make_context(ours, study_folder(ours)), merge=[str(theirs)])
    methods = json.loads((folder / "referee.json").read_text())["methods"]
    assert methods == ["raw", "entigraph max_epochs=2", "entigraph max_epochs=4"]


def test_other_protocols_raise_one_error_with_their_differences(tmp_path: Path) -> None:
    ours = lab(tmp_path / "ours", {"raw": 0.35, "rephrase": 0.5}, seeds=[0], data={"context_length": 256})
    theirs = lab(tmp_path / "theirs", {"entigraph": 0.8}, seeds=[0], data={"context_length": 512}, engine="vllm")
    with pytest.raises(DataError) as error:
        referee(make_context(ours, study_folder(ours)), merge=[str(theirs)])
    assert str(error.value).splitlines()[1:3] == [
        "  - data.context_length: 256 here, 512 there",
        "  - engine: not set here, vllm there",
    ]
    assert "optim.lr" not in str(error.value) and "settings of the other" in str(error.value)
    with pytest.raises(DataError, match=r"analysis\.merge: .*nowhere contains no study"):
        referee(make_context(ours, study_folder(ours)), merge=[str(tmp_path / "nowhere")])


def test_forgetting_is_the_change_of_loss_on_general_text(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, "raw", budget, 0, 0.5, np.random.default_rng(0)) for budget in (10_000, 20_000)]
    for number, run in enumerate(runs):
        run.entry["baseline"] = "evaluation/base"
        for place, nats in ((run.entry["evaluation"], 120.0 + 10 * number), ("evaluation/base", 100.0)):
            folder = make_folder(tmp_path / place)
            for task in ("general", "own"):
                loss = DocumentLoss(document_id="d", nats=nats, tokens=10, unscored=0, bytes=50)
                write_jsonl(folder / f"losses-{task}.jsonl", [loss])
            score = {"nats_per_token": nats / 10, "bits_per_byte": nats / 50}
            scores = {"closed_book": run.score, "general": score, "own": score}
            write_json(folder / "scores.json", scores)
            write_json(folder / "manifest.json", {"counts": {}})
        run.__dict__.pop("scores", None)
    tasks = general_text_tasks({"questions.general": "news-00000000", "tasks.own.limit": None})
    assert tasks == {"general"}, "the loss on the documents themselves is no forgetting"
    assert mean_loss_change(runs[:1], tasks) == pytest.approx(20 / 50 / np.log(2))
    assert mean_loss_change(runs, tasks) == pytest.approx(25 / 50 / np.log(2))
    assert mean_loss_change(runs, set()) is None


def test_texts_have_overlap_and_diversity(tmp_path: Path) -> None:
    """A method that copies the document and one that repeats a phrase, in bytes; raw has no written texts."""
    document = "The lamp of Orsk was lit in 1901, and Miriam Vale kept it for forty years beside the gray sea."
    texts = {"rephrase": [document] * 6, "entigraph": [f"abcd{number}" * 30 for number in range(6)]}
    ByteTokenizer().build(make_folder(tmp_path / "tokenizer" / "bytes-00000000"))
    make_folder(tmp_path / "corpus" / "c-00000000")
    write_jsonl(tmp_path / "corpus/c-00000000/documents.jsonl", [Document(id="d", title="d", text=document)])
    runs = [make_run(tmp_path, name, 25_000, 0, 0.5, np.random.default_rng(0)) for name in ("raw", *texts)]
    for run in runs:
        if run.augmenter in texts:
            folder = make_folder(tmp_path / "synthesis" / run.augmenter)
            run.entry["synthesis"] = f"synthesis/{run.augmenter}"
            write_texts(
                folder, texts_about([("d", "k", text) for text in texts[run.augmenter]], augmenter=run.augmenter)
            )
            write_json(folder / "manifest.json", {
                "stage": "synthesis", "cache_key": {"llm": {}, "augmenter": {"name": run.augmenter, "rounds": 3}},
                "inputs": {"corpus": {"folder": "c-00000000"}, "tokenizer": {"folder": "bytes-00000000"}},
                "counts": {"texts": 5, "removed": 1, "near_duplicates": 5 if run.augmenter == "rephrase" else 0},
            })  # fmt: skip
    copied, repeated = measure_texts(runs)
    assert (copied["method"], repeated["method"]) == ("rephrase", "entigraph")
    assert copied["overlap"] > 0.9 and repeated["overlap"] == 0.0 and copied["overlap_stderr"] is None
    assert copied["sampled_tokens"] == repeated["sampled_tokens"] > 500
    length = len(document) + 1  # the tokenizer begins a text with a space
    assert copied["distinct"] == pytest.approx((length - 3) / (6 * (length - 3)), rel=0.1)
    assert 0 < repeated["distinct"] < 0.1
    assert (copied["near_duplicates"], repeated["near_duplicates"]) == (5 / 6, 0.0)
    protocol = method_protocols(runs)
    assert protocol["rephrase"]["augmenter.rounds"] == 3 and protocol["raw"]["budgets"] == [25_000]


@pytest.mark.slow
def test_referee_of_a_finished_study(smoke: Path, command: Command, tmp_path: Path) -> None:
    outputs = shutil.copytree(smoke, tmp_path / "outputs")
    result = command("analyze", "experiments=smoke", "analysis=referee", f"paths.root={outputs}", "logger=none")
    assert result.returncode == 0 and "at equal trained tokens" in result.stdout, result.stderr
    assert "note: One seed: the differences between training runs are unknown" in result.stdout


def test_prices_are_the_list_prices_of_the_writer() -> None:
    table = Referee().cost_table(["gpt-4o-mini"])
    assert (table.model, table.prompt, table.cached, table.completion) == ("gpt-4o-mini", 0.15, 0.075, 0.6)
    assert Referee().cost_table(["the offline writer"]).model == "gpt-4o"
    assert Referee().cost_table(["gpt-4o-mini", "gpt-4.1"]).model == "gpt-4o"
    assert Referee(prompt_price=1.0).cost_table(["gpt-4o-mini"]).prompt == 1.0
    file = home() / "conf" / "llm" / "openai.yaml"
    assert f"list prices as of {Referee().price_date}" in file.read_text(), "the date of the table"


def test_invalid_options() -> None:
    with pytest.raises(ConfigError, match=r"analysis\.alpha must be .*, got 2"):
        Referee(alpha=2.0)
    with pytest.raises(ConfigError, match=r"analysis\.training_price must be at least 0, got -1"):
        Referee(training_price=-1.0)
