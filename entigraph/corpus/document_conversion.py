"""Converts PDF, HTML, Word and EPUB files to text with the packages of the extra `documents`.

Headings and tables become Markdown.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from entigraph.corpus.epub_conversion import EncryptedBook, epub_text
from entigraph.corpus.html_conversion import html_text
from entigraph.corpus.word_conversion import word_text
from entigraph.errors import ConfigError
from entigraph.text.writing_systems import UNSPACED_CHARACTERS, split_words

ENCRYPTED = "encrypted; save it without a password"
ENCRYPTED_BOOK = "encrypted (DRM); only its publisher can remove that"
NO_TEXT = "no text in it; if it is a scan, recognize its text first (OCR)"
DAMAGED = "damaged"
INSTALL = "pip install 'entigraph[documents]'"
OLE_HEADER = bytes.fromhex("d0cf11e0")  # a Word file with a password, or from before 2007
HYPHEN = "\x02"  # PDFium's mark for a hyphen that breaks a word at the end of a line
# Share of the usual line width, in characters, from which a line counts as full: letters differ in width. At the end of
# a sentence a paragraph is more likely to end, so the threshold is higher.
FULL_LINE, FULL_SENTENCE_END = 0.85, 0.95
EDGE_LINES = 3  # lines at the top and bottom of a page that may be running titles and page numbers
PAGES_PER_RUNNING_LINE = 10  # a line on at least one page in ten is not part of the text
PAGE_NUMBER = re.compile(r"^\d+|\d+(?= ?(of|/) ?\d+$)|\d+$")
LIST_ITEM = re.compile(r"[•◦▪‣*–-]\s|\(?\d{1,2}[.)]\s")
LIGATURES = {code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)}


class UnreadableFile(Exception):
    """A file without text. `reason` is one of few kinds, `detail` is about this file."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Converter:
    """`packages` are the distributions whose versions affect the text. `text` counts what it cannot convert."""

    packages: tuple[str, ...]
    text: Callable[[bytes, Counter[str]], str]


def pdf_text(data: bytes, lost: Counter[str]) -> str:
    """Returns the paragraphs in page order, with lines and hyphenated words joined, without running titles."""
    from pypdfium2 import PdfDocument, PdfiumError
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    try:
        document = PdfDocument(data)
    except PdfiumError as error:
        raise UnreadableFile(ENCRYPTED) if "password" in str(error).lower() else error from None
    try:
        pages = [page_lines(page.get_textpage().get_text_bounded()) for page in document]
        pictures = sum(1 for page in document for _ in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE]))
    finally:
        document.close()
    empty = sum(not lines for lines in pages)
    if empty * 2 > len(pages):
        raise UnreadableFile(NO_TEXT, f"{empty} of {len(pages)} pages are empty or pictures")
    lost["pages without text"] += empty
    lost["pictures"] += pictures
    return "\n\n".join(join_paragraphs([line for page in remove_running_lines(pages) for line in page]))


def page_lines(page: str) -> list[str]:
    broken = page.replace("\ufffe", HYPHEN).replace(HYPHEN, HYPHEN + "\n")
    lines = (re.sub(r"[\x00\x01\x03-\x08\x0b-\x1f\x7f]", "", line).strip() for line in broken.splitlines())
    return [line.translate(LIGATURES) for line in lines if line]


def remove_running_lines(pages: list[list[str]]) -> Iterator[list[str]]:
    """Removes running titles and page numbers, which would interrupt sentences."""
    edges = [{mask_page_number(line) for line in page[:EDGE_LINES] + page[-EDGE_LINES:]} for page in pages]
    count = Counter(line for edge in edges for line in edge)
    enough = max(min(3, len(pages)), 2, len(pages) / PAGES_PER_RUNNING_LINE)
    running = {line for line, pages_with_it in count.items() if pages_with_it >= enough}
    for page in pages:
        yield [
            line
            for index, line in enumerate(page)
            if not (min(index, len(page) - 1 - index) < EDGE_LINES and mask_page_number(line) in running)
        ]


