"""Reads short-answer questions with the pages that answer them, like SimpleQA (Wei et al. 2024) with its web pages.

SimpleQA's release has only the URLs of the pages, so their text is expected in the same lines: `{"question",
"answer", "pages": [{"title", "text"}]}`. `problem`, as in the release, is read as the question.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, ClassVar

from entigraph.corpus.base import CorpusContent
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, list_field, load_json_lines, text_field
from entigraph.errors import DataError
from entigraph.storage.schemas import UNGROUPED, Document, Question
from entigraph.text.normalization import normalize_text

EXPECTED = '{"question": "...", "answer": "...", "pages": [{"title": "...", "text": "..."}]}'


@dataclass(frozen=True, kw_only=True)
class SimpleQA(BenchmarkReader):
    """`path` is a JSONL file with one question per line. Each distinct page is a document.

    A question belongs to the first of its pages. `answer` may be a list of accepted answers. `documents` limits the
    questions to those about the first N pages.
    """

    name: str = "simpleqa"
    source: ClassVar[str] = "a JSONL file of questions with pages"

    def read(self) -> CorpusContent:
        (file,) = self.sources()
        documents: dict[str, Document] = {}  # by text
        content = CorpusContent()
        for number, (location, raw) in enumerate(load_json_lines(file, EXPECTED), 1):
            pages = [read_page(page, location) for page in list_field(raw, "pages", location, EXPECTED)]
            if not pages:
                raise DataError(f"{location}: pages must not be empty; expected {EXPECTED}")
            if self.documents is not None and len({*documents, *(page.text for page in pages)}) > self.documents:
                break
            for page in pages:
                documents.setdefault(page.text, page)
            content.questions.append(read_question(raw, location, number, documents[pages[0].text]))
        if not documents:
            raise DataError(f"{file}: no question; expected lines {EXPECTED}")
        content.documents = list(documents.values())
        return content


def read_page(page: Any, location: str) -> Document:
    """Returns a page as a document; its id is a hash of its text."""
    text = text_field(page, "text", location, EXPECTED)
    title = normalize_text(str(page.get("title") or page.get("url") or text[:80])).strip()
    document_id = f"simpleqa-{blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=6).hexdigest()}"
    meta = {"url": str(page["url"])} if page.get("url") else {}
    return Document(id=document_id, title=title, text=text, meta=meta)


def read_question(raw: Any, location: str, number: int, document: Document) -> Question:
    text = text_field(raw, "question" if "question" in raw else "problem", location, EXPECTED)
    answers = raw.get("answer")
    accepted = [
        text_field({"answer": answer}, "answer", location, EXPECTED)
        for answer in (answers if isinstance(answers, list) and answers else [answers])
    ]
    group = str(raw.get("answer_type") or UNGROUPED).lower().replace(" ", "_")
    return Question(id=f"simpleqa-q{number}", document_id=document.id, text=text, accepted=accepted, group=group)
