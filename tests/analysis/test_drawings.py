import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from entigraph.analysis import drawings
from entigraph.analysis.paper.paper_settings import MixtureFit, PaperCurve, RagTable, Survey
from entigraph.analysis.paper.published import CURVES
from entigraph.analysis.settings import Coverage, Drawing, GraphFamilies, ToyModel
from entigraph.analysis.study_runs import FinishedRun, finished
from entigraph.analysis.theory.coverage import EntityIndex, corpus_of, measured, sources_of
from entigraph.errors import ConfigError, DataError
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText
from entigraph.storage.texts import write_texts
from entigraph.tracking.base import NoTracker
from tests.conftest import Command, study_of

SMALL = [ToyModel(graphs=2, simulations=4), GraphFamilies(vertices=60, graphs=1), MixtureFit(), Survey(), RagTable()]
SMALL += [PaperCurve(name=name) for name in CURVES]


def drawn(settings: Drawing, study: Path, root: Path) -> tuple[Path, list[str]]:
    found = drawings.artifact_of(settings, study, root)
    return found.folder, drawings.run(settings, found, study, NoTracker())


@pytest.mark.parametrize("settings", SMALL, ids=lambda settings: settings.name)
def test_each_figure_is_drawn_once_without_any_study(settings: Drawing, tmp_path: Path) -> None:
    folder, told = drawn(settings, tmp_path / "studies" / "none-0", tmp_path)
    for suffix in ("png", "svg", "json"):
        file = folder / f"{settings.name}.{suffix}"
        assert file.stat().st_size > 400 and told[-6:].count("") == 1 and str(file) in told
    json.loads((folder / f"{settings.name}.json").read_text())
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert drawn(settings, tmp_path / "studies" / "none-0", tmp_path) == (folder, told)
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_another_setting_is_another_folder(tmp_path: Path) -> None:
    study = tmp_path / "studies" / "none-0"
    first, second = (drawings.artifact_of(ToyModel(seed=seed), study, tmp_path).folder for seed in (0, 1))
    assert first != second
    for wrong in ({"mean_degree": 1.0}, {"vertices": 5}, {"graphs": 0}, {"simulations": 1}):
        with pytest.raises(ConfigError):
            ToyModel(**wrong)


def test_the_toy_models_simulation_is_within_three_errors_of_the_exact_line(tmp_path: Path) -> None:
    folder, told = drawn(ToyModel(graphs=4, simulations=80), tmp_path / "none", tmp_path)
    table = json.loads((folder / "toy_model.json").read_text())["table"]
    z = (np.array(table["simulated"]) - table["exact_there"])[1:] / np.array(table["simulated_error"])[1:]
    assert (np.abs(z[:3]) < 3).all() and table["exact"][-1] < table["branching"][-1]
    assert "9,900 ordered pairs" in told[0]


def a_corpus(root: Path) -> FinishedRun:
    """One document in which Ann knows Bob and Bob knows Cy; texts about (Ann, Cy), then about all three."""
    for part in ("corpus", "synthesis", "tokens", "evaluation"):
        (root / part / "x").mkdir(parents=True)
    document = Document(
        id="d", title="Ann and Bob", text="ANN met Bob. Bob met Cyclops; he met Cy. Annabel met nobody."
    )
    write_jsonl(root / "corpus" / "x" / "documents.jsonl", [document])
    graph = EntityGraph(document_id="d", summary="", entities=["Ann", "Bob", "Cy"])
    write_jsonl(root / "synthesis" / "x" / "graphs.jsonl", [graph])
    texts = [
        SyntheticText(
            id=str(number), document_id="d", augmenter="entigraph", kind="pair", about=about, sample=0, text=text,
            writer="w", prompt_hash="", tokens=100,
        )
        for number, (about, text) in enumerate(
            [(["Ann", "Cy"], "Ann is here. Cy is there."), (["Ann", "Bob", "Cy"], "Ann, Bob and Cy met.")]
        )
    ]  # fmt: skip
    write_texts(root / "synthesis" / "x", texts)
    write_json(root / "synthesis" / "x" / "manifest.json", {"counts": {"texts": 2}})
    write_json(root / "tokens" / "x" / "manifest.json", {"counts": {"synthetic_tokens": 200}})
    share = {"accuracy": 0.5, "stderr": 0.1, "questions": 4, "groups": {}}
    write_json(root / "evaluation" / "x" / "scores.json", {"closed_book": share})
    member = {part: f"{part}/x" for part in ("corpus", "synthesis", "tokens", "evaluation")}
    return FinishedRun(root, {**member, "augmenter": "entigraph", "seed": 0, "budget": 200, "label": None})


