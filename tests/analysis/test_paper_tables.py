"""The paper's tables and a study's own below them; grids of settings; documents by size."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entigraph.analysis.examinations import SyntheticCorpus
from entigraph.analysis.paper.paper_settings import Grid, Histograms, PaperCurve, RagTable
from entigraph.analysis.paper.tables import write_table
from entigraph.analysis.scaling.scaling_figure import scaling_curve
from entigraph.analysis.scaling.stage import described
from entigraph.analysis.settings import ScalingCurve
from entigraph.analysis.study_runs import FinishedRun, finished
from entigraph.errors import ConfigError, DataError
from entigraph.llm.response_cache import ResponseCache
from entigraph.reporting.figures import style
from entigraph.storage.artifact import write_json
from entigraph.storage.jsonl import write_jsonl
from entigraph.storage.schemas import EntityGraph
from entigraph.tokenization.tokenizer import Bytes
from tests.analysis.corpora import a_corpus, texts_about
from tests.analysis.studies import a_run


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_table_is_text_csv_and_markdown(tmp_path: Path) -> None:
    told = write_table(
        tmp_path, "t", {"name": "", "share": ".1%", "count": ","}, [("a, b", 0.12345, 1000), ("c", None, 2)]
    )
    assert told == ["name  share  count", "a, b  12.3%  1,000", "c                2"]
    assert (tmp_path / "t.md").read_text().splitlines()[1:3] == ["| --- | ---: | ---: |", "| a, b | 12.3% | 1,000 |"]
    assert rows_of(tmp_path / "t.csv")[0] == {"name": "a, b", "share": "0.12345", "count": "1000"}, "not rounded"


def test_a_figure_that_the_paper_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="'fig_11' found, one of scaling_with_baselines, weak_writer, coursera, qa"):
        PaperCurve(name="fig_11")


def test_what_the_paper_only_draws_is_said_and_not_made_up(tmp_path: Path) -> None:
    told = PaperCurve(name="weak_writer").draw([], tmp_path)
    assert any("Llama 3.1 8B, 334M tokens >0.5130" in line for line in told), "no number is printed, only a bound"
    assert "printed nowhere as numbers: EntiGraph and Rephrase by Llama 3.1 8B" in told[-1]
    assert "fit" not in json.loads(coursera(tmp_path).read_text())["paper"], "that fit is of other questions"


def coursera(out: Path) -> Path:
    PaperCurve(name="coursera").draw([], out)
    return out / "coursera.json"


def in_a_grid(root: Path, settings: list[dict[str, Any]], accuracies: list[float]) -> list[FinishedRun]:
    """One run for each of the settings, as their study tells them apart."""
    rng = np.random.default_rng(0)
    for number, (varies, accuracy) in enumerate(zip(settings, accuracies, strict=True)):
        run = a_run(root, "entigraph", 1000 + number, 0, accuracy, rng)
        file = root / "studies" / "s-00000000" / "runs" / f"{run.name}.json"
        file.write_text(json.dumps({**run.member, "budget": 1000, "varies": varies}))
    return finished(root / "studies" / "s-00000000", root)[0]


def test_a_grid_has_a_panel_for_every_third_setting_and_names_its_best(tmp_path: Path) -> None:
    places = [(k, size, order) for k in (1, 2, 16) for size in (256, 1024) for order in ("best_first", "best_last")]
    runs = in_a_grid(
        tmp_path / "root",
        [{"tasks": {"t": {"k": k, "order": order}}, "retriever": {"characters": size}} for k, size, order in places],
        [0.9 if place == (16, 256, "best_last") else 0.3 for place in places],
    )
    told = Grid().draw(runs, tmp_path)
    assert told[-1].startswith("highest accuracy: 0.") and "k=16" in told[-1] and "characters=256" in told[-1]
    assert "order=best_last" in told[-1]
    rows = rows_of(tmp_path / "grid.csv")
    assert len(rows) == len(places) and [row["k"] for row in rows[::4]] == ["1", "2", "16"], "in the order of numbers"
    drawn = (tmp_path / "grid.svg").read_text()
    assert "characters = 256" not in drawn or "order = best_first" not in drawn, "two settings are axis and lines"


def test_a_study_without_a_grid_is_told_how_to_make_one(tmp_path: Path) -> None:
    run = a_run(tmp_path / "root", "entigraph", 1000, 0, 0.5, np.random.default_rng(0))
    with pytest.raises(DataError, match="no two finished runs that differ in a setting"):
        Grid().draw([run], tmp_path)


@pytest.mark.parametrize(("lines", "listed"), [(3, True), (12, True), (30, False)])
def test_a_curve_of_more_lines_than_can_be_listed_points_to_the_grid(lines: int, listed: bool, tmp_path: Path) -> None:
    runs = in_a_grid(tmp_path / "root", [{"rate": number} for number in range(lines)], [0.5] * lines)
    curve = described(tmp_path / "root" / "studies" / "s-00000000", runs, [], ScalingCurve(resamples=2))
    scaling_curve({**curve, "baselines": []}, tmp_path, "title")
    drawn = (tmp_path / "curve.svg").read_text()
    assert ("EntiGraph rate=2" in drawn) is listed and ("30 lines: analysis=grid" in drawn) is not listed


def test_no_two_of_forty_lines_look_alike() -> None:
    assert len({style(f"entigraph rate={number}", number) for number in range(40)}) == 40
    known = {style(name, 0) for name in ("entigraph", "rephrase", "raw")}
    assert not known & {style("other", number) for number in range(40)}


def opened(run: FinishedRun, accuracy: float, recall: float) -> FinishedRun:
    file = run.folder("evaluation") / "scores.json"
    closed = json.loads(file.read_text())["closed_book"]
    found = {"article": {"recall": recall, "questions": 200}, "evidence": {"recall": None, "questions": 0}}
    open_book = {**closed, "accuracy": accuracy, "overflowed": 0, "retrieval": found}
    write_json(file, {"closed_book": {**closed, "overflowed": 0}, "open_book": open_book})
    return FinishedRun(run.root, run.member)


def test_the_table_of_retrieval_has_the_papers_rows_and_the_studys(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    runs = [opened(a_run(tmp_path / "root", "entigraph", 1000, seed, 0.5, rng), 0.75, 0.9) for seed in (0, 1)]
    told = RagTable().draw(runs, tmp_path)
    rows = rows_of(tmp_path / "rag_table.csv")
    assert [row["accuracy"] for row in rows] == ["0.626", "0.6035", "0.8609", "0.726", "0.75"]
    own = rows[-1]
    closed = np.mean([run.scores["closed_book"]["accuracy"] for run in runs])
    assert float(own["gain"]) == pytest.approx(0.75 - closed) and own["recall of articles"] == "0.9"
    assert own["questions"] == "400" and told[-1] == "best of entigraph: entigraph, open_book: 0.7500"


def test_a_study_that_retrieved_nothing_is_told_so(tmp_path: Path) -> None:
    run = a_run(tmp_path / "root", "entigraph", 1000, 0, 0.5, np.random.default_rng(0))
    assert "no run of this study was asked with passages" in RagTable().draw([run], tmp_path)[-1]


def test_documents_are_counted_by_size_entities_and_synthetic_tokens(tmp_path: Path) -> None:
    folder = tmp_path / "bytes"
    folder.mkdir()
    Bytes().make(folder)
    texts = texts_about([("a", "pair", "x" * 10), ("a", "pair", "y" * 5), ("b", "pair", "z")])
    corpus: SyntheticCorpus = a_corpus(tmp_path / "c", {"a": "1234", "b": "123456", "c": "12"}, texts, folder)
    graphs = [("a#1", ["Ann", "Bob"]), ("a#2", ["bob", "Cy"]), ("b", ["Ann"])]
    write_jsonl(
        corpus.folder / "graphs.jsonl",
        [EntityGraph(document_id=name, summary="", entities=entities) for name, entities in graphs],
    )
    out = tmp_path / "out"
    out.mkdir()
    Histograms().examine([corpus], out, ResponseCache, print)  # type: ignore[arg-type]
    (counted,) = json.loads((out / "histograms.json").read_text())["corpora"].values()
    assert counted["source_tokens"] == {"a": 5, "b": 7, "c": 3}, "the tokenizer begins a text with a space"
    assert counted["entities"] == {"a": 3, "b": 1, "c": 0}, "those of a document's parts are one"
    assert counted["synthetic_tokens"] == {"a": 15, "b": 1, "c": 0}, "a document without texts counts"
