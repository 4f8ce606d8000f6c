import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from entigraph.analysis.study_runs import StudyRun
from entigraph.analysis.theory.coverage import (
    Coverage,
    EntityIndex,
    load_coverage,
    load_source_graphs,
    measure_runs,
)
from entigraph.errors import DataError
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText
from entigraph.storage.texts import write_texts
from tests.analysis.studies import make_context
from tests.conftest import Command, study_of


def write_run(root: Path) -> StudyRun:
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
    entry = {part: f"{part}/x" for part in ("corpus", "synthesis", "tokens", "evaluation")}
    return StudyRun(root, {**entry, "augmenter": "entigraph", "seed": 0, "budget": 200, "label": None})


def test_entities_are_matched_as_words_within_a_sentence() -> None:
    index = EntityIndex(["Ann", "Bob", "Ann Lee", "C++"])
    assert index.pairs_together("Ann Lee met BOB.", 1) == {(1, 2)}, "the longest name counts"
    assert index.pairs_together("Annabel met Bob. Ann slept.", 1) == set()
    assert index.pairs_together("Bob woke. Ann slept.", 2) == {(0, 1)}, "in two successive sentences"
    assert index.pairs_together("Bob likes C++, too.", 1) == {(1, 3)}
    assert index.requested_pairs(["Bob", "Ann", "Zoe"]) == {(0, 1)}


def test_coverage_matches_manual_calculation(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    sources = load_source_graphs([run], Coverage())
    (source,) = sources.values()
    assert source.stated.sum() == 4, "Ann-Bob and Bob-Cy, both ways"
    assert source.growth.start == pytest.approx(4 / 6) and source.growth.limit == 1
    corpus = load_coverage(run, sources, Coverage())
    assert corpus.rounds.tolist() == [2 + 6], "two ordered pairs, then six"
    at = np.array([0.0, 100.0, 200.0])
    requested = corpus.covered(corpus.requested, at, draws=5, seed=0)
    assert requested == pytest.approx([4 / 6, 1, 1]), "the prompt of either text requested Ann and Cy"
    stated = corpus.covered(corpus.stated, at, draws=200, seed=0)
    assert stated[0] == pytest.approx(4 / 6) and stated[2] == 1
    assert stated[1] == pytest.approx((4 / 6 + 1) / 2, abs=0.04), "only one of the two names both in one sentence"
    assert corpus.predicted(at)[0] == pytest.approx(4 / 6)
    assert corpus.predicted(at)[2] == pytest.approx(4 / 6 + 2 / 6 * (1 - (5 / 6) ** 8))
    (part,) = measure_runs([run], Coverage(texts=1))
    assert (part["texts_read"], part["texts"]) == (1, 2), "unread texts are counted"
    (row,) = measure_runs([run], Coverage())
    assert row["requested"] == row["stated"] == 1 and row["predicted"] == pytest.approx(corpus.predicted(at)[2])


def test_graphs_of_document_parts_are_merged(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    parts = [
        EntityGraph(document_id=f"d#{number}", summary="", entities=entities)
        for number, entities in enumerate((["Ann", "Bob"], ["bob", "Cy"]), 1)
    ]
    write_jsonl(run.folder("synthesis") / "graphs.jsonl", parts)
    (source,) = load_source_graphs([run], Coverage()).values()
    assert source.index.entities == ["ann", "bob", "cy"] and source.stated.sum() == 4


def test_coverage_needs_an_entity_graph(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_jsonl(run.folder("synthesis") / "graphs.jsonl", [])
    with pytest.raises(DataError, match="no run of these documents has an entity graph"):
        measure_runs([run], Coverage())
    with pytest.raises(DataError, match="no finished run"):
        Coverage().inputs(make_context(tmp_path))


def test_command_measures_the_coverage_of_a_finished_study(smoke: Path, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "moved"
    shutil.copytree(smoke, root)
    before = (study_of(root) / "manifest.json").read_text()
    process = command("analyze", "experiments=smoke", "analysis=coverage", f"paths.root={root}")
    assert process.returncode == 0, process.stderr
    (folder,) = (root / "analysis").glob("coverage-smoke-*")
    result = json.loads((folder / "coverage.json").read_text())
    assert len(result["rows"]) == 6 and result["base"] is not None and str(folder / "coverage.png") in process.stdout
    entigraph = [row for row in result["rows"] if row["augmenter"] == "entigraph"]
    assert entigraph[0]["source"] < entigraph[0]["stated"] <= entigraph[1]["stated"] <= 1
    assert all(0 < row["predicted"] <= row["limit"] for row in entigraph)
    assert all(row["predicted"] is None for row in result["rows"] if row["augmenter"] != "entigraph")
    assert (study_of(root) / "manifest.json").read_text() == before, "the curve is unchanged"
