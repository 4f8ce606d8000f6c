"""Compares what converters keep of small HTML, Word, EPUB and PDF files: facts that must be in the text, and navigation
that must not.

python benchmarks/converters.py [--markitdown PYTHON] [--docling PYTHON]

PYTHON is that of an environment with markitdown[docx,pdf], or with docling-slim[format-html,format-office] and torch:
Docling without the models that it needs for PDF.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import docx
from docx.oxml import parse_xml
from fpdf import FPDF
from trafilatura import extract

from entigraph.corpus.document_conversion import UnreadableFile, convert_file

KEEPER = (
    "The keeper of the light at Marn wrote down each night how much oil was used, who had brought it across the sound, "
    "and which ships had passed before the lamp was put out in the morning."
)
CLOSING = "When the tower fell into the sea, the ledgers were already in the hands of the harbor office at Tarn."
MENU = '<div class="menu"><ul><li><a href="/">Start</a></li><li><a href="/shop">Our shop</a></li></ul></div>'
FOOT = '<div id="foot"><a href="/i">Imprint</a> <a href="/p">Privacy</a> <a href="/c">Cookies</a></div>'
JUNK = ("Our shop", "Imprint", "Cookies")
MATH = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
MARKITDOWN = """
import json, sys
from markitdown import MarkItDown
converter, texts = MarkItDown(enable_plugins=False), {}
for file in sys.argv[1:]:
    try:
        texts[file] = converter.convert(file).text_content
    except Exception as error:
        texts[file] = ""
print(json.dumps(texts))
"""

DOCLING = """
import json, sys
from docling.document_converter import DocumentConverter
converter, texts = DocumentConverter(), {}
for file in sys.argv[1:]:
    if file.endswith((".html", ".docx")):
        texts[file] = converter.convert(file).document.export_to_markdown()
