"""PDF, HTML and Word files to text, by the converters of the extra `documents`; headings and tables as Markdown."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from io import BytesIO
from pathlib import Path

from entigraph.errors import ConfigError

ENCRYPTED = "encrypted; save it without a password"
NO_TEXT = "no text in it; if it is a scan, recognize its text first (OCR)"
DAMAGED = "damaged"
INSTALL = "pip install 'entigraph[documents]'"
OLE_HEADER = bytes.fromhex("d0cf11e0")  # a Word file with a password, or of before 2007
HYPHEN = "\x02"  # PDFium's mark for a hyphen that breaks a word at the end of a line
# Of the usual width, in characters: letters differ in theirs. Where a sentence ends, a paragraph is more likely to.
FULL_LINE, FULL_LAST_LINE = 0.85, 0.95
EDGE_LINES = 3  # of a page, where running titles and page numbers stand
RUNNING = 10  # what stands there on one page in ten is no text of the document
PAGE_NUMBER = re.compile(r"^\d+|\d+(?= ?(of|/) ?\d+$)|\d+$")
LIST_ITEM = re.compile(r"[•◦▪‣*–-]\s|\(?\d{1,2}[.)]\s")
LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}


class Unreadable(Exception):
    """A file that gives no text: for which reason, and what more is known."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Converter:
    """`packages` are those whose version decides the text."""

    packages: tuple[str, ...]
    text: Callable[[bytes], str]


def pdf_text(data: bytes) -> str:
    """Paragraphs in the order of the page, lines and broken words joined, without running titles and page numbers."""
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        document = PdfDocument(data)
    except PdfiumError as error:
        raise Unreadable(ENCRYPTED) if "password" in str(error).lower() else error from None
    try:
        pages = [lines_of(page.get_textpage().get_text_bounded()) for page in document]
    finally:
        document.close()
    empty = sum(not lines for lines in pages)
    if empty * 2 > len(pages):
        raise Unreadable(NO_TEXT, f"{empty} of {len(pages)} pages are empty or pictures")
    return "\n\n".join(paragraphs([line for page in without_running_lines(pages) for line in page]))


def lines_of(page: str) -> list[str]:
    broken = page.replace("\ufffe", HYPHEN).replace(HYPHEN, HYPHEN + "\n")
    lines = (re.sub(r"[\x00\x01\x03-\x08\x0b-\x1f\x7f]", "", line).strip() for line in broken.splitlines())
    return [line.translate(LIGATURES) for line in lines if line]


def without_running_lines(pages: list[list[str]]) -> Iterator[list[str]]:
    """Running titles and page numbers would stand in the middle of sentences."""
    edges = [{masked(line) for line in page[:EDGE_LINES] + page[-EDGE_LINES:]} for page in pages]
    count = Counter(line for edge in edges for line in edge)
    enough = max(min(3, len(pages)), 2, len(pages) / RUNNING)
    running = {line for line, found in count.items() if found >= enough}
    for page in pages:
        yield [
            line
            for at, line in enumerate(page)
            if not (min(at, len(page) - 1 - at) < EDGE_LINES and masked(line) in running)
        ]


def masked(line: str) -> str:
    return PAGE_NUMBER.sub("#", line)


def paragraphs(lines: list[str]) -> Iterator[str]:
    """PDF knows lines only: they belong together as long as they fill the usual width of the document's lines."""
    lengths = sorted(map(len, lines))
    width = lengths[len(lengths) * 9 // 10] if lengths else 0
    paragraph, last = "", ""
    for line in lines:
        if last.endswith(HYPHEN):
            # A name keeps its hyphen (Anglo-Saxon), a broken word loses it.
            paragraph = paragraph.removesuffix(HYPHEN) + ("" if line[0].islower() else "-") + line
        elif paragraph and continues(last, line, width):
            paragraph += " " + line
        else:
            if paragraph:
                yield paragraph
            paragraph = line
        last = line
    if paragraph:
        yield paragraph.removesuffix(HYPHEN)


def continues(last: str, line: str, width: int) -> bool:
    """Where the next line's first word would have found room, a paragraph ended."""
    full = FULL_LAST_LINE if last.endswith((".", "!", "?", ":")) else FULL_LINE
    room_taken = len(last) + 1 + len(line.split(None, 1)[0])
    return room_taken >= full * width and not LIST_ITEM.match(line)


def html_text(data: bytes) -> str:
    """The main text of a page, without its navigation."""
    from trafilatura import extract

    return extract(data, output_format="markdown", include_comments=False) or ""


def word_text(data: bytes) -> str:
    """The body with its notes; headers, footers and pictures are no text of it."""
    from mammoth import convert_to_html, images
    from markdownify import markdownify

    if data.startswith(OLE_HEADER):
        raise Unreadable(ENCRYPTED, "or of before Word 2007, which must be saved as .docx")
    html = convert_to_html(
        BytesIO(data),
        style_map="p[style-name='Title'] => h1:fresh",
        convert_image=images.img_element(lambda _: {}),
    ).value
    without_back_links = re.sub(r'<a href="#(foot|end)note-ref-[^>]*>↑</a>', "", html)
    text = markdownify(
        without_back_links,
        heading_style="ATX",
        strip=["a", "img"],
        escape_asterisks=False,
        escape_underscores=False,
        escape_misc=False,
    )
    return re.sub(r"\n{3,}", "\n\n", text)


HTML = Converter(("trafilatura",), html_text)
CONVERTERS: Mapping[str, Converter] = {
    ".pdf": Converter(("pypdfium2",), pdf_text),
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".docx": Converter(("mammoth", "markdownify"), word_text),
}
# Documents that nothing here reads: named, so that nobody believes them to be part of the corpus.
FOREIGN = frozenset({".doc", ".epub", ".odt", ".ppt", ".pptx", ".rtf"})


def converted(file: Path) -> str:
    """Raises Unreadable."""
    suffix = file.suffix.lower()
    if suffix in FOREIGN:
        raise Unreadable(f"{suffix} is not read; save it as .docx, .pdf, .html or .txt")
    data = file.read_bytes()
    try:
        text = CONVERTERS[suffix].text(data).strip()
    except Unreadable:
        raise
    except Exception as error:  # the converters raise many kinds, all of which mean the same to a user
        raise Unreadable(DAMAGED, f"{type(error).__name__}: {error}".splitlines()[0]) from None
    if not text:
        raise Unreadable(NO_TEXT)
    return text


def versions(files: Iterable[Path]) -> dict[str, str]:
    """The converters that these files need: another version may give another text.

    Raises ConfigError where one is not installed.
    """
    needing = [file for file in files if file.suffix.lower() in CONVERTERS]
    packages = sorted({package for file in needing for package in CONVERTERS[file.suffix.lower()].packages})
    try:
        return {package: metadata.version(package) for package in packages}
    except metadata.PackageNotFoundError:
        raise ConfigError(
            f"corpus.path: {len(needing):,} of its files, the first {needing[0]}, are read by the extra `documents`, "
            f"which is not installed: {INSTALL}; or take them out"
        ) from None
