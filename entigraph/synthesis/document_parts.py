"""Documents too long for one request: in overlapping parts, cut at headings and paragraphs, nothing left out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from entigraph.llm.base import CHARACTERS_PER_TOKEN
from entigraph.storage.schemas import Document, EntityGraph

OVERLAP = 0.1  # of a part, which begins with the end of the one before it
SUMMARY_CHARACTERS = 2_000  # of the whole document, carried by each part


@dataclass(frozen=True, kw_only=True)
class Part(Document):
    """`text` is a part of the document `source`; `summary` is that of the whole, once its parts are summarized."""

    source: str
    number: int
    of: int
    summary: str = ""


def source_of(document: Document) -> str:
    return document.source if isinstance(document, Part) else document.id


def in_parts(document: Document, max_tokens: int | None) -> Sequence[Document]:
    """The document itself where it is short enough."""
    limit = int(max_tokens * CHARACTERS_PER_TOKEN) if max_tokens else None
    if limit is None or len(document.text) <= limit:
        return [document]
    texts = overlapping(pieces(document.text, int(limit * (1 - OVERLAP))), int(limit * OVERLAP))
    return [
        Part(
            **{**asdict(document), "id": f"{document.id}#{number}", "text": text},
            source=document.id,
            number=number,
            of=len(texts),
        )
        for number, text in enumerate(texts, 1)
    ]


def pieces(text: str, limit: int) -> list[str]:
    """As few as possible of at most `limit` characters, cut at the strongest border that is there."""
    found: list[str] = []
    for block in blocks(text, limit):
        heading = block.lstrip().startswith("#") and bool(found) and len(found[-1]) > limit / 2
        if found and not heading and len(found[-1]) + len(block) <= limit:
            found[-1] += block
        else:
            found.append(block)
    return found


def blocks(
    text: str, limit: int, borders: Sequence[str] = (r"(?<=\n\n)", r"(?<=\n)", r"(?<=[.!?]\s)", r"(?<=\s)")
) -> list[str]:
    """Paragraphs; of one that is too long its lines, then its sentences, then its words. Joined they are the text."""
    if len(text) <= limit and len(borders) < 4:
        return [text]
    if not borders:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    return [block for piece in re.split(borders[0], text) if piece for block in blocks(piece, limit, borders[1:])]


def overlapping(texts: Sequence[str], overlap: int) -> list[str]:
    """Each but the first begins with the last sentences of the one before it."""
    return [(tail(texts[number - 1], overlap) + text if number else text).strip() for number, text in enumerate(texts)]


def tail(text: str, characters: int) -> str:
    """Whole sentences (or lines, or words) from the end."""
    end = text[-characters:] if characters else ""
    for border in (r"\n\n", r"(?<=[.!?])\s", r"\s"):
        found = re.search(border, end)
        if found and len(end) - found.end() > characters / 2:
            return end[found.end() :]
    return end


def with_summaries(documents: Iterable[Document], graphs: Mapping[str, EntityGraph]) -> Iterator[Document]:
    """Each part carries the summaries of all parts of its document, each shortened to its share."""
    known = list(documents)
    told: dict[str, list[str]] = {}
    for document in known:
        if isinstance(document, Part) and document.id in graphs:
            summary = " ".join(graphs[document.id].summary.split())
            told.setdefault(document.source, []).append(shortened(summary, SUMMARY_CHARACTERS // document.of))
    for document in known:
        yield (
            replace(document, summary=" ".join(told.get(document.source, ())))
            if isinstance(document, Part)
            else document
        )


def shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[:limit].rsplit(" ", 1)[0] + " ..."
