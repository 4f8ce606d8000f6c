"""Splits documents into passages with recursive character splitting. Each passage starts with a heading: title, author
and year (paper §5, App. F).

The paper uses LangChain's splitter, which depends on langchain-core and a tracing client, and does not return the
character offsets that passage-level recall needs.
"""

from collections.abc import Iterable, Iterator, Sequence

from entigraph.storage.schemas import Document, Passage

Span = tuple[int, int]  # start and end characters
# The separators of the paper's splitter, and the marks that end sentences and clauses in scripts without spaces.
SEPARATORS = ("\n\n", "\n", "。", "！", "？", " ", "，", "、", "")
HEADING = (("author", "Author"), ("year", "Year Written"))


def split_documents(
    documents: Iterable[Document], characters: int, separators: Sequence[str] = SEPARATORS
) -> Iterator[Passage]:
    """Yields passages of at most `characters` characters of the document, not counting the heading."""
    for document in documents:
        for index, (start, end) in enumerate(split_text(document.text, characters, separators)):
            text = build_heading(document) + document.text[start:end]
            yield Passage(id=f"{document.id}#{index}", document_id=document.id, start=start, end=end, text=text)


def build_heading(document: Document) -> str:
    values = [("Title", document.title), *((label, document.meta.get(key, "")) for key, label in HEADING)]
    lines = [f"{label}: {value}" for label, value in values if value]
    return "\n".join(lines) + "\n\n" if lines else ""


def split_text(text: str, characters: int, separators: Sequence[str]) -> list[Span]:
    """Returns the spans of the passages, without overlap. Text is split at the first separator, and pieces that are too
    long are split recursively at the next ones. The separator "" splits anywhere; without it, long words stay whole.
    """
    trimmed = (trim(text, *span) for span in split_span(text, (0, len(text)), characters, list(separators)))
    return [span for span in trimmed if span[0] < span[1]]


def split_span(text: str, span: Span, characters: int, separators: list[str]) -> Iterator[Span]:
    start, end = span
    if trimmed_length(text, span) <= characters or not separators:
        yield span
        return
    separator, *others = separators
    if not separator:
        yield from ((offset, min(offset + characters, end)) for offset in range(start, end, characters))
        return
    pending: Span | None = None
    for piece in split_at(text, span, separator):
        if pending and trimmed_length(text, (pending[0], piece[1])) <= characters:
            pending = (pending[0], piece[1])
            continue
        if pending:
            yield pending
        pending = piece if trimmed_length(text, piece) <= characters else None
        if pending is None:
            yield from split_span(text, piece, characters, others)
    if pending:
        yield pending


def split_at(text: str, span: Span, separator: str) -> Iterator[Span]:
    """Yields pieces that end with the separator."""
    start, end = span
    while (position := text.find(separator, start, end)) >= 0:
        yield start, position + len(separator)
        start = position + len(separator)
    if start < end:
        yield start, end


def trim(text: str, start: int, end: int) -> Span:
    """Returns the span without leading and trailing whitespace."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def trimmed_length(text: str, span: Span) -> int:
    start, end = trim(text, *span)
    return end - start
