"""Converts a page to Markdown: finds the element with the main text, and keeps everything in it but navigation."""

from collections import Counter
from functools import cache
from typing import Any

from entigraph.corpus.formulas import formula_text
from entigraph.text.normalization import UTF_8, decode_text, detect_encoding, is_blank, normalize_text

CONTAINERS = frozenset({"article", "body", "center", "div", "form", "main", "section", "table", "tbody", "td", "tr"})
LEFT_OUT = (
    *("aside", "button", "canvas", "dialog", "footer", "iframe", "input", "nav", "noscript", "script", "select"),
    *("style", "svg", "template", "textarea"),
)
ROLES_LEFT_OUT = ("banner", "complementary", "contentinfo", "navigation", "search")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
TABLE_PARTS = ("tbody", "thead", "tfoot", "tr")
CELLS = (*TABLE_PARTS, "td", "th", "caption")
TEX_SCRIPT = "math/tex"
LISTS_OF_LINKS = ("div", "section", "ul", "ol", "table", "p")
LINK_SHARE = 0.6  # an element with at least this share of its text in links is navigation
CONVERTED_ATTRIBUTES = {"colspan", "start"}
SCRIPTS = {"sup": "^", "sub": "_"}


def html_text(data: bytes, lost: Counter[str]) -> str:
    """Returns the main text of a page; counts the pictures in it."""
    html = decode_page(data)
    if is_blank(normalize_text(html)):
        return ""
    page = parse_page(html)
    body = page.find("body") if page.find("body") is not None else page
    pieces = text_pieces(extract_main_text(html))
    root = main_element(body, pieces)
    rewrite_formulas(root)
    remove_navigation(root, pieces)
    unwrap_layout_tables(root)
    lost["pictures"] += len(list(root.iter("img", "video")))
    return element_text(root)


def decode_page(data: bytes) -> str:
    """Returns the text of a page in the encoding that it states, or else the most likely one."""
    from trafilatura.utils import decode_file

    return decode_text(data) if detect_encoding(data[:4]) != UTF_8 else decode_file(data)


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


def squeeze(element: Any) -> str:
    return "".join(element.text_content().split())


def rewrite_formulas(root: Any) -> None:
    """Replaces formulas, superscripts and subscripts by text."""
    for element in list(root.iter("math", "script", *SCRIPTS)):
        if element.tag == "math":
            replace_by_text(element, f" {formula_text(element)} ")
        elif element.tag in SCRIPTS and (text := element.text_content().strip()):
            replace_by_text(element, SCRIPTS[element.tag] + (text if text.isalnum() else f"({text})"))
        elif str(element.get("type", "")).startswith(TEX_SCRIPT):
            replace_by_text(element, f" ${(element.text or '').strip()}$ ")


def replace_by_text(element: Any, text: str) -> None:
    element.tail = text + (element.tail or "")
    element.drop_tree()  # keeps the tail


def remove_navigation(root: Any, pieces: list[str]) -> None:
    for element in list(root.iterdescendants()):
        if is_left_out(element) and element.getparent() is not None:
            element.drop_tree()
    for element in list(root.iterdescendants(*LISTS_OF_LINKS)):
        links = sum(len(squeeze(link)) for link in element.iter("a"))
        text = squeeze(element) if links else ""
        if text and links >= LINK_SHARE * len(text) and not any(piece in text for piece in pieces):
            element.drop_tree()


def is_left_out(element: Any) -> bool:
    hidden = element.get("aria-hidden") == "true" or element.get("hidden") is not None
    return (
        hidden or element.tag in LEFT_OUT or element.get("role") in ROLES_LEFT_OUT or not isinstance(element.tag, str)
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
