"""report.html: its contents, escaping of hostile texts, and rendering in a browser."""

import gzip
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from entigraph.evaluation import evaluation_report
from entigraph.evaluation.base import Generation
from entigraph.evaluation.entity_mentions import QuestionKey, TrainingTexts, count_mentions, cut_excerpt
from entigraph.evaluation.scoring import score_likelihoods
from entigraph.evaluation.tasks.closed_book import choose_by_likelihood
from entigraph.evaluation.tasks.closed_book_cot import ClosedBookCoT
from entigraph.evaluation.tasks.open_book import OpenBookCoT, RetrievedPassages
from entigraph.storage import artifact
from entigraph.storage.data_losses import collect_data_losses
from entigraph.storage.jsonl import read_jsonl, write_jsonl
from entigraph.storage.schemas import Answer, Document, EntityGraph, SyntheticText
from entigraph.storage.texts import read_texts
from tests.chromium import HOSTILE, needs_chromium, render_page
from tests.evaluation.sample_questions import make_question, write_inputs

OPTIONS = ["Miriam Vale", "Captain Holloway", "Tobias", "the Meridian"]
QUESTION = {"text": "Who kept the lamp of Orsk?", "choices": OPTIONS, "answer": 0}


def make_text(number: int, text: str, document: str = "d0", about: Sequence[str] = ()) -> SyntheticText:
    fields = {"id": f"{document}/{number}", "document_id": document, "augmenter": "entigraph", "kind": "pair"}
    return SyntheticText(**fields, about=about, sample=0, text=text, writer="w", prompt_hash="", tokens=1)


def training_texts(*texts: SyntheticText, entities: Sequence[str] = ()) -> TrainingTexts:
    graphs = [EntityGraph(document_id="d0", summary="", entities=entities)] if entities else []
    return TrainingTexts(lambda: iter(texts), graphs)


def sampled(*texts: str, **changes: Any) -> Answer:
    retrieved = changes.pop("retrieved", None)
    task = ClosedBookCoT(samples=max(1, len(texts)))
    return task.build_answer(
        make_question(0, **{**QUESTION, **changes}), "the prompt", [Generation(t) for t in texts], retrieved
    )


