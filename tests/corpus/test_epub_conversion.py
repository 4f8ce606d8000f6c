"""EPUB books, written as their publishers write them: a package with a spine, and XHTML."""

from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import pytest

from entigraph.corpus import document_conversion
from entigraph.corpus.document_conversion import UnreadableFile, convert_file
from entigraph.corpus.html_conversion import OUTSIDE

CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
CHAPTER = (
    '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns="http://www.w3.org/1999/xhtml"><head><title/>'
    '<script src="a.js"/></head><body>{}</body></html>'
)
SECOND = CHAPTER.format(
    '<a id="c2"/><h1>The storm</h1><p>Captain&#160;Holloway lost his ship.<img src="ship.png"/></p>'
    "<aside><p>The wreck is still there.</p></aside><table><tr><th>Ship</th></tr><tr><td>Halcyon</td></tr></table>"
)
FIRST = CHAPTER.format("<h1>The keeper</h1><p>Miriam Vale kept the lamp of Orsk.</p>")
CONTENTS = CHAPTER.format('<p><a href="b%20c.xhtml">The keeper</a></p><p><a href="a.xhtml">The storm</a></p>')
CHAPTERS = {"OEBPS/text/a.xhtml": SECOND, "OEBPS/text/b c.xhtml": FIRST, "OEBPS/text/toc.xhtml": CONTENTS}


def write_epub(path: Path, chapters: dict[str, str] = CHAPTERS, *, encryption: str | None = None) -> Path:
    items = "".join(
        f'<item id="{name}" href="text/{file}" media-type="application/xhtml+xml"/>'
        for name, file in (("two", "a.xhtml"), ("one", "b%20c.xhtml"), ("toc", "toc.xhtml"), ("gone", "gone.xhtml"))
    )
    navigation = '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    spine = "".join(f'<itemref idref="{name}"/>' for name in ("nav", "toc", "one", "two", "gone"))
    with ZipFile(path, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr(
            "OEBPS/content.opf",
            f'<package xmlns="http://www.idpf.org/2007/opf"><manifest>{navigation}{items}</manifest>'
            f"<spine>{spine}</spine></package>",
        )
        book.writestr("OEBPS/nav.xhtml", CHAPTER.format("<nav><p>Contents</p></nav>"))
        if encryption:
            reference = f'<CipherReference URI="{encryption}"/>'
            book.writestr(
                "META-INF/encryption.xml", f"<encryption><EncryptedData>{reference}</EncryptedData></encryption>"
            )
        for name, text in chapters.items():
            book.writestr(name, text)
    return path


def test_chapters_are_converted_in_the_order_of_the_spine(tmp_path: Path) -> None:
    lost: Counter[str] = Counter()
    text = convert_file(write_epub(tmp_path / "a.epub"), lost)
    assert text == (
        "# The keeper\n\nMiriam Vale kept the lamp of Orsk.\n\n# The storm\n\nCaptain\xa0Holloway lost his ship.\n\n"
        "The wreck is still there.\n\n| Ship |\n| --- |\n| Halcyon |"
    )
    assert +lost == {"pictures": 1, "missing chapters": 1, OUTSIDE: len("ThekeeperThestorm")}


@pytest.mark.parametrize("encrypted", ["OEBPS/text/a.xhtml", "OEBPS/text/b%20c.xhtml"])
def test_encrypted_books_are_skipped(encrypted: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile) as caught:
        convert_file(write_epub(tmp_path / "a.epub", encryption=encrypted))
    assert caught.value.reason == document_conversion.ENCRYPTED_BOOK


def test_obfuscated_fonts_do_not_make_a_book_encrypted(tmp_path: Path) -> None:
    assert "Miriam Vale" in convert_file(write_epub(tmp_path / "a.epub", encryption="OEBPS/fonts/serif.otf"))


@pytest.mark.parametrize(
    ("written", "detail"),
    [
        (b"no archive", "BadZipFile"),
        ({"META-INF/container.xml": "<container/>"}, "names no package"),
        ({"META-INF/container.xml": CONTAINER, "OEBPS/content.opf": "<package/>"}, "lists no chapters"),
    ],
)
def test_damaged_books_are_skipped_with_a_reason(written: bytes | dict[str, str], detail: str, tmp_path: Path) -> None:
    file = tmp_path / "a.epub"
    if isinstance(written, bytes):
        file.write_bytes(written)
    else:
        with ZipFile(file, "w") as book:
            for name, text in written.items():
                book.writestr(name, text)
    with pytest.raises(UnreadableFile) as caught:
        convert_file(file)
    assert caught.value.reason == document_conversion.DAMAGED and detail in caught.value.detail
