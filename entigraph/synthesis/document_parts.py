"""Splits documents that are too long for one request into overlapping parts, cut at headings and paragraphs."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from entigraph.storage.schemas import Document, EntityGraph
from entigraph.text.writing_systems import CLAUSE_END, SENTENCE_END, SENTENCE_START, characters_per_token

OVERLAP = 0.1  # share of a part that repeats the end of the previous one
SUMMARY_CHARACTERS = 2_000  # for the summary of the whole document, shown with each part
PARAGRAPH_END, LINE_END, WORD_END = r"(?<=\n\n)", r"(?<=\n)", r"(?<=\s)"
WEAKER_BOUNDARIES = (LINE_END, SENTENCE_END, CLAUSE_END, WORD_END)  # strongest first, for paragraphs that are too long


@dataclass(frozen=True, kw_only=True)
class DocumentPart(Document):
    """Part `number` of `of` parts of the document with the id `source`.

    `summary` is the summary of the whole document, known once its parts are summarized.
    """

    source: str
    number: int
    of: int
    summary: str = ""


def source_id(document: Document) -> str:
    """Returns the id of the whole document."""
    return document.source if isinstance(document, DocumentPart) else document.id


def split_document(document: Document, max_tokens: int | None) -> Sequence[Document]:
    """Returns parts with at most `max_tokens`, estimated by length, or the document itself if it is short enough."""
    limit = int(max_tokens * characters_per_token(document.text)) if max_tokens else None
    if limit is None or len(document.text) <= limit:
        return [document]
    texts = add_overlap(split_text(document.text, int(limit * (1 - OVERLAP))), int(limit * OVERLAP))
    return [
        DocumentPart(
            **{**asdict(document), "id": f"{document.id}#{number}", "text": text},
            source=document.id,
            number=number,
            of=len(texts),
        )
        for number, text in enumerate(texts, 1)
    ]


def split_text(text: str, limit: int) -> list[str]:
    """Splits a text into as few pieces of at most `limit` characters as possible, at the strongest boundaries.

    A heading starts a new piece if the current one is more than half full. The pieces join to the text.
    """
    pieces: list[str] = []
    for block in split_blocks(text, limit):
        heading = block.lstrip().startswith("#") and bool(pieces) and len(pieces[-1]) > limit / 2
        if pieces and not heading and len(pieces[-1]) + len(block) <= limit:
            pieces[-1] += block
        else:
            pieces.append(block)
    return pieces


def split_blocks(text: str, limit: int) -> list[str]:
    """Splits a text into paragraphs; longer ones than `limit` into lines, sentences, clauses, words, characters."""
    paragraphs = [paragraph for paragraph in re.split(PARAGRAPH_END, text) if paragraph]
    return [block for paragraph in paragraphs for block in split_at_boundaries(paragraph, limit, WEAKER_BOUNDARIES)]


def split_at_boundaries(text: str, limit: int, boundaries: Sequence[str]) -> list[str]:
    if len(text) <= limit:
        return [text]
    if not boundaries:
        return [text[start : start + limit] for start in range(0, len(text), limit)]
    pieces = [piece for piece in re.split(boundaries[0], text) if piece]
    return [block for piece in pieces for block in split_at_boundaries(piece, limit, boundaries[1:])]


def add_overlap(texts: Sequence[str], overlap: int) -> list[str]:
    """Prepends the last sentences of each text to the next one."""
    previous_ends = ["", *(last_sentences(text, overlap) for text in texts[:-1])]
    return [(end + text).strip() for end, text in zip(previous_ends, texts, strict=True)]


def last_sentences(text: str, characters: int) -> str:
    """Returns at most `characters` characters from the end, starting at a paragraph, sentence or word if possible."""
    end = text[-characters:] if characters else ""
    for boundary in (r"\n\n", SENTENCE_START, r"\s", CLAUSE_END):
        match = re.search(boundary, end)
        if match and len(end) - match.end() > characters / 2:
            return end[match.end() :]
    return end


def add_summaries(documents: Iterable[Document], graphs: Mapping[str, EntityGraph]) -> Iterator[Document]:
    """Gives each part the summaries of all parts of its document, each shortened to an equal share."""
    documents = list(documents)
    summaries: dict[str, list[str]] = {}
    for part in documents:
        if isinstance(part, DocumentPart) and part.id in graphs:
            summary = " ".join(graphs[part.id].summary.split())
            summaries.setdefault(part.source, []).append(shorten(summary, SUMMARY_CHARACTERS // part.of))
    for document in documents:
        if isinstance(document, DocumentPart):
            yield replace(document, summary=" ".join(summaries.get(document.source, ())))
        else:
            yield document


def shorten(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    return text[:limit].rsplit(" ", 1)[0] + " ..."
