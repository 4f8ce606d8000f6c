"""Converts Word documents (.docx) to Markdown."""

import re
from collections import Counter
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from entigraph.corpus.formulas import formula_text
from entigraph.corpus.zip_archives import check_unpacked_size

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart"
PARTS = re.compile(r"word/(document|footnotes|endnotes)\d*\.xml")
PICTURES = "word/media/"
# Elements that the converter ignores with the text in them.
WRAPPERS = tuple(f"{WORD}{name}" for name in ("bdo", "dir", "fldSimple", "ruby", "rubyBase"))
REWRITTEN = re.compile(rb"oMath|w:(bdo|dir|fldSimple|ruby|vanish|txbxContent)\b|c:chart")
IGNORED = re.compile(r"unrecognised element was ignored: (\S+)")
UNKNOWN_SYMBOL = "A w:sym element with an unsupported character"


def word_text(data: bytes, lost: Counter[str]) -> str:
    """Returns the body with its notes, without headers and footers; counts pictures and unsupported elements.

    Raises ValueError for a file that unpacks to more than a gigabyte.
    """
    from mammoth import convert_to_html, images

    from entigraph.corpus.markdown_conversion import markdown

    def leave_out_picture(image: Any) -> dict[str, str]:
        lost["pictures"] += 1
        return {}

    result = convert_to_html(
        BytesIO(rewrite_unsupported(data, lost)),
        style_map="p[style-name='Title'] => h1:fresh",
        convert_image=images.img_element(leave_out_picture),
    )
    for message in result.messages:
        if ignored := IGNORED.search(message.message):
            lost[f"elements {ignored[1]}"] += 1
        elif message.message.startswith(UNKNOWN_SYMBOL):
            lost["symbols"] += 1
    without_back_links = re.sub(r'<a href="#(foot|end)note-ref-[^>]*>↑</a>', "", result.value)
    return markdown(without_back_links)


def rewrite_unsupported(data: bytes, lost: Counter[str]) -> bytes:
    """Returns the document with text that the converter reads instead of elements that it ignores."""
    written = BytesIO()
    with ZipFile(BytesIO(data)) as source, ZipFile(written, "w") as target:
        # Pictures are counted, not read.
        files = [file for file in source.infolist() if not file.filename.startswith(PICTURES)]
        check_unpacked_size(files)
        parts = {file.filename: source.read(file) for file in files if PARTS.fullmatch(file.filename)}
        if not any(map(REWRITTEN.search, parts.values())):
            return data
        for file in files:
            part = parts.get(file.filename)
            target.writestr(file.filename, rewrite_part(part, lost) if part else source.read(file))
    return written.getvalue()


def rewrite_part(xml: bytes, lost: Counter[str]) -> bytes:
    from lxml import etree

    root: Any = etree.fromstring(xml, etree.XMLParser(resolve_entities=False))
    rewrite_formulas(root)
    for element in [*root.iter(f"{WORD}rt"), *root.iter(f"{WORD}rubyPr")]:  # the pronunciation of a word
        element.getparent().remove(element)
    for mark in list(root.iter(f"{WORD}vanish")):
        run = mark.getparent().getparent()
        if run.tag == f"{WORD}r" and mark.get(f"{WORD}val") not in ("0", "false"):
            lost["hidden texts"] += 1
            run.getparent().remove(run)
    for _ in root.iter(CHART):
        lost["charts"] += 1
    for choice in list(root.iter(f"{COMPATIBILITY}AlternateContent")):
        if choice.find(f"{COMPATIBILITY}Fallback") is None:  # which is what the converter reads
            choice[0].tag = f"{COMPATIBILITY}Fallback"
    for drawing in list(root.iter(f"{WORD}drawing")):
        boxes = list(drawing.iter(f"{WORD}txbxContent"))
        if boxes:
            drawing.tag = f"{WORD}pict"
            drawing[:] = boxes
    etree.strip_tags(root, *WRAPPERS)
    return bytes(etree.tostring(root))


def rewrite_formulas(root: Any) -> None:
    """Replaces formulas with runs of text."""
    from lxml import etree

    for formula in list(root.iter(f"{MATH}oMath")):
        text = formula_text(formula)
        formula.clear(keep_tail=True)
        formula.tag = f"{WORD}r"
        etree.SubElement(formula, f"{WORD}t").text = f" {text} "
    for display in list(root.iter(f"{MATH}oMathPara")):  # formulas on lines of their own
        parent, position = display.getparent(), display.getparent().index(display)
        for formula in reversed(list(display.iter(f"{WORD}r"))):
            parent.insert(position, formula)
        parent.remove(display)
