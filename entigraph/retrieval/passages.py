"""From documents to passages: recursive character splitting, title, author and year before each (paper §5, App. F).

The paper splits with LangChain. Its splitter alone asks for langchain-core and through it for a tracing client; and it
gives texts without their places, which recall by passage needs. What it does fits into one function.
"""

from collections.abc import Iterable, Iterator, Sequence

from entigraph.storage.schemas import Document, Passage

Span = tuple[int, int]
HEADING = (("author", "Author"), ("year", "Year Written"))


def split(documents: Iterable[Document], characters: int, separators: Sequence[str]) -> Iterator[Passage]:
    """At most `characters` of the document in each; the heading, put there afterwards, is not counted."""
    for document in documents:
        for number, (start, end) in enumerate(spans(document.text, characters, separators)):
            text = heading(document) + document.text[start:end]
            yield Passage(id=f"{document.id}#{number}", document_id=document.id, start=start, end=end, text=text)


def heading(document: Document) -> str:
    known = [("Title", document.title), *((label, document.meta.get(key, "")) for key, label in HEADING)]
    lines = [f"{label}: {value}" for label, value in known if value]
    return "\n".join(lines) + "\n\n" if lines else ""


def spans(text: str, characters: int, separators: Sequence[str]) -> list[Span]:
    """Where the passages stand: without overlap, cut at the first separator that occurs; a piece that is too long is
    cut again at the next one. The separator "" cuts anywhere; without it an endless word stays whole.
    """
    trimmed = (within(text, *span) for span in pieces(text, (0, len(text)), characters, list(separators)))
    return [span for span in trimmed if span[0] < span[1]]


def pieces(text: str, span: Span, characters: int, separators: list[str]) -> Iterator[Span]:
    start, end = span
    if length(text, span) <= characters or not separators:
        yield span
        return
    separator, *others = separators
    if not separator:
        yield from ((place, min(place + characters, end)) for place in range(start, end, characters))
        return
    pending: Span | None = None
    for piece in cut(text, span, separator):
        if pending and length(text, (pending[0], piece[1])) <= characters:
            pending = (pending[0], piece[1])
            continue
        if pending:
            yield pending
        pending = piece if length(text, piece) <= characters else None
        if pending is None:
            yield from pieces(text, piece, characters, others)
    if pending:
        yield pending


def cut(text: str, span: Span, separator: str) -> Iterator[Span]:
    """Each piece ends with its separator."""
    start, end = span
    while (found := text.find(separator, start, end)) >= 0:
        yield start, found + len(separator)
        start = found + len(separator)
    if start < end:
        yield start, end


def within(text: str, start: int, end: int) -> Span:
    """Without the white space at its ends."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())


def length(text: str, span: Span) -> int:
    start, end = within(text, *span)
    return end - start