def test_entities_are_found_as_words_in_one_sentence() -> None:
    index = EntityIndex(["Ann", "Bob", "Ann Lee", "C++"])
    assert index.together("Ann Lee met BOB.", 1) == {(1, 2)}, "the longest name counts"
    assert index.together("Annabel met Bob. Ann slept.", 1) == set()
    assert index.together("Bob woke. Ann slept.", 2) == {(0, 1)}, "in two successive sentences"
    assert index.together("Bob likes C++, too.", 1) == {(1, 3)}
    assert index.asked(["Bob", "Ann", "Zoe"]) == {(0, 1)}


def test_coverage_of_a_corpus_is_as_by_hand(tmp_path: Path) -> None:
    run = a_corpus(tmp_path)
    sources = sources_of([run], Coverage())
    (source,) = sources.values()
    assert source.stated.sum() == 4, "Ann-Bob and Bob-Cy, both ways"
    assert source.growth.start == pytest.approx(4 / 6) and source.growth.limit == 1
    corpus = corpus_of(run, sources, Coverage())
    assert corpus.rounds.tolist() == [2 + 6], "two ordered pairs, then six"
    at = np.array([0.0, 100.0, 200.0])
    asked = corpus.covered(corpus.asked, at, draws=5, seed=0)
    assert asked == pytest.approx([4 / 6, 1, 1]), "either text was asked about Ann and Cy"
    stated = corpus.covered(corpus.stated, at, draws=200, seed=0)
    assert stated[0] == pytest.approx(4 / 6) and stated[2] == 1
    assert stated[1] == pytest.approx((4 / 6 + 1) / 2, abs=0.04), "only one of the two names both in one sentence"
    assert corpus.predicted(at)[0] == pytest.approx(4 / 6)
    assert corpus.predicted(at)[2] == pytest.approx(4 / 6 + 2 / 6 * (1 - (5 / 6) ** 8))
    (part,) = measured([run], Coverage(texts=1))
    assert (part["texts_read"], part["texts"]) == (1, 2), "what was not read is counted"
    (row,) = measured([run], Coverage())
    assert row["asked"] == row["stated"] == 1 and row["predicted"] == pytest.approx(corpus.predicted(at)[2])


def test_the_graphs_of_a_documents_parts_are_one(tmp_path: Path) -> None:
    run = a_corpus(tmp_path)
    parts = [
        EntityGraph(document_id=f"d#{number}", summary="", entities=entities)
        for number, entities in enumerate((["Ann", "Bob"], ["bob", "Cy"]), 1)
    ]
    write_jsonl(run.folder("synthesis") / "graphs.jsonl", parts)
    (source,) = sources_of([run], Coverage()).values()
    assert source.index.entities == ["ann", "bob", "cy"] and source.stated.sum() == 4


def test_without_an_entity_graph_there_is_no_coverage(tmp_path: Path) -> None:
    run = a_corpus(tmp_path)
    write_jsonl(run.folder("synthesis") / "graphs.jsonl", [])
    with pytest.raises(DataError, match="no run of these documents has an entity graph"):
        measured([run], Coverage())
    with pytest.raises(DataError, match="no finished run"):
        drawn(Coverage(), tmp_path / "studies" / "none-0", tmp_path)


def test_a_finished_study_is_laid_over_theory_by_one_command(smoke: Path, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    before = (study_of(root) / "manifest.json").read_text()
    done = command("analyze", "experiments=smoke", "analysis=coverage", f"paths.root={root}")
    assert done.returncode == 0, done.stderr
    (folder,) = (root / "analysis").glob("coverage-smoke-*")
    result = json.loads((folder / "coverage.json").read_text())
    assert len(result["rows"]) == 6 and result["base"] is not None and str(folder / "coverage.png") in done.stdout
    entigraph = [row for row in result["rows"] if row["augmenter"] == "entigraph"]
    assert entigraph[0]["source"] < entigraph[0]["stated"] <= entigraph[1]["stated"] <= 1
    assert all(0 < row["predicted"] <= row["limit"] for row in entigraph)
    assert all(row["predicted"] is None for row in result["rows"] if row["augmenter"] != "entigraph")
    assert (study_of(root) / "manifest.json").read_text() == before, "the curve is left alone"


def test_the_papers_figures_take_a_study_beside_them(smoke: Path, tmp_path: Path) -> None:
    runs, _ = finished(study_of(smoke), smoke)
    told = [*MixtureFit().draw(runs, tmp_path), *PaperCurve(name="scaling_with_baselines").draw(runs, tmp_path)]
    assert "this study: exponentials_3: 7 parameters need more than 2 budgets" in told
    assert "This study" in (tmp_path / "mixture_fit.svg").read_text()
    assert "tiny model" in (tmp_path / "scaling_with_baselines.svg").read_text()
    assert json.loads((tmp_path / "mixture_fit.json").read_text())["largest_relative_error"] < 1e-6
