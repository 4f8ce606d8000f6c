"""Converts EPUB books to Markdown, chapter by chapter in reading order."""

import posixpath
import re
from collections import Counter
from io import BytesIO
from typing import Any
from urllib.parse import unquote, urlsplit
from zipfile import ZipFile

from entigraph.corpus.html_conversion import chapter_text, decode_page
from entigraph.corpus.zip_archives import check_unpacked_size

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
CHAPTERS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")
ENCRYPTED_ENTRY = 0x1  # in the flags of a zip entry
VOID = "area|base|br|col|embed|hr|img|input|link|meta|param|source|track|wbr"
SELF_CLOSED = re.compile(rf"<(?!(?:{VOID})[\s/>])([A-Za-z][\w:.-]*)(\s[^<>]*)?/>")


class EncryptedBook(Exception):
    """A book whose chapters are encrypted (DRM)."""


def epub_text(data: bytes, lost: Counter[str]) -> str:
    """Returns the chapters in the order of the spine, without the table of contents.

    Counts pictures, and chapters that the package lists but the file lacks. Raises EncryptedBook, and ValueError for a
    file that is no EPUB book or unpacks to more than a gigabyte.
    """
    with ZipFile(BytesIO(data)) as book:
        entries = {entry.filename: entry for entry in book.infolist()}
        chapters = list_chapters(book)
        present = [chapter for chapter in chapters if chapter in entries]
        if encrypted_files(book).intersection(present) or any(
            entries[chapter].flag_bits & ENCRYPTED_ENTRY for chapter in present
        ):
            raise EncryptedBook
        check_unpacked_size(entries[chapter] for chapter in present)
        lost["missing chapters"] += len(chapters) - len(present)
        pages = (expand_self_closed(decode_page(book.read(chapter), lost)) for chapter in present)
        texts = [chapter_text(page, lost) for page in pages]
    return "\n\n".join(filter(None, map(str.strip, texts)))


def list_chapters(book: ZipFile) -> list[str]:
    """Returns the paths of the chapters within the book, in reading order."""
    package = read_package_path(book)
    root = parse_xml(book.read(package))
    items = {item.get("id"): item for item in root.iterfind(".//{*}manifest/{*}item")}
    spine = [items[ref.get("idref")] for ref in root.iterfind(".//{*}spine/{*}itemref") if ref.get("idref") in items]
    chapters = [
        resolve(package, item.get("href", ""))
        for item in spine
        if item.get("media-type") in CHAPTERS and "nav" not in item.get("properties", "").split()
    ]
    if not chapters:
        raise ValueError(f"{package} lists no chapters")
    return list(dict.fromkeys(chapters))


def read_package_path(book: ZipFile) -> str:
    roots = parse_xml(book.read(CONTAINER)).iterfind(".//{*}rootfile")
    path = next((root.get("full-path") for root in roots), None)
    if not path:
        raise ValueError(f"{CONTAINER} names no package")
    return str(path)


def resolve(package: str, reference: str) -> str:
    """Returns the path within the book of a reference from its package file."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(urlsplit(reference).path)))


def encrypted_files(book: ZipFile) -> set[str]:
    """Returns the paths that the book lists as encrypted; often only obfuscated fonts."""
    if ENCRYPTION not in book.namelist():
        return set()
    references = parse_xml(book.read(ENCRYPTION)).iterfind(".//{*}CipherReference")
    return {resolve("", reference.get("URI", "")) for reference in references}


def parse_xml(data: bytes) -> Any:
    from lxml.etree import XMLParser, fromstring

    return fromstring(data, XMLParser(resolve_entities=False, no_network=True))


def expand_self_closed(page: str) -> str:
    """Returns XHTML as HTML, in which `<title/>` or `<a id="x"/>` would not end and contain what follows."""
    return SELF_CLOSED.sub(r"<\1\2></\1>", page)