class Page:
    """A report and its packed blocks; `text` returns a text by number."""

    def __init__(self, folder: Path, answers: dict[str, list[Answer]], training: TrainingTexts | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        evidence = ["The lamp keeper of Orsk, Miriam Vale, wrote every evening."]
        source = write_inputs(folder, [make_question(0, **QUESTION, evidence=evidence)])
        scores = {}
        for name, task_answers in answers.items():
            write_jsonl(folder / f"answers-{name}.jsonl", task_answers)
            task = OpenBookCoT() if task_answers[0].retrieved is not None else ClosedBookCoT()
            scores[name] = score_likelihoods(task_answers) if task_answers[0].scores else task.score(task_answers)
            scores[name]["data_losses"] = collect_data_losses(task.data_losses(scores[name]))
        artifact.write_json(folder / "scores.json", scores)
        self.file = evaluation_report.write(
            folder, dict.fromkeys(answers, source), name="a run", label="simulated", training=training
        )
        self.source = self.file.read_text(encoding="utf-8")
        self.tree = html.fromstring(self.source)

    def block(self, name: str) -> Any:
        return json.loads(gzip.decompress(b64decode(self.tree.get_element_by_id(name).text)))

    def text(self, number: int) -> str:
        block_starts = self.block("contents")["block_starts"]
        block = max(index for index, first in enumerate(block_starts) if first <= number)
        return str(self.block(f"texts-{block}")[number - block_starts[block]])


def test_question_details(tmp_path: Path) -> None:
    samples = [" She wrote.\nAnswer: A.\n", " He.\nAnswer: B.\n", "who knows", ""]
    retrieved = RetrievedPassages(["Passage on Orsk."], True, False)
    training = training_texts(
        make_text(0, "Miriam Vale kept the lamp of Orsk."), entities=["Orsk", "Miriam Vale", "Vale"]
    )
    page = Page(tmp_path, {"open": [sampled(*samples, retrieved=retrieved)]}, training)
    questions = page.block("questions-0")
    assert (questions["question"], questions["choices"], questions["answer"]) == (
        ["Who kept the lamp of Orsk?"],
        [OPTIONS],
        [0],
    )
    (details,) = page.block("details-0-0")
    assert (
        details["samples_total"] == 4
        and details["votes"] == [1, 1, 0, 0]
        and details["unparsed"] == {"no answer line": 2}
    )
    assert [(choice, page.text(text)) for choice, text in details["samples"]] == list(
        zip([0, 1, None, None], samples, strict=True)
    )
    assert [page.text(text) for text in details["passages"]] == ["Passage on Orsk."]
    assert (details["article_shown"], details["evidence_shown"], details["retrieved"]) == (True, False, 1)
    assert page.text(details["evidence"][0]).startswith("The lamp keeper of Orsk")
    mention = details["mentions"]
    assert (mention["answer_names"], mention["question_names"]) == (["Miriam Vale"], ["Orsk"])
    assert (mention["texts"], mention["answer_mentions"], mention["joint_mentions"]) == (1, 1, 1)
    assert page.text(mention["excerpts"][0][2]) == "Miriam Vale kept the lamp of Orsk."


def test_question_states(tmp_path: Path) -> None:
    answers = [
        sampled("\nAnswer: A.\n", id="correct"),
        sampled("\nAnswer: B.\n", id="wrong"),
        sampled("no idea", id="unparsed"),
        sampled(id="too long"),
    ]
    page = Page(tmp_path, {"cot": answers})
    assert page.block("questions-0")["state"] == [
        evaluation_report.CORRECT,
        evaluation_report.INCORRECT,
        evaluation_report.UNPARSED,
        evaluation_report.TOO_LONG,
    ]
    text = " ".join(page.tree.text_content().split())
    assert (
        "Data losses: 1 of 4 prompts exceed the model's context (counted as incorrect); 1 of 4 questions" in text
        and "no answer line 1" in text
    )


def test_two_tasks_on_one_page(tmp_path: Path) -> None:
    question = make_question(0, **QUESTION, thought=True)
    page = Page(
        tmp_path,
        {
            "cot": [sampled("\nAnswer: A.\n")],
            "closed_book": [choose_by_likelihood(question, "Orsk", [-1.0, -3.0, -2.0, -9.5])],
        },
    )
    (details,) = page.block("details-1-0")
    assert (
        details["scores"] == [-1.0, -3.0, -2.0, -9.5] and details["thought"] == "Orsk" and details["choice_norm"] == 0
    )
    tables = [[row.text_content() for row in table.iter("tr")] for table in page.tree.iter("table")]
    for label in ("accuracy", "over all questions", "over questions with a valid sample", "majority vote", "pass@1"):
        assert any(row.startswith(label) for row in tables[0]), label
    assert any("questions with a valid sample" in row and row.endswith("1 question") for row in tables[0])
    assert tables[1][1].startswith("accuracy1.000")


def test_texts_are_stored_once(tmp_path: Path) -> None:
    retrieved = RetrievedPassages(["A long passage of Orsk. " * 50] * 2)
    answers = [sampled("\nAnswer: A.\n", id=f"q{number}", retrieved=retrieved) for number in range(300)]
    page = Page(tmp_path, {"one": answers, "other": answers})
    details = [item for block in ("0-0", "0-1", "0-2", "1-2") for item in page.block(f"details-{block}")]
    assert len({text for details in details for text in details["passages"]}) == 1
    assert len(page.block("texts-0")) == 3 and len(page.source) < 60_000


def test_texts_beyond_the_limit_are_omitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_report, "MAX_CHARACTERS", 30)
    answers = [sampled(f" {number} " * 6 + "\nAnswer: A.\n") for number in range(3)]
    page = Page(tmp_path, {"cot": answers})
    numbers = [details["samples"][0][1] for details in page.block("details-0-0")]
    assert numbers[1:] == [None, None] and "not on this page" in page.source


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    hostile(tmp_path)
    page = html.fromstring((tmp_path / "report.html").read_text(encoding="utf-8"))
    scripts = [item for item in page.iter("script") if item.get("type") is None]
    digest = b64encode(sha256(scripts[0].text.encode()).digest()).decode()
    (policy,) = page.xpath("//meta[@http-equiv]/@content")
    assert (
        policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" and len(scripts) == 1
    )
    assert "document.title" not in "".join(page.xpath("//script/text()"))
    assert not [*page.iter("img", "link", "iframe")]
    assert not [name for item in page.iter() for name in item.attrib if name.startswith("on") or name == "src"]