def mask_page_number(line: str) -> str:
    return PAGE_NUMBER.sub("#", line)


def join_paragraphs(lines: list[str]) -> Iterator[str]:
    """PDF has lines only: they belong to one paragraph as long as they fill the usual width of the document's lines."""
    lengths = sorted(map(len, lines))
    width = lengths[len(lengths) * 9 // 10] if lengths else 0
    paragraph, last = "", ""
    for line in lines:
        if last.endswith(HYPHEN):
            # A name keeps its hyphen (Anglo-Saxon), a broken word loses it.
            paragraph = paragraph.removesuffix(HYPHEN) + ("" if line[0].islower() else "-") + line
        elif paragraph and continues(last, line, width):
            paragraph += ("" if joins_without_space(last, line) else " ") + line
        else:
            if paragraph:
                yield paragraph
            paragraph = line
        last = line
    if paragraph:
        yield paragraph.removesuffix(HYPHEN)


def joins_without_space(last: str, line: str) -> bool:
    """Returns whether lines meet between characters of a script without spaces."""
    return bool(UNSPACED_CHARACTERS.match(last[-1]) and UNSPACED_CHARACTERS.match(line))


def continues(last: str, line: str, width: int) -> bool:
    """A paragraph ends at a line that had room for the first word of the next line."""
    full = FULL_SENTENCE_END if last.endswith((".", "!", "?", ":")) else FULL_LINE
    first_word = split_words(line)[:1] if UNSPACED_CHARACTERS.match(line) else line.split(None, 1)[:1]
    room_taken = len(last) + 1 + len(first_word[0])
    return room_taken >= full * width and not LIST_ITEM.match(line)


def docx_text(data: bytes, lost: Counter[str]) -> str:
    if data.startswith(OLE_HEADER):
        raise UnreadableFile(ENCRYPTED, "or of before Word 2007, which must be saved as .docx")
    return word_text(data, lost)


def book_text(data: bytes, lost: Counter[str]) -> str:
    try:
        return epub_text(data, lost)
    except EncryptedBook:
        raise UnreadableFile(ENCRYPTED_BOOK) from None


HTML = Converter(("trafilatura", "markdownify", "lxml"), html_text)
CONVERTERS: Mapping[str, Converter] = {
    ".pdf": Converter(("pypdfium2",), pdf_text),
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".docx": Converter(("mammoth", "markdownify", "lxml"), docx_text),
    ".epub": Converter(("trafilatura", "markdownify", "lxml"), book_text),
}
# Document formats that are not supported: reported as skipped, so that they are not assumed to be in the corpus.
UNSUPPORTED = frozenset({".doc", ".odt", ".ppt", ".pptx", ".rtf"})


def convert_file(file: Path, lost: Counter[str] | None = None) -> str:
    """Returns the text of a file; adds what is not converted to `lost`. Raises UnreadableFile."""
    lost = Counter() if lost is None else lost
    suffix = file.suffix.lower()
    if suffix in UNSUPPORTED:
        raise UnreadableFile(f"{suffix} is not supported; save it as .docx, .pdf, .html or .txt")
    data = file.read_bytes()
    try:
        text = re.sub(r"\n{3,}", "\n\n", CONVERTERS[suffix].text(data, lost)).strip()
    except (UnreadableFile, ImportError):  # a converter that cannot be imported says nothing about the file
        raise
    except Exception as error:  # the converters raise many kinds
        raise UnreadableFile(DAMAGED, f"{type(error).__name__}: {error}".splitlines()[0]) from None
    if not text:
        raise UnreadableFile(NO_TEXT)
    return text


def converter_versions(files: Iterable[Path]) -> dict[str, str]:
    """Returns the versions of the packages that these files need: another version may give another text.

    Raises ConfigError if one is not installed.
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
