"""Asks for the entities of each document, and reads the names in lists of any form."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

from entigraph.config.fields import check_minimums
from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.base import BadAnswer, PromptAugmenter, Steps
from entigraph.text.json_answers import STRING, array_schema, object_schema, parse_json_answer, parse_object
from entigraph.text.normalization import SURROGATE, normalize_text
from entigraph.text.writing_systems import PLAIN_SPELLING

ENTITY_SCHEMA = object_schema(summary=STRING, entities=array_schema())
BULLET, NUMBERING = re.compile(r"^(?:[-–—•*#]+ +)+"), re.compile(r"^\d{1,3}[.)] +")
EMPHASIS = re.compile(r"^(?P<mark>\*\*|\*|`|__(?=.*\s))(?P<name>.+)(?P=mark)$")
QUOTED = re.compile(
    r"^(?:\"(?P<straight>[^\"]+)\"|“(?P<curly>[^“”]+)”|«(?P<angle>[^«»]+)»|「(?P<corner>[^「」]+)」|"
    r"\[(?P<link>[^\[\]]+)\](?:\([^()]*\))?)$"
)
AROUND_NAMES = " \t\n,;:•"
NAME_KEYS = ("name", "entity", "entity_name", "title", "text", "label", "value")
FULL_WIDTH: Mapping[int, int] = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


@dataclass(frozen=True, kw_only=True)
class EntityAugmenter(PromptAugmenter):
    """Asks for the entities of each document first. `max_entities` limits the number of entities per document."""

    max_entities: int | None = None
    min_entities: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_minimums(self, "augmenter.", max_entities=self.min_entities)
        super().__post_init__()

    def graph(self, document: Document) -> Steps[EntityGraph]:
        answer = yield self.build_request(document, "entities", json_schema=ENTITY_SCHEMA)
        summary, names = read_entities(answer)
        spellings = group_spellings(names)
        entities = list(spellings)
        if len(entities) < self.min_entities:
            raise BadAnswer("too few entities for a pair" if self.min_entities == 2 else "no entities")
        kept = entities[: self.max_entities]
        return EntityGraph(
            document_id=document.id,
            summary=summary,
            entities=kept,
            left_out=len(entities) - len(kept),
            merged={name: spellings[name] for name in kept if spellings[name]},
        )


def read_entities(answer: str) -> tuple[str, list[str]]:
    """Returns the summary and the names in an answer, whose entries may be objects or numbers.

    Raises BadAnswer if the answer has no list of entities. An entry without a name is dropped.
    """
    try:
        fields = parse_object(answer, "entities", kind=list)
    except ValueError:
        try:
            fields = find_entities(parse_json_answer(answer, lambda value: find_entities(value) is not None)) or {}
        except ValueError:
            raise BadAnswer("entities that are not the JSON asked for") from None
    return str(fields.get("summary") or ""), [name for entry in fields["entities"] if (name := read_name(entry))]


def find_entities(value: Any, depth: int = 3) -> dict[str, Any] | None:
    """Returns the fields `entities`, as a list, and `summary` in JSON of another shape; None if there is no list."""
    if isinstance(value, list):  # not a number in brackets, such as "[1]"
        several = len(value) > 1 and all(isinstance(entry, str | dict) and read_name(entry) for entry in value)
        return {"entities": value} if several else None
    if not isinstance(value, dict) or not depth:
        return None
    fields = {str(key).casefold(): field for key, field in value.items()}
    entities = fields.get("entities")
    if isinstance(entities, dict):  # by type, or each with its type
        lists = [entry for entry in entities.values() if isinstance(entry, list)]
        entities = [*chain(*lists)] if lists else [*entities]
    if isinstance(entities, list):
        return {"summary": fields.get("summary"), "entities": entities}
    nested = (find_entities(field, depth - 1) for field in fields.values() if isinstance(field, dict))
    return next(filter(None, nested), None)


def read_name(entry: Any) -> str | None:
    if isinstance(entry, list) and entry:  # a name and its type
        entry = entry[0]
    if isinstance(entry, dict):
        fields = {str(key).casefold(): field for key, field in entry.items()}
        return next((fields[key] for key in NAME_KEYS if isinstance(fields.get(key), str)), None)
    if isinstance(entry, int | float) and not isinstance(entry, bool):
        return str(entry)
    return entry if isinstance(entry, str) else None


def group_spellings(names: Iterable[str]) -> dict[str, list[str]]:
    """Returns the distinct names, each with the other spellings that count as the same name.

    Normalizes Unicode, removes list markers, Markdown and enclosing quotation marks, and keeps the first of names that
    differ only in case, width, or the form of apostrophes and hyphens. The punctuation of a name stays: ".NET",
    "-273 degrees", "U.S.".
    """
    written_names = [SURROGATE.sub("", name).strip() for name in names]
    printable = [" ".join(normalize_text(name).split()) for name in written_names]
    plain_names = [BULLET.sub("", name.strip(AROUND_NAMES)) for name in printable]
    if sum(NUMBERING.match(name) is not None for name in plain_names) > 1:  # a single one may be a name: "1. FC Köln"
        plain_names = [NUMBERING.sub("", name) for name in plain_names]
    known: dict[str, tuple[str, str, list[str]]] = {}  # name, as first written, other spellings
    for name, written in zip(plain_names, written_names, strict=True):
        plain = EMPHASIS.sub(r"\g<name>", name).strip(AROUND_NAMES)
        if quoted := QUOTED.match(plain):
            plain = quoted[quoted.lastgroup or 0].strip(AROUND_NAMES)
        if plain.endswith((".", "。")) and "." not in plain[:-1]:  # a sentence's end, not an abbreviation's
            plain = plain[:-1].rstrip()
        if any(character.isalnum() for character in plain):
            key = plain.translate(FULL_WIDTH).translate(PLAIN_SPELLING).casefold()
            _, first, others = known.setdefault(key, (plain, written, []))
            if written != first and written not in others:
                others.append(written)
    return {name: others for name, _, others in known.values()}
