"""Reads QuALITY v1.0.1 as released (paper §3, App. C): JSON lines, one per article and question writer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus.base import CorpusContent, resolve_path
from entigraph.errors import DataError
from entigraph.storage.schemas import Document, Question

FIELDS = {"article_id": str, "title": str, "article": str, "questions": list}
QUESTION_FIELDS = {"question": str, "question_unique_id": str, "options": list, "gold_label": int, "difficult": int}


@dataclass(frozen=True, kw_only=True)
class Quality:
    """`path` is one released file, or a folder with the train and dev files (265 articles, 4,609 questions).

    The lines of one article are merged, as in the paper. Each question names title, author and year of its document, so
    that it can be asked without the document.
    """

    name: str = "quality"
    path: str = runtime_field("")
    fictional: ClassVar[bool] = False
    questions_known: ClassVar[bool] = True

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
        questions: list[Question] = []
        for file in self.files():
            for place, line in read_articles(file):
                document = Document(
                    id=f"quality-{line['article_id']}",
                    title=line["title"],
                    text=line["article"],
                    meta={key: str(line[key]) for key in ("author", "year", "topic", "source", "url") if line.get(key)},
                )
                documents.setdefault(document.id, document)
                questions += [
                    build_question(document, raw, f"{place}, question {n}")
                    for n, raw in enumerate(line["questions"], 1)
                ]
        if not documents:
            raise DataError(
                f"{self.path} contains no QuALITY articles; expected QuALITY.v1.0.1.htmlstripped.train and .dev"
            )
        unique = {question.id: question for question in questions}
        return CorpusContent(
            list(documents.values()), list(unique.values()), {"duplicate_questions": len(questions) - len(unique)}
        )


def read_articles(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each line with its place. Raises DataError for a line that is not an article."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8 and run again") from None
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        place = f"{file}:{number}"
        try:
            line = json.loads(raw)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{place}: not JSON ({error.msg} at column {error.colno}); expected a line of QuALITY v1.0.1"
            ) from None
        yield place, check_fields(line, FIELDS, place)


def check_fields(record: Any, fields: Mapping[str, type], place: str) -> dict[str, Any]:
    """Returns a line or question. Raises DataError if a field is missing or of another type."""
    missing = [name for name in fields if not isinstance(record, dict) or name not in record]
    if missing:
        raise DataError(
            f"{place}: lacks {', '.join(missing)}; expected the fields of QuALITY v1.0.1 with labels "
            "(the test file has none: use train and dev)"
        )
    for name, kind in fields.items():
        if not isinstance(record[name], kind):
            raise DataError(f"{place}: {name} is {record[name]!r:.60}; expected {kind.__name__}")
    return dict(record)


def build_question(document: Document, raw: Any, place: str) -> Question:
    fields = check_fields(raw, QUESTION_FIELDS, place)
    options, gold = fields["options"], fields["gold_label"]
    if not all(isinstance(option, str) and option.strip() for option in options):
        raise DataError(f"{place}: options are {options!r}; expected texts")
    if not 1 <= gold <= len(options):
        raise DataError(f"{place}: gold_label is {gold!r}; expected 1 to {len(options)}")
    return Question(
        id=str(fields["question_unique_id"]),
        document_id=document.id,
        text=f"{render_context(document)}: {fields['question'].strip()}",
        choices=[str(option).strip() for option in options],
        answer=gold - 1,
        group="hard" if fields["difficult"] else "easy",
    )


def render_context(document: Document) -> str:
    """Returns title, author and year as the paper names a document in a question (App. I.1)."""
    author = " by " + first_name_first(document.meta["author"]) if document.meta.get("author") else ""
    year = f" ({document.meta['year']})" if document.meta.get("year") else ""
    return f'In the context of "{document.title}"{author}{year}'


def first_name_first(author: str) -> str:
    last, comma, first = author.partition(", ")
    return f"{first} {last}" if comma else author
