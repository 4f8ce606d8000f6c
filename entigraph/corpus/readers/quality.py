"""Reads QuALITY v1.0.1 as released (paper §3, App. C): JSON lines, one per article and question writer."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus.base import CorpusContent, resolve_path
from entigraph.errors import DataError
from entigraph.storage.jsonl import json_error, list_problems, numbered_lines, parse_strict_json
from entigraph.storage.schemas import Document, Question
from entigraph.text.normalization import fold_whitespace, is_blank, normalize_line, normalize_text

FIELDS = {"article_id": str, "title": str, "article": str, "questions": list}
QUESTION_FIELDS = {"question": str, "question_unique_id": str, "options": list, "gold_label": int, "difficult": int}
# The release also has files with the articles' HTML.
HTML_TAG = re.compile(
    r"</(a|b|body|blockquote|center|div|em|font|h[1-6]|html|i|li|ol|p|pre|script|span|strong|style|table|td|tr|u|ul)>"
    r"|<(br|hr|p|img|div|span|script)\b[^<>]*>",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Quality:
    """`path` is one released file, or a folder with the train and dev files (265 articles, 4,609 questions).

    The lines of one article are merged, as in the paper. Each question names title, author and year of its document, so
    that it can be asked without the document.
    """

    name: str = "quality"
    path: str = runtime_field("")
    fictional: ClassVar[bool] = False
    has_questions: ClassVar[bool] = True

    def sources(self) -> list[Path]:
        return [
            resolve_path(
                self.path, "corpus.path", "the QuALITY v1.0.1 htmlstripped file, or the folder with train and dev"
            )
        ]

    def files(self) -> list[Path]:
        (path,) = self.sources()
        if path.is_file():
            return [path]
        return [file for file in sorted(path.glob("QuALITY*htmlstripped*")) if file.suffix != ".test"]

    def read(self) -> CorpusContent:
        documents: dict[str, Document] = {}
        questions: dict[str, Question] = {}
        repeated = 0
        problems: list[str] = []
        lines = [(f"{file}:{number}", line) for file in self.files() for number, line in numbered_lines(file)]
        for location, line in lines:
            try:
                document, its_questions = read_article(line, location)
                known = documents.setdefault(document.id, document)
                if fold_whitespace(known.text) != fold_whitespace(document.text):
                    raise DataError(f"{location}: another text of article {document.id.removeprefix('quality-')}")
                for question in its_questions:
                    repeated += question.id in questions
                    if questions.setdefault(question.id, question) != question:
                        raise DataError(f"{location}: another question with the id {question.id}")
            except DataError as error:
                problems.append(str(error))
        if problems:
            raise list_problems(f"corpus=quality: {len(problems):,} bad of {len(lines):,} lines", problems)
        if not documents:
            raise DataError(
                f"{self.path} contains no QuALITY articles; expected QuALITY.v1.0.1.htmlstripped.train and .dev"
            )
        counts = {"duplicate_questions": repeated}
        if equal := sum(map(has_equal_choices, questions.values())):
            counts["questions_with_equal_options"] = equal  # the benchmark is read as it is
        return CorpusContent(list(documents.values()), list(questions.values()), counts)


def has_equal_choices(question: Question) -> bool:
    return len({normalize_line(choice).casefold() for choice in question.choices}) < len(question.choices)


def read_article(raw: str, location: str) -> tuple[Document, list[Question]]:
    """Returns the article and the questions on a line. Raises DataError if it is not one."""
    try:
        value = parse_strict_json(raw)
    except ValueError as error:
        raise DataError(f"{location}: not JSON ({json_error(error)}); expected a line of QuALITY v1.0.1") from None
    line = check_fields(value, FIELDS, location)
    if tag := HTML_TAG.search(line["article"]):
        raise DataError(
            f"{location}: article contains HTML ({tag[0]!r:.40}); use the file with htmlstripped in its name"
        )
    document = Document(
        id=normalize_line(f"quality-{line['article_id']}"),
        title=normalize_line(line["title"]),
        text=line["article"],
        meta={
            key: normalize_line(str(line[key]))
            for key in ("author", "year", "topic", "source", "url")
            if isinstance(line.get(key), str | int) and line[key]
        },
    )
    questions = [
        build_question(document, item, f"{location}, question {number}")
        for number, item in enumerate(line["questions"], 1)
    ]
    return document, questions


def check_fields(record: Any, fields: Mapping[str, type], location: str) -> dict[str, Any]:
    """Returns a line or question. Raises DataError if a field is missing or of another type."""
    missing = [name for name in fields if not isinstance(record, dict) or name not in record]
    if missing:
        raise DataError(
            f"{location}: lacks {', '.join(missing)}; expected the fields of QuALITY v1.0.1 with labels "
            "(the test file has none: use train and dev)"
        )
    for name, kind in fields.items():
        if not isinstance(record[name], kind) or (isinstance(record[name], bool) and name != "difficult"):
            raise DataError(f"{location}: {name} must be of type {kind.__name__}, got {record[name]!r:.60}")
        if kind is str and name != "article" and is_blank(normalize_text(record[name])):
            raise DataError(f"{location}: {name} must not be empty, got {record[name]!r:.60}")
    return dict(record)


def build_question(document: Document, raw: Any, location: str) -> Question:
    fields = check_fields(raw, QUESTION_FIELDS, location)
    options, gold = fields["options"], fields["gold_label"]
    texts = [option for option in options if isinstance(option, str) and not is_blank(normalize_text(option))]
    if len(texts) < max(2, len(options)):
        raise DataError(f"{location}: options must be at least two non-empty strings, got {options!r:.80}")
    if not 1 <= gold <= len(options):
        raise DataError(f"{location}: gold_label must be between 1 and {len(options)}, got {gold!r}")
    return Question(
        id=normalize_line(fields["question_unique_id"]),
        document_id=document.id,
        text=f"In the context of {document.citation}: {fields['question'].strip()}",
        choices=[str(option).strip() for option in options],
        answer=gold - 1,
        group="hard" if fields["difficult"] else "easy",
    )