def hostile(folder: Path) -> Page:
    retrieved = RetrievedPassages([HOSTILE])
    changes = {"id": HOSTILE, "document_id": HOSTILE, "text": HOSTILE, "group": HOSTILE, "retrieved": retrieved}
    answers = [sampled(HOSTILE, **changes, choices=[HOSTILE, "b"]), sampled("", id="other")]
    return Page(folder, {HOSTILE.replace("/", ""): answers}, training_texts(make_text(0, HOSTILE, HOSTILE)))


def test_page_is_self_contained_and_deterministic(tmp_path: Path) -> None:
    page = Page(tmp_path, {"cot": [sampled("\nAnswer: A.\n")]})
    assert Page(tmp_path, {"cot": [sampled("\nAnswer: A.\n")]}).source == page.source
    assert str(tmp_path) not in page.source
    assert not re.search(r"https?://|url\(|@import", page.source)


# --- mentions in training texts ---


def count_mention(key: QuestionKey, *texts: SyntheticText, entities: Sequence[str] = ()) -> Any:
    return count_mentions([key], training_texts(*texts, entities=entities)).get(key)


def test_mentions_match_whole_words() -> None:
    key = QuestionKey("d0", "Who kept the lamp of Orsk?", "It was Miriam Vale, of course, who kept it.")
    texts = [
        make_text(0, "MIRIAM VALE wrote in the ledger."),
        make_text(1, "Miriam Valerian is somebody else."),
        make_text(2, "Orsk had a lamp."),
        make_text(3, "In Orsk, Miriam Vale kept a lamp."),
        make_text(4, "In Orsk, Miriam Vale kept a lamp.", document="d1"),
    ]
    mentions = count_mention(key, *texts, entities=["Miriam Vale", "Vale", "Orsk"])
    assert mentions.answer_names == ["Miriam Vale"], "the longest of overlapping names"
    assert (mentions.texts, mentions.answer_mentions, mentions.joint_mentions) == (4, 2, 1)
    assert [item.text for item in mentions.excerpts] == [texts[3].text, texts[0].text], "joint mentions come first"


def test_overlapping_entities_count_once() -> None:
    key = QuestionKey("d0", "Who of the Vales was Vale?", "Miriam Vale")
    mentions = count_mention(key, make_text(0, "Miriam Vale."), entities=["miriam vale", "Miriam Vale", "Vale"])
    assert [name.lower() for name in mentions.answer_names] == ["miriam vale"]
    assert (list(mentions.question_names), mentions.answer_mentions, mentions.joint_mentions) == ([], 1, 0)


def test_short_choice_is_a_name() -> None:
    mentions = count_mention(
        QuestionKey("d0", "Where?", "the Fumor Bell."), make_text(0, "It hung beside a Fumor Bell.")
    )
    assert mentions.answer_names == ["Fumor Bell"] and mentions.answer_mentions == 1
    assert count_mention(QuestionKey("d0", "Why?", "He was asked to let it go out by her")) is None


def test_entities_of_document_parts_are_merged() -> None:
    graphs = [EntityGraph(document_id=f"d0#{n}", summary="", entities=[name]) for n, name in enumerate(["Ada", "Bo"])]
    key = QuestionKey("d0", "Who met Ada on that long evening?", "On that long evening it was Bo who met her")
    mentions = count_mentions([key], TrainingTexts(lambda: iter([make_text(0, "Ada and Bo.")]), graphs))[key]
    assert (mentions.answer_names, mentions.question_names, mentions.joint_mentions) == (["Bo"], ["Ada"], 1)


def test_number_of_excerpts_is_limited() -> None:
    texts = [make_text(number, f"{number} Tobias") for number in range(500)]
    mentions = count_mention(QuestionKey("d0", "Who?", "Tobias"), *texts)
    assert mentions.answer_mentions == 500 and [item.text for item in mentions.excerpts] == [
        "0 Tobias",
        "1 Tobias",
        "2 Tobias",
    ]


