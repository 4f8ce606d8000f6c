"""Writes the formulas of HTML (MathML) and Word (OMML) on one line: x^2, (a+b)/2, sqrt(x)."""

import re
from collections.abc import Sequence
from itertools import cycle
from typing import Any

FRACTIONS, ROOTS = ("mfrac", "f"), ("mroot", "rad")
SUPERSCRIPTS, SUBSCRIPTS = ("msup", "sSup", "mover", "limUpp"), ("msub", "sSub", "munder", "limLow")
BOTH_SCRIPTS = ("msubsup", "sSubSup", "munderover")
BRACKETS = ("d", "mfenced")
ROWS, TABLES = ("mtr", "mr"), ("mtable", "m")
SOURCES = ("annotation", "annotation-xml")  # elements with the source of a formula, besides the formula itself
TEX = "application/x-tex"


def formula_text(formula: Any) -> str:
    """Returns a formula on one line: its TeX source between dollar signs if it has one."""
    tex = formula.get("alttext") or ""
    for element in formula.iter():
        if isinstance(element.tag, str) and element.get("encoding") == TEX:
            tex = element.text or tex
    return f"${' '.join(tex.split())}$" if tex.strip() else linear_text(formula).strip()


def linear_text(element: Any) -> str:
    """Returns an lxml element of a formula on one line."""
    name = local_name(element)
    parts = [linear_text(child) for child in element if is_part(child)]
    if name in FRACTIONS and len(parts) == 2:
        return f"{grouped(parts[0])}/{grouped(parts[1])}"
    if name in SUPERSCRIPTS and len(parts) == 2:
        return f"{grouped(parts[0])}^{grouped(parts[1])}"
    if name in SUBSCRIPTS and len(parts) == 2:
        return f"{grouped(parts[0])}_{grouped(parts[1])}"
    if name in BOTH_SCRIPTS and len(parts) == 3:
        return f"{grouped(parts[0])}_{grouped(parts[1])}^{grouped(parts[2])}"
    if name == "msqrt":
        return f"sqrt({''.join(parts)})"
    if name in ROOTS and len(parts) == 2:
        base, index = parts if name == "mroot" else reversed(parts)
        return f"root({index}, {base})" if index else f"sqrt({base})"
    if name == "nary" and len(parts) == 3:
        limits = "".join(f"{sign}{grouped(limit)}" for sign, limit in zip("_^", parts, strict=False) if limit)
        return f"{operator(element)}{limits} {parts[2]}"
    if name in BRACKETS:
        opening, closing = brackets(element)
        return f"{opening}{', '.join(parts)}{closing}"
    if name == "sPre" and len(parts) == 3:
        return f"_{grouped(parts[0])}^{grouped(parts[1])} {parts[2]}"
    if name == "eqArr":
        return "; ".join(parts)
    if name == "mmultiscripts" and parts:
        return multiscripts([local_name(child) for child in element if is_part(child)], parts)
    if name == "t":  # Word's text, in which spaces count
        return re.sub(r"\s+", " ", element.text or "")
    if name in ROWS:
        return ", ".join(parts)
    if name in TABLES:
        return f"[{'; '.join(parts)}]"
    return " ".join((element.text or "").split()) + "".join(parts)


def brackets(element: Any) -> tuple[str, str]:
    """Returns the brackets of MathML's `mfenced` or OMML's `d`; parentheses by default."""
    given = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for item in element.iterchildren():
        if local_name(item) == "dPr":
            given = {local_name(mark): next(iter(mark.values()), "") for mark in item}
    opening, closing = (given.get(names[0], given.get(names[1])) for names in (("open", "begChr"), ("close", "endChr")))
    return "(" if opening is None else opening, ")" if closing is None else closing


def multiscripts(names: Sequence[str], parts: Sequence[str]) -> str:
    """Returns a base with pairs of a subscript and a superscript, of which those after `mprescripts` precede it."""
    base_end = names.index("mprescripts") if "mprescripts" in names else len(names)
    after, before = (
        "".join(f"{sign}{grouped(part)}" for sign, part in zip(cycle("_^"), scripts, strict=False) if part)
        for scripts in (parts[1:base_end], parts[base_end + 1 :])
    )
    return f"{before} {parts[0]}{after}".strip()


def is_part(element: Any) -> bool:
    return isinstance(element.tag, str) and not (name := local_name(element)).endswith("Pr") and name not in SOURCES


def local_name(element: Any) -> str:
    """Returns the tag without its namespace, which HTML writes as a prefix."""
    return str(element.tag).rpartition("}")[2].rpartition(":")[2]


def grouped(text: str) -> str:
    return text if len(text) == 1 or text.isalnum() else f"({text})"


def operator(element: Any) -> str:
    """Returns the sign of a sum, product or integral in OMML; the integral is the default there."""
    values = [value for item in element.iter() if local_name(item) == "chr" for value in item.values()]
    return values[0] if values else "∫"
