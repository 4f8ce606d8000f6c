"""What the web app shows."""

from pathlib import Path
from xml.etree import ElementTree

from entigraph.reporting.entity_graph import layout_graph
from entigraph.storage.schemas import Document, EntityGraph, SyntheticText
from entigraph.ui import views
from tests.chat.finished_runs import HOSTILE, RUN, TEXTS
from tests.conftest import study_of


def test_study_shows_its_curve_and_table(smoke: Path) -> None:
    (name,) = views.list_studies(smoke)
    view = views.view_study(smoke, name)
    assert view.summary.startswith("Question: How does the accuracy of closed_book change")
    assert "6 of 6 runs are finished." in view.summary and view.curve.startswith('<img src="data:image/svg+xml;base64,')
    assert "augmenter" in view.headings and len(view.rows) == 7
    assert view.report == str(study_of(smoke) / "report.html")


def test_study_without_a_curve_shows_next_command(outputs: Path) -> None:
    view = views.view_study(outputs, "lamps-00000005")
    assert view.summary == "0 of 0 runs are finished. There is no curve yet: run entigraph analyze."


def test_running_jobs_are_listed_with_their_progress(outputs: Path) -> None:
    ((sweep, job, state, doing, updated),) = views.list_jobs(outputs)
    assert (sweep, job, state, doing) == ("lamps", "lamps-seed0", "running", "training:   2%") and updated.endswith(
        " s ago"
    )


def test_models_and_texts(outputs: Path) -> None:
    assert RUN in views.list_models(outputs)
    (corpus,) = views.list_corpora(outputs)
    assert len(views.list_texts(outputs, corpus, "", 1)) == len(TEXTS) and not views.list_texts(outputs, corpus, "", 2)
    (row,) = views.list_texts(outputs, corpus, "tobias LIVED", 1)
    assert row[:3] == ["4", "loom", "pair"]
    text, source = views.show_text(outputs, corpus, 4)
    assert text.startswith("loom/3\n\nTobias lived in Orsk.") and source.startswith(f"Loom {HOSTILE}")
    assert views.show_text(outputs, corpus, 5) == ("", "")


def test_entity_graph_counts_the_texts_about_each_pair(outputs: Path) -> None:
    (corpus,) = views.list_corpora(outputs)
    assert views.list_graphs(outputs, corpus) == ["lamp", "loom"]
    view = views.view_graph(outputs, corpus, "lamp")
    assert view.description.startswith("The Lamp: 3 entities; 2 of 3 pairs have a text")
    assert view.rows == [["Captain Holloway", "Miriam Vale", "1"], ["Captain Holloway", "Meridian", "1"]]
    assert view.image.startswith('<img src="data:image/svg+xml;base64,')
    assert views.view_graph(outputs, corpus, "nothing").image == ""


def test_names_in_an_entity_graph_are_escaped() -> None:
    text = SyntheticText(
        id="d/0", document_id="d", augmenter="entigraph", kind="pair", about=[HOSTILE, "b"], sample=0, text="",
        writer="", prompt_hash="", tokens=1,
    )  # fmt: skip
    document = Document(id="d", title=HOSTILE, text="")
    graph = EntityGraph(document_id="d", summary="", entities=[HOSTILE, "b"])
    svg = ElementTree.fromstring(layout_graph(document, graph, [text]).as_svg())
    tags = {element.tag.rpartition("}")[2] for element in svg.iter()}
    assert tags == {"svg", "line", "circle", "text", "title"}
    shown = HOSTILE.replace("\x1b", "\ufffd")
    assert shown in [element.text for element in svg.iter()] and shown in svg.attrib["aria-label"]


def test_questions_gained_and_lost_between_two_evaluations(smoke: Path) -> None:
    names = views.list_evaluations(smoke)
    assert len(names) >= 6
    one, other = sorted(name for name in names if "-4000-" in name)[:2]
    summary, rows = views.compare_evaluations(smoke, one, other)
    assert summary.startswith(f"{one} minus {other}\nclosed_book: ")
    assert all(len(row) == len(views.CHANGE_HEADINGS) and row[0] in ("gained", "lost") for row in rows)
    assert f"gained {sum(row[0] == 'gained' for row in rows)}, lost {sum(row[0] == 'lost' for row in rows)}" in summary
    assert views.compare_evaluations(smoke, other, one)[1] != rows or not rows
