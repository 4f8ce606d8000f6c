"""Reads QASPER (Dasigi et al. 2021): papers about language processing, with questions that several people answered.

The released files are `{paper: {"title", "abstract", "full_text": [{"section_name", "paragraphs"}], "qas": [{
"question", "question_id", "answers": [{"answer": {"unanswerable", "extractive_spans", "yes_no", "free_form_answer"}}]}]
}}`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from entigraph.corpus.base import CorpusContent
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, list_field, load_json, text_field
from entigraph.errors import DataError
from entigraph.storage.schemas import Document, Question
from entigraph.text.normalization import normalize_text

EXPECTED = (
    '{"1909.00694": {"title": "...", "abstract": "...", "full_text": [{"section_name": "...", "paragraphs": ["..."]}], '
    '"qas": [{"question": "...", "question_id": "...", "answers": [{"answer": {"extractive_spans": ["..."]}}]}]}}'
)
UNANSWERABLE = "no annotator found an answer"


@dataclass(frozen=True, kw_only=True)
class Qasper(BenchmarkReader):
    """`path` is a file of the release, such as qasper-dev-v0.3.json. `documents` takes the first papers.

    Each annotator's answer is accepted: the extracted spans together, the free text, or "Yes" or "No". Questions that
    no annotator could answer are left out and counted. `cite_document` prepends the paper's title to its questions.
    """

    name: str = "qasper"
    source: ClassVar[str] = "a JSON file of QASPER's release"
    cite_document: bool = True

    def read(self) -> CorpusContent:
        (file,) = self.sources()
        content = CorpusContent(documents=(documents := []))
        for key, paper in list(load_json(file, dict, EXPECTED).items())[: self.documents]:
            location = f"{file}, {key}"
            title = text_field(paper, "title", location, EXPECTED)
            documents.append(
                Document(id=f"qasper-{key}", title=title, text="\n\n".join(read_sections(paper, location)))
            )
            for number, raw in enumerate(list_field(paper, "qas", location, EXPECTED), 1):
                question = read_question(raw, f"{location}, question {number}", documents[-1], self.cite_document)
                if question:
                    content.questions.append(question)
                else:
                    content.leave_out(UNANSWERABLE)
        return content


def read_sections(paper: Any, location: str) -> Iterator[str]:
    """Yields title, abstract and the paragraphs of each section under its name."""
    yield text_field(paper, "title", location, EXPECTED)
    if str(paper.get("abstract") or "").strip():
        yield text_field(paper, "abstract", location, EXPECTED)
    for number, section in enumerate(list_field(paper, "full_text", location, EXPECTED), 1):
        where = f"{location}, section {number}"
        if isinstance(section, dict) and section.get("section_name"):
            yield text_field(section, "section_name", where, EXPECTED)
        for paragraph in list_field(section, "paragraphs", where, EXPECTED):
            if not isinstance(paragraph, str):
                raise DataError(f"{where}: a paragraph must be a string, got {paragraph!r:.80}; expected {EXPECTED}")
            if paragraph.strip():
                yield normalize_text(paragraph).strip()


def read_question(raw: Any, location: str, document: Document, cite_document: bool) -> Question | None:
    """Returns None for a question that no annotator could answer."""
    text = text_field(raw, "question", location, EXPECTED)
    question_id = text_field(raw, "question_id", location, EXPECTED)
    answers = [read_answer(entry, location) for entry in list_field(raw, "answers", location, EXPECTED)]
    known = [(kind, answer) for kind, answer in answers if answer]
    if not known:
        return None
    return Question(
        id=f"{document.id}-{question_id}",
        document_id=document.id,
        text=f'In the paper "{document.title}": {text}' if cite_document else text,
        accepted=list(dict.fromkeys(answer for _, answer in known)),
        group=known[0][0],
    )


def read_answer(entry: Any, location: str) -> tuple[str, str]:
    """Returns the kind of an annotator's answer and its text; empty if the question cannot be answered."""
    answer = entry.get("answer") if isinstance(entry, dict) else None
    if not isinstance(answer, dict):
        raise DataError(f"{location}: answer must be an object, got {answer!r:.80}; expected {EXPECTED}")
    if answer.get("unanswerable"):
        return "unanswerable", ""
    if isinstance(answer.get("yes_no"), bool):
        return "yes_no", "Yes" if answer["yes_no"] else "No"
    spans = [normalize_text(span).strip() for span in answer.get("extractive_spans") or () if isinstance(span, str)]
    if any(spans):
        return "extractive", ", ".join(filter(None, spans))
    return "free_form", normalize_text(str(answer.get("free_form_answer") or "")).strip()
