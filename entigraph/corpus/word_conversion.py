"""Converts Word documents (.docx) to Markdown."""

import re
from collections import Counter
from io import BytesIO
from typing import Any
from zipfile import ZipFile

from entigraph.corpus.formulas import formula_text

WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
MATH = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
FORMULA_MARK = b"oMath"
PARTS = re.compile(r"word/(document|footnotes|endnotes)\d*\.xml")
IGNORED = re.compile(r"unrecognised element was ignored: (\S+)")


def word_text(data: bytes, lost: Counter[str]) -> str:
    """Returns the body with its notes, without headers and footers; counts pictures and unsupported elements."""
    from mammoth import convert_to_html, images

    from entigraph.corpus.markdown_conversion import markdown

    def leave_out_picture(image: Any) -> dict[str, str]:
        lost["pictures"] += 1
        return {}

    result = convert_to_html(
        BytesIO(write_formulas_as_text(data)),
        style_map="p[style-name='Title'] => h1:fresh",
        convert_image=images.img_element(leave_out_picture),
    )
    for message in result.messages:
        if ignored := IGNORED.search(message.message):
            lost[f"elements {ignored[1]}"] += 1
    without_back_links = re.sub(r'<a href="#(foot|end)note-ref-[^>]*>↑</a>', "", result.value)
    return markdown(without_back_links)


def write_formulas_as_text(data: bytes) -> bytes:
    """Returns the document with runs of text instead of its formulas, which the converter leaves out."""
    written = BytesIO()
    with ZipFile(BytesIO(data)) as source, ZipFile(written, "w") as target:
        contents = {name: source.read(name) for name in source.namelist()}
        parts = [name for name, content in contents.items() if PARTS.fullmatch(name) and FORMULA_MARK in content]
        if not parts:
            return data
        for name, content in contents.items():
            target.writestr(name, rewrite_formulas(content) if name in parts else content)
    return written.getvalue()


def rewrite_formulas(xml: bytes) -> bytes:
    from lxml import etree

    root: Any = etree.fromstring(xml, etree.XMLParser(resolve_entities=False))
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
    return bytes(etree.tostring(root))
