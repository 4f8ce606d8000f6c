"""LongHealth, QASPER, MultiHop-RAG, FinanceBench and questions with pages, in small files of the same form."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fpdf import FPDF

from entigraph.corpus import stage
from entigraph.corpus.readers.financebench import FinanceBench
from entigraph.corpus.readers.longhealth import OPTIONS, LongHealth
from entigraph.corpus.readers.multihop_rag import MultiHopRAG
from entigraph.corpus.readers.qasper import Qasper
from entigraph.corpus.readers.simpleqa import SimpleQA
from entigraph.errors import ConfigError, DataError
from entigraph.pipeline.run import Run

QUESTION = {
    "No": 0,
    "question": "When did the patient come?",
    **dict(zip(OPTIONS, ("March", "April", "May", "June", "July"), strict=True)),
    "correct": "May",
    "answer_location": {"text_0": {"start": [0.1], "end": [0.2]}},
}
PATIENT = {
    "name": "Anna Sample",
    "birthday": "1970-01-01 00:00:00",
    "diagnosis": "DLBCL",
    "texts": {"text_0": "Anna came in May.", "text_1": "She left in June."},
    "questions": [QUESTION],
}
SECTIONS = [
    {"section_name": "Oil ::: Whale", "paragraphs": ["It burns.", ""]},
    {"section_name": None, "paragraphs": ["End."]},
]


def annotation(**answer: Any) -> dict[str, Any]:
    empty = {"unanswerable": False, "extractive_spans": [], "yes_no": None, "free_form_answer": ""}
    return {"answer": {**empty, **answer}}


PAPER = {
    "title": "Lamps of Orsk",
    "abstract": "We light lamps.",
    "full_text": SECTIONS,
    "qas": [
        {
            "question": "What burns?",
            "question_id": "a1",
            "answers": [annotation(extractive_spans=["oil", "whale oil"]), annotation(free_form_answer="The oil.")],
        },
        {"question": "Does it burn?", "question_id": "a2", "answers": [annotation(yes_no=True)]},
        {"question": "Who paid?", "question_id": "a3", "answers": [annotation(unanswerable=True)]},
    ],
}


def write(file: Path, value: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")
    return file


def write_lines(file: Path, *values: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, values)), encoding="utf-8")
    return file


def test_longhealth_patients_have_questions_of_five_options(tmp_path: Path) -> None:
    file = write(tmp_path / "benchmark_v5.json", {"patient_01": PATIENT, "patient_02": {**PATIENT, "questions": []}})
    content = LongHealth(path=str(file)).read()
    first, second = content.documents
    assert (first.id, first.title) == ("longhealth-patient_01", "Anna Sample")
    assert first.text == "Anna came in May.\n\nShe left in June." and first.meta["diagnosis"] == "DLBCL"
    (question,) = content.questions
    assert question.text == "Anna Sample, born 1970-01-01: When did the patient come?" and question.answer == 2
    assert len(question.choices) == 5 and question.document_id == first.id
    plain = LongHealth(path=str(file), documents=1, cite_document=False).read()
    assert len(list(plain.documents)) == 1 and plain.questions[0].text == "When did the patient come?"
    assert second.id == "longhealth-patient_02" and stage.run(LongHealth(path=str(file)), tmp_path)["questions"] == 1


def test_qasper_accepts_the_answer_of_each_annotator(tmp_path: Path) -> None:
    reader = Qasper(path=str(write(tmp_path / "qasper.json", {"1909.00694": PAPER})))
    content = reader.read()
    (document,) = content.documents
    assert document.text == "Lamps of Orsk\n\nWe light lamps.\n\nOil ::: Whale\n\nIt burns.\n\nEnd."
    burns, yes = content.questions
    assert burns.accepted == ["oil, whale oil", "The oil."] and burns.group == "extractive"
    assert burns.text == 'In the paper "Lamps of Orsk": What burns?' and burns.id == "qasper-1909.00694-a1"
    assert yes.accepted == ["Yes"] and yes.group == "yes_no"
    assert content.counts == {"questions_left_out": {"no annotator found an answer": 1}}
    (loss,) = [loss for loss in stage.data_losses(stage.run(reader, tmp_path)) if loss.count]
    assert loss.description == "questions are left out (no annotator found an answer)" and loss.total == 3


def test_multihop_rag_questions_need_all_their_articles(tmp_path: Path) -> None:
    articles = [
        {"title": f"News {number}", "body": f"Body {number}.", "url": "u", "source": "s"} for number in range(3)
    ]
    query = {"query": "Which paper?", "answer": "The Times", "question_type": "inference_query"}
    write(tmp_path / "corpus.json", articles)
    write(tmp_path / "MultiHopRAG.json", [
        {**query, "evidence_list": [{"title": "News 1", "fact": "f"}, {"title": "News 0", "fact": "f"}]},
        {**query, "answer": "Insufficient information.", "evidence_list": []},
        {**query, "evidence_list": [{"title": "News 2"}]},
    ])  # fmt: skip
    content = MultiHopRAG(path=str(tmp_path), documents=2).read()
    (question,) = content.questions
    assert [document.title for document in content.documents] == ["News 0", "News 1"]
    assert question.document_id == "multihop_rag-2" and question.accepted == ["The Times"]
    assert question.group == "inference_query"
    assert content.counts["questions_left_out"] == {"no supporting article": 1, "supporting article not loaded": 1}
    write(tmp_path / "corpus.json", [*articles, {**articles[1], "body": "Another body."}])
    content = MultiHopRAG(path=str(tmp_path)).read()
    assert len(list(content.documents)) == 4, "articles may have the same title"
    assert content.questions[0].document_id == "multihop_rag-2"
    (tmp_path / "corpus.json").unlink()
    with pytest.raises(ConfigError, match=r"corpus\.path: .* has no corpus\.json"):
        MultiHopRAG(path=str(tmp_path)).sources()


def test_financebench_reads_the_reports_that_are_there(tmp_path: Path) -> None:
    line = {"financebench_id": "id_1", "doc_name": "3M_2018_10K", "question": "How much?", "answer": "$1577.00",
            "question_type": "metrics-generated"}  # fmt: skip
    questions = tmp_path / "data" / "financebench_open_source.jsonl"
    write_lines(questions, line, {**line, "financebench_id": "id_2", "doc_name": "ELSEWHERE_2020"})
    with pytest.raises(ConfigError, match="has no report that a question is about"):
        FinanceBench(path=str(tmp_path)).sources()
    (tmp_path / "pdfs").mkdir()
    page = FPDF()
    page.add_page()
    page.set_font("Helvetica", size=12)
    page.multi_cell(0, 8, "Capital expenditure of the year was 1,577 million dollars in all.")
    page.output(str(tmp_path / "pdfs" / "3M_2018_10K.pdf"))
    reader = FinanceBench(path=str(tmp_path))
    assert [file.name for file in reader.sources()] == ["financebench_open_source.jsonl", "3M_2018_10K.pdf"]
    assert "pypdfium2" in reader.converters
    content = reader.read()
    (document,), (question,) = content.documents, content.questions
    assert "1,577 million" in document.text and document.title == "3M 2018 10K"
    assert question.document_id == document.id and question.group == "metrics_generated"
    assert content.counts == {"questions_left_out": {"the report has no text here": 1}}


def test_questions_with_pages(tmp_path: Path) -> None:
    lamp, ink = {"title": "Lamp", "text": "It was lit in 1901."}, {"url": "http://x/ink", "text": "Ink is black."}
    file = write_lines(
        tmp_path / "q.jsonl",
        {"question": "When?", "answer": ["1901", "in 1901"], "pages": [lamp, ink], "answer_type": "Date"},
        {"problem": "What is black?", "answer": "Ink", "pages": [ink]},
        {"question": "Else?", "answer": "no", "pages": [{"text": "Else."}]},
    )
    content = SimpleQA(path=str(file), documents=2).read()
    assert [document.title for document in content.documents] == ["Lamp", "http://x/ink"]
    first, second = content.questions
    assert first.accepted == ["1901", "in 1901"] and first.group == "date" and second.text == "What is black?"
    assert second.document_id == list(content.documents)[1].id


@pytest.mark.parametrize(
    ("reader", "value", "message"),
    [
        (LongHealth, [PATIENT], "the file is a JSON list; expected"),
        (LongHealth, {}, "the file is an empty dict"),
        (LongHealth, {"p": {**PATIENT, "texts": {}}}, "p: texts must be an object of strings, got {}"),
        (LongHealth, {"p": {**PATIENT, "name": "\u200b"}}, "p: name must be a non-empty string"),
        (LongHealth, {"p": {**PATIENT, "questions": [{**QUESTION, "correct": "Never"}]}}, "correct is 'Never'"),
        (Qasper, {"p": {**PAPER, "full_text": None}}, "full_text must be a list, got None"),
        (Qasper, {"p": {**PAPER, "qas": [{"question": "a", "question_id": "b", "answers": ["no"]}]}}, "an object, got"),
        (SimpleQA, {"question": "a", "answer": "b"}, "1: pages must be a list, got None"),
        (SimpleQA, {"question": "a", "answer": "b", "pages": []}, "1: pages must not be empty"),
        (SimpleQA, {"question": "a", "answer": 3, "pages": [{"text": "t"}]}, "answer must be a non-empty string"),
    ],
)  # fmt: skip
def test_bad_files_report_the_location(reader: Callable[..., Any], value: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        reader(path=str(write(tmp_path / "file.json", value))).read()


def test_configured_readers(configured: Callable[..., Run], tmp_path: Path) -> None:
    file = write(tmp_path / "qasper.json", {"1909.00694": PAPER})
    run = configured("corpus=qasper", f"corpus.path={file}", "evaluation=free_form", "augmenter=rephrase")
    assert run.corpus.has_questions and run.corpus.name == "qasper"