def test_excerpt_contains_both_names() -> None:
    text = f"Tobias left. {'Nothing happened. ' * 100}In Orsk Tobias read. {'Nothing happened. ' * 100}"
    mentions = cut_excerpt(text, ["Tobias"], ["Orsk"])
    assert "In Orsk Tobias read." in mentions and len(mentions) < 430 and mentions[0] == mentions[-1] == "…"
    assert cut_excerpt("Tobias.", ["Tobias"], []) == "Tobias."


# --- smoke run ---


def test_smoke_evaluations_have_reports(smoke: Path) -> None:
    for folder in (smoke / "evaluation").iterdir():
        files = artifact.read_manifest(folder)["files"]
        assert ("report.html" in files) == any(name.startswith("answers-") for name in files)
    (study,) = (smoke / "studies").glob("smoke-*")
    for member in map(json.loads, (file.read_text() for file in (study / "runs").glob("*.json"))):
        if member["augmenter"] == "entigraph":
            tree = html.fromstring((smoke / member["evaluation"] / "report.html").read_text())
            mentions = json.loads(gzip.decompress(b64decode(tree.get_element_by_id("details-0-0").text)))
            questions = json.loads(gzip.decompress(b64decode(tree.get_element_by_id("questions-0").text)))
            first = next(read_jsonl(smoke / member["evaluation"] / "answers-closed_book.jsonl", Answer))
            document = first.document_id
            counted, synthetic = (
                mentions[0]["mentions"]["texts"],
                sum(text.document_id == document for text in read_texts(smoke / member["synthesis"])),
            )
            selected = artifact.read_manifest(smoke / member["tokens"])["counts"]["texts"]
            assert questions["id"][0] == first.question_id and 0 < counted <= min(synthetic, selected)
            titles = {
                item.id: item.title for item in read_jsonl(smoke / member["corpus"] / "documents.jsonl", Document)
            }
            assert questions["documents"][0] == titles[document]


@needs_chromium
def test_report_in_a_browser(tmp_path: Path) -> None:
    profile = tmp_path / "browser"
    training = training_texts(make_text(0, "In Orsk, Miriam Vale kept a lamp."), entities=["Orsk", "Miriam Vale"])
    answers = [sampled("\nAnswer: B.\n", id=f"q{number}") for number in range(1_000)]
    page = Page(tmp_path / "many", {"cot": answers, "again": answers}, training)
    tree = render_page(page.file, profile, "#again/q600")
    detail = tree.get_element_by_id("detail").text_content()
    assert "q600" in detail and "Who kept the lamp of Orsk?" in detail and "Answer: B." in detail
    assert "Miriam Vale occurs in 1 of 1 text about the document, in 1 of them together with Orsk" in detail
    assert 3 < len(tree.find_class("row")) < 60, "only visible rows exist"
    (selected,) = tree.xpath("//*[@aria-selected='true']")
    assert selected.get("id") == "row-600" and "1,000 of 1,000 questions" in tree.text_content()
    tree = render_page(hostile(tmp_path / "hostile").file, profile)
    assert tree.find_class("question")[0].text_content() == HOSTILE and not list(tree.iter("img"))
    assert tree.xpath("//title/text()") == ["a run: evaluation"]


@pytest.mark.parametrize(
    ("choice", "question", "text", "other"),
    [
        ("铜钟", "陈岚保管着什么？", "陈岚在灰塔里敲响了铜钟。", "港口的人都回家了。"),
        ("البرج", "أين كان سالم؟", "صعد سالم وبقي بالبرج ليلا.", "عاد الناس."),
        ("灯台", "彼はどこにいた？", "彼は灯台に住んでいた。", "嵐が来た。"),
    ],
)
def test_mentions_in_other_scripts(choice: str, question: str, text: str, other: str) -> None:
    key = QuestionKey("d0", question, choice)
    mentions = count_mentions([key], training_texts(make_text(0, text), make_text(1, other), entities=["港口", choice]))
    assert (mentions[key].texts, mentions[key].answer_mentions) == (2, 1)
    assert text in mentions[key].excerpts[0].text
