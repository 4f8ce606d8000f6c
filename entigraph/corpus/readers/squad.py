"""Reads SQuAD-like passages with short-answer questions: `[{title, context, questions: [{question, answer}]}]`.

This is the form of the SQuAD passages of SEAL (arXiv 2506.10943) and SPA (arXiv 2603.22213). SQuAD's own release
(`{data: [{title, paragraphs: [{context, qas}]}]}`) is read too.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.corpus.base import CorpusContent
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, list_field, parse_file, text_field
from entigraph.errors import DataError
from entigraph.storage.schemas import UNGROUPED, Document, Question
from entigraph.text.normalization import normalize_text

NOT_IN_IDS = re.compile(r"\W+")
EXPECTED = '[{"title": "...", "context": "...", "questions": [{"question": "...", "answer": "..."}]}]'


@dataclass(frozen=True, kw_only=True)
class Squad(BenchmarkReader):
    """`path` is a JSON file. Each passage is a document; identical passages are one. `documents` takes the first ones.

    `answer` may be a list of accepted answers. A question without an answer, as in SQuAD 2.0, is left out and counted.
    `cite_document` prepends the passage's title to its questions: many name their subject only by "he" or "the town".
    """

    name: str = "squad"
    source: ClassVar[str] = "a JSON file of passages with questions"
    cite_document: bool = True

    def read(self) -> CorpusContent:
        (file,) = self.sources()
        documents: dict[str, Document] = {}
        content = CorpusContent()
        numbers: Counter[str] = Counter()
        for location, passage in read_passages(file):
            title, text = (read_text(passage, key, location) for key in ("title", "context"))
            if text not in documents:
                if self.documents is not None and len(documents) == self.documents:
                    continue
                name = NOT_IN_IDS.sub("_", title)  # which two titles may share
                numbers[name] += 1
                documents[text] = Document(id=f"squad-{name}-{numbers[name]}", title=title, text=text)
            document = documents[text]
            for number, raw in enumerate(list_field(passage, "questions", location, EXPECTED), 1):
                index = len(content.questions)
                question = self.build_question(document, raw, f"{location}, question {number}", index)
                if question:
                    content.questions.append(question)
                else:
                    content.leave_out("no answer")
        if not documents:
            raise DataError(f"{file} contains no passages; expected {EXPECTED}")
        content.documents = list(documents.values())
        return content

    def build_question(self, document: Document, raw: Any, location: str, index: int) -> Question | None:
        """Returns None for a question without an answer."""
        text = read_text(raw, "question", location)
        answers = read_answers(raw, location)
        if not answers:
            return None
        return Question(
            id=f"{document.id}-{index}",
            document_id=document.id,
            text=f"{document.title}: {text}" if self.cite_document else text,
            accepted=answers,
            group=UNGROUPED,
        )


def read_passages(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each passage with its location. Raises DataError if the file has another structure."""
    content = parse_file(file, EXPECTED)
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = [
            isinstance(paragraph, dict)
            and {"title": article.get("title"), "context": paragraph.get("context"), "questions": paragraph.get("qas")}
            for article in content["data"]
            for paragraph in list_field(article, "paragraphs", str(file), EXPECTED)
        ]
    if not isinstance(content, list):
        raise DataError(f"{file}: the file is a JSON {type(content).__name__}; expected {EXPECTED}")
    for number, passage in enumerate(content, 1):
        yield f"{file}, passage {number}", passage


def read_text(record: Any, key: str, location: str) -> str:
    """Returns a text; SQuAD's titles have underscores instead of spaces."""
    text = text_field(record, key, location, EXPECTED)
    return text.replace("_", " ") if key == "title" else text


def read_answers(raw: dict[str, Any], location: str) -> list[str]:
    """Returns the distinct accepted answers; empty for a question without an answer. SQuAD's are `[{text}]`."""
    value = raw.get("answer", raw.get("answers"))
    items = [
        item.get("text") if isinstance(item, dict) else item for item in (value if isinstance(value, list) else [value])
    ]
    texts = [normalize_text(item).strip() for item in items if isinstance(item, str)]
    if len(texts) < len(items):
        raise DataError(f"{location}: answer must be a string or a list of strings, got {value!r:.80}")
    return list(dict.fromkeys(filter(None, texts)))
