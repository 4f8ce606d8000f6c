"""Converts a page to Markdown: finds the element with the main text, and keeps everything in it but navigation."""

import codecs
import re
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from typing import Any

from entigraph.corpus.formulas import formula_text
from entigraph.text.normalization import UTF_8, decode_text, detect_encoding, is_blank, normalize_text

CONTAINERS = frozenset({"article", "body", "center", "div", "form", "main", "section", "table", "tbody", "td", "tr"})
LEFT_OUT = {
    *("aside", "button", "canvas", "dialog", "footer", "iframe", "input", "nav", "noscript", "script", "select"),
    *("style", "svg", "template", "textarea"),
}
UNCOUNTED = frozenset({"button", "canvas", "input", "nav", "script", "style", "template"})
NOTE = re.compile(r"\b(foot|end|side)?notes?\b")  # in the class or role of asides and footers that belong to the text
PARTS = frozenset({"article", "section"})
ROLES_LEFT_OUT = ("banner", "complementary", "contentinfo", "navigation", "search")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
TABLE_PARTS = ("tbody", "thead", "tfoot", "tr")
CELLS = (*TABLE_PARTS, "td", "th", "caption")
FORMULAS = frozenset({"math", "m:math", "mml:math"})
TEX_SCRIPT = "math/tex"
LISTS_OF_LINKS = ("div", "section", "ul", "ol", "table", "p")
LINK_SHARE = 0.6  # an element with at least this share of its text in links is navigation
MIN_PARAGRAPH = 40  # characters without whitespace; shorter ones may be captions and notices
OUTSIDE = "characters outside the main text"
CONVERTED_ATTRIBUTES = {"colspan", "start"}
PRONUNCIATION = frozenset({"rp", "rt"})  # in small characters beside a word, between whose characters it would be
REPLACEMENT, MAX_UNDECODABLE = "\ufffd", 0.01  # with more replaced characters, a page states a wrong encoding
UTF_16_STARTS = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}
STATEFUL = frozenset({"iso2022_jp", "iso2022_kr", "hz", "utf-16-le", "utf-16-be"})  # pages in them may be valid UTF-8
WIDER_ENCODINGS = {
    "iso8859-1": "cp1252",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
SCRIPTS = {"sup": "^", "sub": "_"}


def html_text(data: bytes, lost: Counter[str]) -> str:
    """Returns the main text of a page; counts the pictures in it, and the text outside it that is not navigation."""
    html = decode_page(data, lost)
    if is_blank(normalize_text(html)):
        return ""
    page = parse_page(html)
    body = page.find("body") if page.find("body") is not None else page
    pieces = text_pieces(extract_main_text(html))
    root = with_parallel_parts(main_element(body, pieces))
    add_heading(root, body)
    rewrite_formulas(root)
    lost[OUTSIDE] += remove_navigation(root, pieces)
    if root is not body:
        root.drop_tree()
        remove_navigation(body, ())
        lost[OUTSIDE] += len(squeeze(body))
    unwrap_layout_tables(root)
    lost["pictures"] += len(list(root.iter("img", "video")))
    return element_text(root)


def chapter_text(html: str, lost: Counter[str]) -> str:
    """Returns a chapter of a book, all of which is text but its lists of links; counts the pictures."""
    page = parse_page(html)
    root = page.find("body") if page.find("body") is not None else page
    rewrite_formulas(root)
    for element in list(root.iter(*UNCOUNTED)):
        element.drop_tree()
    links = sum(len(squeeze(link)) for link in root.iter("a"))
    if links and links >= LINK_SHARE * (size := len(squeeze(root))):
        lost[OUTSIDE] += size
        return ""
    lost["pictures"] += len(list(root.iter("img", "image", "video")))
    return element_text(root)


def decode_page(data: bytes, lost: Counter[str]) -> str:
    """Returns the text of a page; counts the characters that cannot be decoded.

    The encoding is that of the byte order mark, or UTF-8 if the page is valid UTF-8, or the one that the page states,
    or else the most likely one.
    """
    from trafilatura.utils import decode_file

    if detect_encoding(data[:4]) != UTF_8:
        return decode_text(data)
    stated = stated_encoding(data)
    if stated not in STATEFUL:
        with suppress(UnicodeDecodeError):
            return data.decode(UTF_8)
    text = data.decode(stated, "replace") if stated else ""
    if not text or text.count(REPLACEMENT) > MAX_UNDECODABLE * len(text):
        text = decode_file(data)
    lost["undecodable characters"] += text.count(REPLACEMENT)
    return text


def stated_encoding(data: bytes) -> str | None:
    """Returns Python's name of the encoding that a page states, or that its first character shows; None if unknown."""
    from bs4.dammit import EncodingDetector

    if data[:2] in UTF_16_STARTS:
        return UTF_16_STARTS[data[:2]]
    stated = EncodingDetector.find_declared_encoding(data, is_html=True)
    try:
        name = codecs.lookup(stated).name if stated else None
    except LookupError:
        return None
    return WIDER_ENCODINGS.get(name, name) if name else None


def parse_page(html: str) -> Any:
    from lxml.html import HTMLParser, document_fromstring

    return document_fromstring(html.encode("utf-8", "replace"), parser=HTMLParser(encoding="utf-8"))


def extract_main_text(html: str) -> str:
    from trafilatura import extract

    return extract(html, options=extraction_options()) or ""


@cache
def extraction_options() -> Any:
    from trafilatura.settings import Extractor

    return Extractor(output_format="txt", comments=False, fast=True)


def text_pieces(text: str) -> list[str]:
    """Returns the paragraphs, list items and cells that trafilatura takes for the main text, without whitespace."""
    pieces = [piece.removeprefix("- ") for line in text.split("\n") for piece in line.split("|")]
    return [squeezed for piece in pieces if (squeezed := "".join(piece.split()))]


def main_element(body: Any, pieces: list[str]) -> Any:
    """Returns the innermost container of all these pieces of text, which also contains what lies between them."""
    text = squeeze(body)
    contained = [piece for piece in pieces if piece in text]
    element = body
    while contained:
        shown = {child: squeeze(child) for child in element if child.tag in CONTAINERS}
        inner = next((child for child in shown if all(piece in shown[child] for piece in contained)), None)
        if inner is None:
            break
        element = inner
    return next(element.iterancestors("table"), element) if element.tag in TABLE_PARTS else element


def with_parallel_parts(element: Any) -> Any:
    """Returns a container of the main element and its parallels, such as a second article; the element if none."""
    for part in (element, *element.iterancestors("article", "div", "section")):
        parent = part.getparent()
        parts = [child for child in parent if child is part or is_parallel(child, part)] if parent is not None else []
        if len(parts) > 1:
            container = parent.makeelement("div")
            parent.insert(parent.index(parts[0]), container)
            container.extend(parts)
            return container
    return element


def is_parallel(element: Any, part: Any) -> bool:
    """Returns whether an element is of the same kind as a part of the main text, and mostly paragraphs."""
    same_tag = element.tag == part.tag == "div" and part.get("class")
    if not (same_tag or {element.tag, part.tag} <= PARTS) or element.get("class") != part.get("class"):
        return False
    paragraphs = [len(squeeze(paragraph)) for paragraph in element.iter("p")]
    return sum(size for size in paragraphs if size >= MIN_PARAGRAPH) * 2 > len(squeeze(element))


def add_heading(root: Any, body: Any) -> None:
    """Moves the page's only heading of level 1 into the main text, unless it is a link to the start page."""
    headings = list(body.iter("h1"))
    if len(headings) != 1 or root.tag == "table" or is_blank(squeeze(headings[0])):
        return
    (heading,) = headings
    around = list(heading.iterancestors())
    if root in around or heading.find(".//a") is not None or any(is_left_out(element) for element in around):
        return
    heading.drop_tree()
    root.text, heading.tail = None, root.text
    root.insert(0, heading)


def squeeze(element: Any) -> str:
    return "".join(element.text_content().split())


def rewrite_formulas(root: Any) -> None:
    """Replaces formulas, superscripts and subscripts with text."""
    for element in list(root.iter("{*}*")):
        if element.tag in FORMULAS:
            replace_with_text(element, f" {formula_text(element)} ")
        elif element.tag in SCRIPTS and (text := element.text_content().strip()):
            replace_with_text(element, SCRIPTS[element.tag] + (text if text.isalnum() else f"({text})"))
        elif element.tag in PRONUNCIATION:
            element.drop_tree()
        elif str(element.get("type", "")).startswith(TEX_SCRIPT):
            replace_with_text(element, f" ${(element.text or '').strip()}$ ")


def replace_with_text(element: Any, text: str) -> None:
    element.tail = text + (element.tail or "")
    element.drop_tree()  # keeps the tail


def remove_navigation(root: Any, pieces: Collection[str]) -> int:
    """Removes what is not text, and lists of links; returns the number of characters that may have been text."""
    removed = 0
    for element in reversed(list(root.iterdescendants())):  # the innermost first, so that each character counts once
        if is_left_out(element):
            removed += len(squeeze(element)) if may_be_text(element) else 0
            element.drop_tree()
    size = len(squeeze(root))
    for element in list(root.iterdescendants(*LISTS_OF_LINKS)):
        links = sum(len(squeeze(link)) for link in element.iter("a"))
        text = squeeze(element) if links else ""
        if text and links >= LINK_SHARE * len(text) and not any(piece in text for piece in pieces):
            element.drop_tree()
    return removed + size - len(squeeze(root))


def is_left_out(element: Any) -> bool:
    if not isinstance(element.tag, str) or element.get("hidden", "until-found") != "until-found":
        return True
    role = element.get("role", "")
    if element.get("aria-hidden") == "true" or element.tag in LEFT_OUT or role in ROLES_LEFT_OUT:
        return not NOTE.search(f"{role} {element.get('class', '')}")
    return False


def may_be_text(element: Any) -> bool:
    if not isinstance(element.tag, str) or not squeeze(element):
        return False
    return not any(
        item.tag in UNCOUNTED or item.get("aria-hidden") == "true" or item.get("role") in ("navigation", "search")
        for item in (element, *element.iterancestors())
    )


def unwrap_layout_tables(root: Any) -> None:
    """Makes divisions of tables that arrange a page: those with headings or other tables in them."""
    for table in list(root.iter("table")):
        if next(table.iterdescendants("table", *HEADINGS), None) is not None:
            cells = [cell for cell in table.iterdescendants(*CELLS) if next(cell.iterancestors("table")) is table]
            for element in (table, *cells):
                element.tag = "div"


def element_text(root: Any) -> str:
    """Returns an element as Markdown without links. What does not affect the text is removed first: it takes time."""
    from lxml.etree import Element, strip_tags
    from lxml.html import tostring

    from entigraph.corpus.markdown_conversion import markdown

    root.tag, root.tail = root.tag if root.tag == "table" else "div", None
    for element in root.iter(Element):
        for name in set(element.attrib) - CONVERTED_ATTRIBUTES:
            del element.attrib[name]
    strip_tags(root, "a", "font", "span")
    return markdown(str(tostring(root, encoding="unicode")))
