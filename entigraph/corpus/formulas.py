"""Writes the formulas of HTML (MathML) and Word (OMML) on one line: x^2, (a+b)/2, sqrt(x)."""

from typing import Any

FRACTIONS, ROOTS = ("mfrac", "f"), ("mroot", "rad")
SUPERSCRIPTS, SUBSCRIPTS = ("msup", "sSup", "mover", "limUpp"), ("msub", "sSub", "munder", "limLow")
BOTH_SCRIPTS = ("msubsup", "sSubSup", "munderover")
ROWS, TABLES = ("mtr", "mr"), ("mtable", "m")
SOURCES = ("annotation", "annotation-xml")  # elements with the source of a formula, besides the formula itself
TEX = "application/x-tex"


def formula_text(formula: Any) -> str:
    """Returns a formula on one line: its TeX source between dollar signs if it has one."""
    tex = formula.get("alttext") or ""
    for element in formula.iter():
        if isinstance(element.tag, str) and element.get("encoding") == TEX:
            tex = element.text or tex
    return f"${' '.join(tex.split())}$" if tex.strip() else linear_text(formula)


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
    if name == "d":
        return f"({', '.join(parts)})"
    if name in ROWS:
        return ", ".join(parts)
    if name in TABLES:
        return f"[{'; '.join(parts)}]"
    return " ".join((element.text or "").split()) + "".join(parts)


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
