"""Reads FinanceBench (Islam et al. 2023): reports of companies as PDF files, and questions about them.

The release has data/financebench_open_source.jsonl, with lines `{"financebench_id", "doc_name", "question", "answer",
"question_type"}`, and pdfs/DOC_NAME.pdf.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from entigraph.corpus import document_conversion
from entigraph.corpus.base import CorpusContent, resolve_path
from entigraph.corpus.document_conversion import UnreadableFile
from entigraph.corpus.readers.benchmark_records import BenchmarkReader, load_json_lines, text_field
from entigraph.corpus.readers.text_files import read_document
from entigraph.errors import ConfigError
from entigraph.storage.schemas import UNGROUPED, ConversionLoss, Document, Question, SkippedFile

QUESTIONS, REPORTS = "data/financebench_open_source.jsonl", "pdfs"
EXPECTED = '{"financebench_id": "...", "doc_name": "3M_2018_10K", "question": "...", "answer": "..."}'
FOLDER = f"a checkout of FinanceBench, with {QUESTIONS} and {REPORTS}/"
NO_REPORT = "the report has no text here"


@dataclass(frozen=True, kw_only=True)
class FinanceBench(BenchmarkReader):
    """`path` is the folder of the release. The documents are the reports that questions are about and that are there.

    `documents` takes the first of them. Questions about others are left out and counted.
    """

    name: str = "financebench"

    @property
    def folder(self) -> Path:
        return resolve_path(self.path, "corpus.path", FOLDER)

    @property
    def converters(self) -> dict[str, str]:
        """The packages that convert the reports and their versions, which determine the documents."""
        return document_conversion.converter_versions(self.reports())

    def sources(self) -> list[Path]:
        if not (self.folder / QUESTIONS).is_file():
            raise ConfigError(f"corpus.path: {self.folder} has no {QUESTIONS}; give {FOLDER}")
        reports = self.reports()
        if not reports:
            raise ConfigError(f"corpus.path: {self.folder} has no report that a question is about; give {FOLDER}")
        document_conversion.converter_versions(reports)
        return [self.folder / QUESTIONS, *reports]

    def reports(self) -> list[Path]:
        """Returns the files of the reports that are there, in the order of their questions."""
        names = dict.fromkeys(text_field(raw, "doc_name", location, EXPECTED) for location, raw in self.lines())
        files = (self.folder / REPORTS / f"{name}.pdf" for name in names)
        return [file for file in files if file.is_file()][: self.documents]

    def lines(self) -> Iterator[tuple[str, Any]]:
        return load_json_lines(self.folder / QUESTIONS, EXPECTED)

    def read(self) -> CorpusContent:
        content = CorpusContent(documents=(documents := []))
        for file in self.reports():
            lost = Counter[str]()
            try:
                text = read_document(file, lost)
            except UnreadableFile as error:
                content.skipped.append(SkippedFile(file=file.name, reason=error.reason, detail=error.detail))
                continue
            documents.append(Document(id=f"financebench-{file.stem}", title=file.stem.replace("_", " "), text=text))
            content.not_converted += [ConversionLoss(file=file.name, lost=dict(+lost))] if +lost else []
        known = {document.id for document in documents}
        for location, raw in self.lines():
            question_id, name, text, answer = (
                text_field(raw, key, location, EXPECTED)
                for key in ("financebench_id", "doc_name", "question", "answer")
            )
            if f"financebench-{name}" not in known:
                content.leave_out(NO_REPORT)
                continue
            group = str(raw.get("question_type") or UNGROUPED).replace("-", "_")
            content.questions.append(
                Question(id=question_id, document_id=f"financebench-{name}", text=text, accepted=[answer], group=group)
            )
        return content
