"""QuALITY v1.0.1 as released (paper §3, App. C): JSON lines, one for each article and question writer."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from entigraph.config.fields import runtime_field
from entigraph.corpus.base import Content, existing
from entigraph.errors import DataError
from entigraph.storage.schemas import Document, Question

FIELDS = {"article_id": str, "title": str, "article": str, "questions": list}
QUESTION_FIELDS = {"question": str, "question_unique_id": str, "options": list, "gold_label": int, "difficult": int}


@dataclass(frozen=True, kw_only=True)
class Quality:
    """`path` is one released file, or a folder with the train and dev files (265 articles, 4,609 questions).

    The lines of one article are merged, as the paper does. A question is put in its document's context: title, author
    and year stand in it, so that it can be asked without the document.
    """

    name: str = "quality"
    path: str = runtime_field("")
    fictional: ClassVar[bool] = False
    questions_known: ClassVar[bool] = True

    def sources(self) -> list[Path]:
        return [
            existing(self.path, "corpus.path", "the QuALITY v1.0.1 htmlstripped file, or the folder with train and dev")
        ]

    def files(self) -> list[Path]:
        (path,) = self.sources()
        if path.is_file():
            return [path]
        return [file for file in sorted(path.glob("QuALITY*htmlstripped*")) if file.suffix != ".test"]

    def read(self) -> Content:
        documents: dict[str, Document] = {}
        asked: list[Question] = []
        for file in self.files():
            for place, line in articles(file):
                document = Document(
                    id=f"quality-{line['article_id']}",
                    title=line["title"],
                    text=line["article"],
                    meta={key: str(line[key]) for key in ("author", "year", "topic", "source", "url") if line.get(key)},
                )
                documents.setdefault(document.id, document)
                asked += [
                    question(document, raw, f"{place}, question {n}") for n, raw in enumerate(line["questions"], 1)
                ]
        if not documents:
            raise DataError(
                f"{self.path} holds no QuALITY articles; expected QuALITY.v1.0.1.htmlstripped.train and .dev"
            )
        unique = {question.id: question for question in asked}
        return Content(
            list(documents.values()), list(unique.values()), {"duplicate_questions": len(asked) - len(unique)}
        )


def articles(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each line with its place. Raises DataError where it is not an article."""
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
        yield place, require(line, FIELDS, place)


def require(found: Any, fields: Mapping[str, type], place: str) -> dict[str, Any]:
    """The line or question, where it has every field, of its type."""
    missing = [name for name in fields if not isinstance(found, dict) or name not in found]
    if missing:
        raise DataError(
            f"{place}: lacks {', '.join(missing)}; expected the fields of QuALITY v1.0.1 with labels "
            "(the test file has none: use train and dev)"
        )
    for name, kind in fields.items():
        if not isinstance(found[name], kind):
            raise DataError(f"{place}: {name} is {found[name]!r:.60}; expected {kind.__name__}")
    return dict(found)


def question(document: Document, raw: Any, place: str) -> Question:
    fields = require(raw, QUESTION_FIELDS, place)
    options, gold = fields["options"], fields["gold_label"]
    if not all(isinstance(option, str) and option.strip() for option in options):
        raise DataError(f"{place}: options are {options!r}; expected texts")
    if not 1 <= gold <= len(options):
        raise DataError(f"{place}: gold_label is {gold!r}; expected 1 to {len(options)}")
    return Question(
        id=str(fields["question_unique_id"]),
        document_id=document.id,
        text=f"{setting(document)}: {fields['question'].strip()}",
        choices=[str(option).strip() for option in options],
        answer=gold - 1,
        group="hard" if fields["difficult"] else "easy",
    )


def setting(document: Document) -> str:
    """The document named as the paper names it in a question (App. I.1): title, author, year."""
    author = " by " + first_name_first(document.meta["author"]) if document.meta.get("author") else ""
    year = f" ({document.meta['year']})" if document.meta.get("year") else ""
    return f'In the context of "{document.title}"{author}{year}'


def first_name_first(author: str) -> str:
    last, comma, first = author.partition(", ")
    return f"{first} {last}" if comma else author