print(json.dumps(texts))
"""


@dataclass(frozen=True)
class Sample:
    """A file and what its text must contain (" || " separates alternatives); `junk` must not be in it."""

    name: str
    data: bytes
    facts: Sequence[str]
    junk: Sequence[str] = ()


def page(name: str, content: str, *facts: str, wrap: str = "<article>{}</article>") -> Sample:
    body = f"{MENU}{wrap.format(f'<h1>The light at Marn</h1><p>{KEEPER}</p>{content}<p>{CLOSING}</p>')}{FOOT}"
    html = f"<!doctype html><html><head><title>Marn</title></head><body>{body}</body></html>"
    return Sample(f"{name}.html", html.encode(), ["The light at Marn", KEEPER[:60], *facts], JUNK)


def html_samples() -> list[Sample]:
    rows = "<tr><th>Ship</th><th>Year</th></tr><tr><td>Halcyon</td><td>1852</td></tr>"
    plain = "<div>{}</div>"
    tex = '<annotation encoding="application/x-tex">y_0</annotation>'
    katex = f"<math><semantics><mi>y</mi>{tex}</semantics></math><span aria-hidden=true>y0 twice</span>"
    fraction = "<math><mi>v</mi><mo>=</mo><mfrac><mi>s</mi><mi>t</mi></mfrac></math>"
    cell = "<td><ul><li>ten to two</li><li>two to six</li></ul></td>"
    return [
        page("table", f"<table>{rows}</table>", "| Halcyon | 1852 |"),
        page("list", "<ul><li>oil from Tarn</li><li>wicks</li></ul>", "oil from Tarn", "wicks"),
        page(
            "numbered", "<ol><li>trim the wick</li><li>fill the lamp</li></ol>", "1. trim the wick", "2. fill the lamp"
        ),
        page("nested_list", "<ul><li>boats<ul><li>the Petrel</li></ul></li></ul>", "boats", "the Petrel"),
        page("list_in_cell", f"<table><tr><td>Night</td>{cell}</tr></table>", "ten to two", "two to six"),
        page("mathml", f"<p>Here {fraction} holds.</p>", "v=s/t || v=\\frac{s}{t}"),
        page("mathml_tex", '<p>Here <math alttext="v=\\frac{s}{t}"><mi>v</mi></math> holds.</p>', "v=\\frac{s}{t}"),
        page("mathjax", '<p>Here <script type="math/tex">x^2+1</script> holds.</p>', "x^2+1"),
        page("katex", f"<p>Here {katex} holds.</p>", "y_0 || y\\_0"),
        page(
            "scripts",
            "<p>It is CO<sub>2</sub> on 5 m<sup>2</sup>.</p>",
            "CO_2 || CO2 || CO<sub>2",
            "m^2 || m2 || m<sup>2",
        ),
        page("refrain", "<p>Row, row to the light of Marn.</p>" * 3, "Marn.\n\nRow, row to the light of Marn.\n\nRow"),
        page("code", "<pre><code>def f(x):\n    return x\n\nf(1)</code></pre>", "def f(x):\n    return x\n\nf(1)"),
        page("quotation", "<blockquote><p>No ship was lost.</p></blockquote>", "No ship was lost."),
        page("definitions", "<dl><dt>Sound</dt><dd>A narrow sea</dd></dl>", "Sound", "A narrow sea"),
        page("details", "<details><summary>More</summary><p>A hidden tale.</p></details>", "A hidden tale."),
        page(
            "without_article",
            f"<table>{rows}</table><p>Tarn lies west.</p>",
            "| Halcyon | 1852 |",
            "Tarn lies west.",
            wrap=plain,
        ),
        page(
            "layout_table",
            "<p>Tarn lies west.</p>",
            "# The light at Marn",
            "Tarn lies west.",
            wrap="<table><tr><td>{}</td></tr></table>",
        ),
        page("chinese", "<p>李明在蓝磨坊遇见了托比，并且把奥斯克的灯交给了他。</p>", "李明在蓝磨坊遇见了托比"),
        page("figure", "<figure><img src=a.png><figcaption>The tower in fog</figcaption></figure>", "The tower in fog"),
        page(
            "short_cells",
            "<table><tr><td>Oil</td><td>4</td></tr><tr><td>Wicks</td><td>7</td></tr></table>",
            "| Oil | 4 |",
            "| Wicks | 7 |",
        ),
    ]


def word_sample() -> Sample:
    document = docx.Document()
    document.add_heading("The light at Marn", 1)
    document.add_paragraph(KEEPER)
    document.add_paragraph("oil from Tarn", style="List Bullet")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Halcyon", "1852"
    s, t = (f"<m:r><m:t>{letter}</m:t></m:r>" for letter in "st")
    fraction = f"<m:f><m:num>{s}</m:num><m:den>{t}</m:den></m:f>"
    formula = f"<m:oMath {MATH}><m:r><m:t>v=</m:t></m:r>{fraction}</m:oMath>"
    document.add_paragraph("The speed is ")._p.append(parse_xml(formula))
    target = io.BytesIO()
    document.save(target)
    facts = [
        "# The light at Marn",
        KEEPER[:60],
        "* oil from Tarn || - oil from Tarn",
        "| Halcyon | 1852 |",
        "v=s/t || v=\\frac{s}{t}",
    ]
    return Sample("report.docx", target.getvalue(), facts)


def epub_sample() -> Sample:
    """A book whose chapters are stored in another order than they are read in."""
    content = "<h1>{}</h1><p>{}</p><table><tr><th>Ship</th></tr><tr><td>Halcyon</td></tr></table>"
    page = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{}</body></html>'
    chapters = {"a": page.format(f"<h1>The fall</h1><p>{CLOSING}</p>"), "b": page.format(content.format("Oil", KEEPER))}
    items = "".join(f'<item id="{name}" href="{name}.xhtml" media-type="application/xhtml+xml"/>' for name in chapters)
    metadata = "<metadata xmlns:dc='http://purl.org/dc/elements/1.1/'><dc:title>Marn</dc:title></metadata>"
    spine = '<spine><itemref idref="b"/><itemref idref="a"/></spine>'
    target = io.BytesIO()
    with ZipFile(target, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        root = '<rootfile full-path="content.opf" media-type="application/oebps-package+xml"/>'
        book.writestr("META-INF/container.xml", f"<container><rootfiles>{root}</rootfiles></container>")
        package = (
            f'<package xmlns="http://www.idpf.org/2007/opf">{metadata}<manifest>{items}</manifest>{spine}</package>'
        )
        book.writestr("content.opf", package)
        for name, text in chapters.items():
            book.writestr(f"{name}.xhtml", text)
    return Sample("book.epub", target.getvalue(), ["# Oil", KEEPER[:60], "| Halcyon |", "# The fall", CLOSING[:60]])


def pdf_sample() -> Sample:
    class Report(FPDF):
        def header(self) -> None:
            self.cell(text=f"Yearbook of lights, p. {self.page_no()}", new_x="LMARGIN", new_y="NEXT")

    report = Report()
    report.set_font("Helvetica", size=14)
    nights = [f"In night {number} the keeper lit the lamp {number + 3} minutes late." for number in range(120)]
    for first in range(0, 120, 40):
        report.add_page()
        report.multi_cell(0, text=" ".join(nights[first : first + 40]))
    facts = [night for night in nights if "night 3" in night]
    return Sample("yearbook.pdf", bytes(report.output()), facts, ["Yearbook of lights"])


def flatten(text: str, suffix: str) -> str:
    """Whitespace at the ends of lines, in tables and between the lines of a PDF differs between converters."""
    if suffix == ".pdf":
        return " ".join(text.split())
    return "\n".join(" ".join(line.split()) if "|" in line else line.rstrip() for line in text.split("\n"))


def convert_with_entigraph(files: Sequence[Path]) -> dict[str, str]:
    texts = {}
    for file in files:
        try:
            texts[str(file)] = convert_file(file)
        except UnreadableFile:
            texts[str(file)] = ""
    return texts


def convert_with_trafilatura(files: Sequence[Path]) -> dict[str, str]:
    pages = [file for file in files if file.suffix == ".html"]
    return {
        str(file): extract(file.read_bytes(), output_format="markdown", include_comments=False) or "" for file in pages
    }


def convert_with(python: str, script: str) -> Callable[[Sequence[Path]], dict[str, str]]:
    def convert(files: Sequence[Path]) -> dict[str, str]:
        command = [python, "-c", script, *map(str, files)]
        texts: dict[str, str] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return texts

    return convert


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--markitdown", metavar="PYTHON")
    arguments.add_argument("--docling", metavar="PYTHON")
    options = arguments.parse_args()
    samples = [*html_samples(), word_sample(), epub_sample(), pdf_sample()]
    converters: dict[str, Callable[[Sequence[Path]], Mapping[str, str]]] = {
        "entigraph": convert_with_entigraph,
        "trafilatura": convert_with_trafilatura,
    }
    for name, script in (("markitdown", MARKITDOWN), ("docling", DOCLING)):
        if python := getattr(options, name):
            converters[name] = convert_with(python, script)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / sample.name for sample in samples]
        for file, sample in zip(files, samples, strict=True):
            file.write_bytes(sample.data)
        print("| converter | format | facts kept | lost | navigation left in |\n|---|---|---|---|---|")
        for name, convert in converters.items():
            report(name, samples, convert(files), files)


def report(name: str, samples: Sequence[Sample], texts: Mapping[str, str], files: Sequence[Path]) -> None:
    for suffix in (".html", ".docx", ".epub", ".pdf"):
        kept = total = junk = 0
        lost: list[str] = []
        for sample, file in zip(samples, files, strict=True):
            if file.suffix == suffix and str(file) in texts:
                text = flatten(texts[str(file)], suffix)
                missing = [fact for fact in sample.facts if not any(words in text for words in fact.split(" || "))]
                total += len(sample.facts)
                kept += len(sample.facts) - len(missing)
                lost += [file.stem] if missing else []
                junk += sum(words in text for words in sample.junk)
        if total:
            print(f"| {name} | {suffix[1:]} | {kept} of {total} | {', '.join(lost) or 'none'} | {junk} |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
