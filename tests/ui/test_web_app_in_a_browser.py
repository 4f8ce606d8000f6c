"""The web app in headless Chromium: what a person sees and does."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from entigraph.analysis.scaling.curve_figure import draw_curve
from entigraph.analysis.scaling.scaling_curve import ScalingCurve, build_curve
from entigraph.storage.artifact import write_json
from tests.analysis.studies import make_context, make_study
from tests.chat.finished_runs import HOSTILE
from tests.chromium import CHROMIUM, OPTIONS, needs_chromium
from tests.polling import wait_for
from tests.ui.conftest import served, write_job

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def address(outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on a finished run, a running sweep, and a study with a curve, which is the newest."""
    pytest.importorskip("gradio")
    root = tmp_path_factory.mktemp("study")
    curve = build_curve(make_context(root, runs=make_study(root, -1.0, 0.14)), ScalingCurve(resamples=2))
    study = outputs / "studies" / "loom-00000006"
    (study / "runs").mkdir(parents=True)
    write_json(study / "curve.json", curve)
    draw_curve(curve, study, "loom")
    with served(outputs) as served_at:
        yield served_at


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install 'entigraph[browser]'")
    chromedriver = shutil.which("chromedriver")
    if chromedriver is None:
        pytest.skip("needs chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}", "--window-size=1280,1000"):
        options.add_argument(option)
    with webdriver.Chrome(options, webdriver.ChromeService(chromedriver)) as chrome:
        yield chrome


@pytest.fixture
def page(driver: Any, address: str) -> "Page":
    driver.get(address)
    return Page(driver)


class Page:
    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def find(self, path: str) -> Any:
        """Waits for an element that is visible."""
        return wait_for(lambda: next(filter(is_visible, self.driver.find_elements("xpath", path)), None))

    def open_tab(self, name: str) -> None:
        self.click(f"//button[@role='tab'][normalize-space()='{name}']")

    def click(self, path: str) -> None:
        """Clicks even while a loading indicator covers the element."""
        self.driver.execute_script("arguments[0].click()", self.find(path))

    def box(self, label: str) -> Any:
        """Returns the text box or dropdown with a label."""
        labeled = f"//label[.//span[normalize-space()='{label}']]//*[self::textarea or self::input]"
        return self.find(f"{labeled} | //input[@aria-label='{label}']")

    def text(self, label: str) -> str:
        return str(self.box(label).get_property("value"))


def is_visible(element: Any) -> bool:
    from selenium.common.exceptions import StaleElementReferenceException

    with suppress(StaleElementReferenceException):
        return bool(element.is_displayed())
    return False


def test_study_opens_with_its_curve(page: Page) -> None:
    image = page.find("//img[@alt='accuracy against synthetic tokens']")
    assert wait_for(lambda: image.get_property("naturalWidth")) > 300
    assert page.text("Summary").startswith("0 of 0 runs are finished.")
    assert page.find("//*[not(*)][normalize-space()='entigraph']"), "in the table"


def test_sweep_row_updates(page: Page, outputs: Path) -> None:
    page.open_tab("Sweeps")
    for progress in ("training: 50%", "evaluation: 10%"):
        write_job(outputs, progress)
        page.find(f"//*[not(*)][normalize-space()='{progress}']")


def test_question_is_answered_and_explained(page: Page) -> None:
    page.open_tab("Ask")
    page.box("Question").send_keys("Where did Tobias live?")
    page.click("//button[normalize-space()='Ask'][not(@role)]")
    wait_for(lambda: "> Where did Tobias live?" in page.text("Answers of the second model"))

    def is_explained() -> bool:
        page.click("//button[starts-with(normalize-space(), 'Why?')]")  # which explains complete answers
        return "training texts: 1, of 4 read in training" in page.text("Why")

    wait_for(is_explained, interval_s=5.0)


def test_html_in_documents_and_texts_is_not_executed(page: Page) -> None:
    page.open_tab("Texts")
    enter(page.box("Show text number"), "4")
    wait_for(lambda: page.text("Source document").startswith(f"Loom {printable(HOSTILE)}"))
    page.open_tab("Entities")
    wait_for(lambda: page.text("Graph").startswith("The Lamp"))
    enter(page.box("Document"), "loom")
    wait_for(lambda: page.text("Graph").startswith(f"Loom {printable(HOSTILE)}"))
    assert page.driver.title == "EntiGraph: outputs"


def enter(box: Any, text: str) -> None:
    from selenium.webdriver.common.keys import Keys

    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(text, Keys.ENTER)


def printable(text: str) -> str:
    return text.split("\x1b")[0]
