"""What the web app shows."""

from pathlib import Path

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


def test_study_without_a_curve_says_what_to_run(outputs: Path) -> None:
    view = views.view_study(outputs, "lamps-00000005")
    assert view.summary == "0 of 0 runs are finished. There is no curve yet: run entigraph analyze."


def test_running_jobs_are_listed_with_their_progress(outputs: Path) -> None:
    ((sweep, job, state, doing, updated),) = views.list_jobs(outputs)
    assert (job, state, doing) == ("lamps-seed0", "running", "training:   2%") and updated.endswith(" s ago")


def test_models_and_texts(outputs: Path) -> None:
    assert RUN in views.list_models(outputs)
    (corpus,) = views.list_corpora(outputs)
    assert len(views.list_texts(outputs, corpus, "", 1)) == len(TEXTS) and not views.list_texts(outputs, corpus, "", 2)
    (row,) = views.list_texts(outputs, corpus, "tobias LIVED", 1)
    assert row[:3] == ["4", "loom", "pair"]
    text, source = views.show_text(outputs, corpus, 4)
    assert text.startswith("loom/3\n\nTobias lived in Orsk.") and source.startswith(f"Loom {HOSTILE}")
    assert views.show_text(outputs, corpus, 5) == ("", "")
