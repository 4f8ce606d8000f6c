"""Real files, written by libraries other than those that read them."""

import json
import re
from collections import Counter
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import docx
import pytest
from docx.oxml import parse_xml
from fpdf import FPDF
from PIL import Image

from entigraph.corpus import document_conversion, stage, zip_archives
from entigraph.corpus.document_conversion import UnreadableFile, convert_file
from entigraph.corpus.html_conversion import OUTSIDE, html_text
from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.corpus.readers.text_files import TextFiles
from entigraph.errors import ConfigError, DataError
from entigraph.pipeline.run import Run
from entigraph.storage.jsonl import read_jsonl
from entigraph.storage.schemas import ConversionLoss, Document, SkippedFile
from tests.conftest import Command

STORM = (
    "In the winter of the great storm the lamp went out for one hour, and Captain Holloway lost his ship on the rocks "
    "below Orsk. Miriam Vale wrote one line in the ledger that night."
)
SENTENCES = " ".join(document.text for document in FictionalCorpus(documents=8).read().documents).split(". ")
PARAGRAPHS = [". ".join(SENTENCES[start : start + 5]) + "." for start in range(0, 100, 5)]
HEADINGS = ("The keeper", "The storm", "The spring", "The ledger")


class Report(FPDF):
    def header(self) -> None:
        self.cell(text=f"Journal of Lighthouses, vol. 3, p. {self.page_no()}", new_x="LMARGIN", new_y="NEXT")

    def footer(self) -> None:
        self.set_y(-20)
        self.cell(text=str(self.page_no()))


def write_pdf(path: Path, *, columns: int = 1, password: str = "") -> Path:
    """Justified columns of hyphenated prose, with running titles."""
    report = Report()
    report.set_font("Helvetica", size=14)
    if password:
        report.set_encryption(owner_password="owner", user_password=password)
    report.add_page()
    with report.text_columns(ncols=columns, text_align="J", gutter=8) as text:
        for index, words in enumerate(PARAGRAPHS):
            for part in ([HEADINGS[index // 5]] if index % 5 == 0 else []) + [hyphenated(words)]:
                with text.paragraph(bottom_margin=3) as paragraph:
                    paragraph.write(part)
    report.output(str(path))
    return path


def hyphenated(text: str) -> str:
    return re.sub(r"\b([a-z]{3,4})([a-z]{3,})", "\\1\u00ad\\2", text)


def write_scanned_pdf(path: Path) -> Path:
    report = FPDF()
    report.add_page()
    report.image(picture(), w=100)
    report.output(str(path))
    return path


def picture() -> BytesIO:
    buffer = BytesIO()
    Image.new("L", (40, 40), 200).save(buffer, "PNG")
    return buffer


def write_docx(path: Path) -> Path:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "CONFIDENTIAL"
    document.add_heading("The Lamp of Orsk", 0)
    document.add_heading("The keeper", 1)
    paragraph = document.add_paragraph("She wrote ")
    paragraph.add_run("every").bold = True
    paragraph.add_run(" evening in the_ledger (1. of 2).")
    document.add_paragraph("oil", style="List Bullet")
    document.add_paragraph("letters", style="List Bullet")
    table = document.add_table(2, 2)
    for row, values in zip(table.rows, (("Year", "Ship"), ("1851", "Meridian")), strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    document.add_picture(picture())
    document.add_paragraph("The end.")
    document.save(str(path))
    return path


PAGE = f"""<!doctype html><html><head><title>The Lamp of Orsk | Lighthouse Times</title>
<script>var tracked = 1;</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/about">About us</a></li></ul></nav>
<main><article><h1>The Lamp of Orsk</h1><p>{STORM}</p><h2>The ships</h2>
<p>Two ships called at Orsk, the <a href="/meridian">Meridian</a> and the Halcyon, and only one of them came back.</p>
<table><tr><th>Ship</th><th>Year</th></tr><tr><td>Halcyon</td><td>1852</td></tr></table></article></main>
<aside><h3>Most read</h3><ul><li><a href="/1">Ten harbors to see</a></li></ul></aside>
<footer>Copyright Lighthouse Times. <a href="/privacy">Privacy policy</a></footer></body></html>"""


@pytest.mark.parametrize("columns", [1, 2])
def test_pdf_paragraphs_have_whole_words(tmp_path: Path, columns: int) -> None:
    text = convert_file(write_pdf(tmp_path / "a.pdf", columns=columns))
    expected = [
        part for i, words in enumerate(PARAGRAPHS) for part in (*HEADINGS[i // 5 : i // 5 + (i % 5 == 0)], words)
    ]
    assert text.split() == " ".join(expected).split()  # every word, whole, in the order of reading, and nothing else
    paragraphs = text.split("\n\n")
    assert all(heading in paragraphs for heading in HEADINGS)
    assert len(paragraphs) <= len(PARAGRAPHS) + len(HEADINGS)  # no paragraph is split
    assert sum(words in paragraphs for words in PARAGRAPHS) >= 0.6 * len(PARAGRAPHS)  # the others end in a full line


def test_hyphens_at_line_ends() -> None:
    lines = ["The old chronicle of the Anglo\x02", "Saxon coast says that the light\x02", "house of Orsk was tall."]
    assert list(document_conversion.join_paragraphs(lines)) == [
        "The old chronicle of the Anglo-Saxon coast says that the lighthouse of Orsk was tall."
    ]


def test_short_line_ends_a_paragraph() -> None:
    full = "a line that is as wide as the column of this page"
    assert list(document_conversion.join_paragraphs(["Heading", full, full, "and its end.", full])) == [
        "Heading",
        f"{full} {full} and its end.",
        full,
    ]


def test_html_without_navigation(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    text = convert_file(tmp_path / "a.html")
    assert text.startswith("# The Lamp of Orsk\n\n" + STORM)
    assert "## The ships" in text and "the Meridian and" in text and "| Halcyon | 1852 |" in text
    assert not any(junk in text for junk in ("Home", "About us", "Most read", "harbors", "Privacy", "tracked"))


def test_word_headings_lists_and_tables(tmp_path: Path) -> None:
    text = convert_file(write_docx(tmp_path / "a.docx"))
    assert text.startswith("# The Lamp of Orsk\n\n# The keeper\n\nShe wrote **every** evening in the_ledger (1. of 2).")
    assert "* oil\n* letters" in text and "| 1851 | Meridian |" in text and text.endswith("The end.")
    assert "CONFIDENTIAL" not in text and "base64" not in text and "![" not in text


NAMESPACES = " ".join(
    f'xmlns:{prefix}="http://schemas.openxmlformats.org/{path}"'
    for prefix, path in {
        "w": "wordprocessingml/2006/main",
        "m": "officeDocument/2006/math",
        "a": "drawingml/2006/main",
        "c": "drawingml/2006/chart",
        "wp": "drawingml/2006/wordprocessingDrawing",
    }.items()
)


def convert_word_xml(folder: Path, *paragraphs: str) -> tuple[str, Counter[str]]:
    """Returns the text of a document with a picture and these paragraphs, and what was not converted."""
    document = docx.Document()
    document.add_picture(picture())
    for content in paragraphs:
        paragraph = parse_xml(f"<w:p {NAMESPACES}>{content}</w:p>")
        document.element.body.insert(len(document.element.body) - 1, paragraph)
    document.save(str(folder / "a.docx"))
    lost: Counter[str] = Counter()
    return convert_file(folder / "a.docx", lost), lost


@pytest.mark.parametrize(
    ("omml", "line"),
    [
        ("<m:d><m:dPr><m:begChr m:val='['/><m:endChr m:val=']'/></m:dPr><m:e>{x}</m:e></m:d>", "[x]"),
        ("<m:d><m:dPr><m:begChr m:val='|'/><m:endChr m:val='|'/></m:dPr><m:e>{x}</m:e></m:d>", "|x|"),
        ("<m:d><m:e>{x}</m:e></m:d>", "(x)"),
        ("<m:eqArr><m:e>{x}</m:e><m:e>{y}</m:e></m:eqArr>", "x; y"),
        ("<m:sPre><m:sub>{x}</m:sub><m:sup>{y}</m:sup><m:e>{x}</m:e></m:sPre>", "_x^y x"),
        ("<m:r><m:t xml:space='preserve'>if </m:t></m:r>{x}", "if x"),
    ],
)
def test_word_formulas_are_one_line(tmp_path: Path, omml: str, line: str) -> None:
    letters = {letter: f"<m:r><m:t>{letter}</m:t></m:r>" for letter in "xy"}
    text, _ = convert_word_xml(tmp_path, f"<m:oMath>{omml.format(**letters)}</m:oMath>")
    assert text.replace("\\", "") == line


def test_word_elements_that_the_converter_ignores_keep_their_text(tmp_path: Path) -> None:
    run = "<w:r><w:t>{}</w:t></w:r>"
    drawing = "<w:r><w:drawing><wp:inline><a:graphic>{}</a:graphic></wp:inline></w:drawing></w:r>"
    ruby = "<w:ruby><w:rubyPr/><w:rt>{}</w:rt><w:rubyBase>{}</w:rubyBase></w:ruby>"
    text, lost = convert_word_xml(
        tmp_path,
        f"<w:r>{ruby.format(run.format('とうきょう'), run.format('東京'))}</w:r>",
        f"<w:fldSimple w:instr='REF x'>{run.format('a field')}</w:fldSimple>",
        f"<w:bdo w:val='rtl'>{run.format('direction')}</w:bdo>",
        drawing.format(f"<w:txbxContent><w:p>{run.format('a box')}</w:p></w:txbxContent>"),
        "<w:r><w:rPr><w:vanish/></w:rPr><w:t>a secret</w:t></w:r>",
        drawing.format("<c:chart/>"),
    )
    assert text.split("\n\n") == ["東京", "a field", "direction", "a box"]
    assert lost == {"hidden texts": 1, "charts": 1, "pictures": 1}


def test_word_file_that_unpacks_to_more_than_a_gigabyte_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_archives, "MAX_BYTES", 1_000)
    with pytest.raises(UnreadableFile, match="unpacks to"):
        convert_file(write_docx(tmp_path / "a.docx"))


def test_html_keeps_what_is_in_the_main_text(tmp_path: Path) -> None:
    fraction = "<math><mi>v</mi><mo>=</mo><mfrac><mi>s</mi><mrow><mi>t</mi><mo>+</mo><mn>1</mn></mrow></mfrac></math>"
    tex = '<annotation encoding="application/x-tex">y_0</annotation>'
    content = f"""<h1>Song</h1><p>{STORM}</p>{"<p>Row on to Orsk.</p>" * 3}
<table><tr><td>Night</td><td><ul><li>ten to two</li><li>two to six</li></ul></td></tr></table>
<p>Speed {fraction}, CO<sub>2</sub>, 5 m<sup>2</sup>, <math><semantics><mi>y</mi>{tex}</semantics></math>,
<script type="math/tex">x^2+1</script>.</p><pre><code>def f(x):\n\n    return x</code></pre>
<figure><img src="a.png" alt=""><figcaption>The tower</figcaption></figure>
<div><a href="/">Share this</a> <a href="/b">Print this</a></div>"""
    menu = '<div class="menu"><a href="/">Start</a> <a href="/shop">Our shop</a></div>'
    for name, page in (("article", f"{menu}<article>{content}</article>"), ("div", f"{menu}<div>{content}</div>")):
        (tmp_path / f"{name}.html").write_text(f"<html><body>{page}</body></html>")
        lost: Counter[str] = Counter()
        text = convert_file(tmp_path / f"{name}.html", lost)
        assert text.count("Row on to Orsk.") == 3 and "ten to two" in text and "two to six" in text
        assert "v=s/(t+1)" in text and "CO_2, 5 m^2" in text and "$y_0$" in text and "$x^2+1$" in text
        assert "def f(x):\n\n    return x" in text and "The tower" in text
        assert not any(words in text for words in ("Our shop", "Share this", "Print this"))
        assert +lost == {"pictures": 1, OUTSIDE: 18}  # the links at the end


LAMP = "".join(
    f"<p>In {1900 + year} the keeper of Orsk wrote of the oil and wind of that winter.</p>" for year in range(8)
)
BELL = LAMP.replace("keeper of Orsk", "ringer of Marn")


@pytest.mark.parametrize(
    ("body", "parts", "outside"),
    [
        (f"<main><article>{LAMP}</article><article>{BELL}</article></main>", ["Orsk", "Marn"], 0),
        (f"<div class=post>{LAMP}</div><div class=post>{BELL}</div><div>Our cookies</div>", ["Orsk", "Marn"], 10),
        (f"<main><article>{LAMP}</article><section>{BELL}</section></main>", ["Orsk", "Marn"], 0),
        (f"<article>{LAMP}</article><div><p>The bell</p></div>", ["Orsk"], 7),
        (f"<main><h1>Lamps</h1><article>{LAMP}</article></main>", ["# Lamps\n\nIn 1900"], 0),
        (f"<h1><a href='/'>Times</a></h1><article>{LAMP}</article>", ["Orsk"], 5),
        (f"<article>{LAMP}<aside>An oil bill</aside>{BELL}</article>", ["Orsk", "Marn"], 9),
        (f"<article>{LAMP}<footer class=footnotes>1. A ledger</footer></article>", ["1. A ledger"], 0),
        (f"<article>{LAMP}<ol><li><a href=x>On lamps</a></li></ol></article>", ["Orsk"], 7),
        (f"<nav><svg><title>Menu</title></svg></nav><article>{LAMP}</article><footer>Imprint</footer>", ["Orsk"], 0),
    ],
)
def test_text_outside_the_main_element_is_kept_or_counted(body: str, parts: list[str], outside: int) -> None:
    lost: Counter[str] = Counter()
    text = html_text(f"<html><body>{body}</body></html>".encode(), lost)
    assert all(part in text for part in parts) and +lost == ({OUTSIDE: outside} if outside else {})


def test_ruby_and_prefixed_formulas_of_a_page() -> None:
    ruby = "<ruby>東京<rp>(</rp><rt>とうきょう</rt><rp>)</rp></ruby>へ行く"
    fraction = "<m:math><m:mfrac><m:mi>a</m:mi><m:mi>b</m:mi></m:mfrac></m:math>"
    text = html_text(f"<meta charset=utf-8><p>{ruby}</p><p>Here {fraction} holds.</p>".encode(), Counter())
    assert "東京へ行く" in text and "Here a/b holds." in text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (b"Plain words.", "Plain words."),
        (b"<!-- c --><?php x ?><p>The mill.", "The mill."),
        (b'<?xml version="1.0" encoding="latin-1"?><html><body><p>M\xfchle</p></body></html>', "Mühle"),
        ("<meta charset=gbk><p>李明在蓝磨坊</p>".encode("gbk"), "李明在蓝磨坊"),
        ("<p>Mühle</p>".encode("utf-16"), "Mühle"),
        ("<p>Mühle</p>".encode("utf-16-le"), "Mühle"),
        ("<meta charset=iso-2022-jp><p>東京へ行く</p>".encode("iso-2022-jp"), "東京へ行く"),
        ("<meta charset=windows-1251><p>Мельница</p>".encode("cp1251"), "Мельница"),
        ("<meta charset=iso-8859-1><p>Mühle – gut</p>".encode("cp1252"), "Mühle – gut"),
        ("<meta charset=iso-8859-1><p>Mühle</p>".encode(), "Mühle"),  # is UTF-8 after all
        (b"<table><tr><td>Oil</td><td>4</td></tr></table>", "| Oil | 4 |"),
    ],
)
def test_short_pages_and_encodings(page: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_bytes(page)
    assert text in convert_file(tmp_path / "a.html")


def test_characters_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    lost: Counter[str] = Counter()
    (tmp_path / "a.html").write_bytes(f"<meta charset=utf-8><p>Ein Café. {STORM}</p>".encode() + b"<p>\xe9</p>")
    assert "Ein Café." in convert_file(tmp_path / "a.html", lost) and +lost == {"undecodable characters": 1}


def test_layout_table_is_converted_to_text(tmp_path: Path) -> None:
    page = f"<table><tr><td><a href='/'>Start</a></td><td><h1>Orsk</h1><p>{STORM}<p>The end came.</td></tr></table>"
    (tmp_path / "a.html").write_text(f"<html><body>{page}</body></html>")
    text = convert_file(tmp_path / "a.html")
    assert f"# Orsk\n\n{STORM}\n\nThe end came." in text and "|" not in text


def test_word_formulas_are_text(tmp_path: Path) -> None:
    math = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    run = "<m:r><m:t>{}</m:t></m:r>".format
    power = f"<m:sSup><m:e>{run('c')}</m:e><m:sup>{run('2')}</m:sup></m:sSup>"
    root = f"<m:rad><m:radPr/><m:deg/><m:e>{run('x+1')}</m:e></m:rad>"
    total = (
        f'<m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub>{run("i=1")}</m:sub><m:sup>{run("n")}</m:sup>'
        f"<m:e>{run('i')}</m:e></m:nary>"
    )
    document = docx.Document()
    paragraph = document.add_paragraph("The energy ")
    paragraph._p.append(docx.oxml.parse_xml(f"<m:oMath {math}>{run('E=m')}{power}</m:oMath>"))
    paragraph.add_run(" of Orsk.")
    display = f"<m:oMathPara {math}><m:oMath>{root}</m:oMath><m:oMath>{total}</m:oMath></m:oMathPara>"
    document.add_paragraph()._p.append(docx.oxml.parse_xml(display))
    document.save(str(tmp_path / "a.docx"))
    text = " ".join(convert_file(tmp_path / "a.docx").split())
    assert text == "The energy E=mc^2 of Orsk. sqrt(x+1) ∑_(i=1)^n i"


def test_lines_of_a_script_without_spaces_are_joined() -> None:
    lines = ["李明在蓝磨坊遇见了托比并且把灯", "给了他。", "然后他们去了港口。"]
    assert list(document_conversion.join_paragraphs(lines)) == [
        "李明在蓝磨坊遇见了托比并且把灯给了他。",
        "然后他们去了港口。",
    ]


def test_what_is_not_converted_is_counted(notes: Path, tmp_path: Path) -> None:
    counts = stage.run(TextFiles(path=str(notes)), tmp_path)
    assert counts["not_converted"] == {"pictures": 1}
    assert list(read_jsonl(tmp_path / "not_converted.jsonl", ConversionLoss)) == [
        ConversionLoss(file="c.docx", lost={"pictures": 1})
    ]
    assert "  not converted to text: pictures (1); see not_converted.jsonl" in stage.summary_lines(counts)
    assert any(loss.description == "pictures are not converted" for loss in stage.data_losses(counts))


def test_unreadable_files_state_a_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.docx").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 torn")
    (tmp_path / "locked.docx").write_bytes(document_conversion.OLE_HEADER + b"...")
    (tmp_path / "empty.html").write_text("<html><body><script>x()</script></body></html>")
    (tmp_path / "old.doc").write_bytes(b"...")
    write_pdf(tmp_path / "locked.pdf", password="secret")
    write_scanned_pdf(tmp_path / "scan.pdf")
    reasons = {}
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(UnreadableFile) as error:
            convert_file(file)
        reasons[file.name] = error.value.reason
    assert reasons == {
        "broken.docx": document_conversion.DAMAGED,
        "broken.pdf": document_conversion.DAMAGED,
        "empty.html": document_conversion.NO_TEXT,
        "locked.docx": document_conversion.ENCRYPTED,
        "locked.pdf": document_conversion.ENCRYPTED,
        "old.doc": ".doc is not supported; save it as .docx, .pdf, .html or .txt",
        "scan.pdf": document_conversion.NO_TEXT,
    }


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("The lamp of Orsk is tended by Miriam Vale.")
    write_pdf(folder / "B.PDF")
    write_docx(folder / "c.docx")
    (folder / "d.html").write_text(PAGE)
    (folder / "torn.pdf").write_bytes(b"%PDF-1.7 torn")
    (folder / "~$c.docx").write_bytes(b"what Word leaves while a file is open")
    return folder


def write_questions(file: Path, *documents: str) -> None:
    lines = [{"document": item, "question": "Who?", "choices": ["Vale", "Tobias"], "answer": 0} for item in documents]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_unreadable_file_is_skipped_and_counted(notes: Path, command: Command, tmp_path: Path) -> None:
    write_questions(tmp_path / "q.jsonl", "a.txt", "B.PDF", "torn.pdf")
    result = command(
        "corpus=text_files", f"corpus.path={notes}", f"corpus.questions={tmp_path / 'q.jsonl'}", "stage=corpus"
    )
    assert result.returncode == 0, result.stderr
    assert (
        "skipped 1 of 5 files or records (skipped.jsonl):\n    1 damaged\n  left out 1 question about"
        in result.stdout + result.stderr
    )
    (folder,) = (tmp_path / "outputs" / "corpus").glob("text_files-*")
    ids = [item.id for item in read_jsonl(folder / "documents.jsonl", Document)]
    assert ids == ["B.PDF", "a.txt", "c.docx", "d.html"]
    (skipped,) = read_jsonl(folder / "skipped.jsonl", SkippedFile)
    assert (skipped.file, skipped.reason) == ("torn.pdf", "damaged") and "Data format error" in skipped.detail
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    assert counts["skipped"] == {"damaged": 1} and counts["questions_about_skipped_files"] == 1
    assert counts["documents"] == 4 and counts["questions"] == 2


def test_corpus_without_readable_files_raises(tmp_path: Path) -> None:
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.7 torn")
    (tmp_path / "old.doc").write_bytes(b"...")
    with pytest.raises(
        DataError,
        match=r"none of the 2 files or records contains text\n  - old.doc: .doc is not supported.*\n  - torn.pdf: dam",
    ):
        stage.run(TextFiles(path=str(tmp_path)), tmp_path)


def test_missing_extra_raises(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = document_conversion.Converter(("a-package-that-is-not-installed",), document_conversion.pdf_text)
    monkeypatch.setitem(document_conversion.CONVERTERS, ".pdf", missing)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"4 of its files.*B.PDF.*pip install 'entigraph\[documents\]'"):
        TextFiles(path=str(notes)).sources()
    for file in notes.iterdir():
        if file.suffix != ".txt":
            file.unlink()
    assert [file.name for file in TextFiles(path=str(notes)).sources()] == ["a.txt"]


def test_converter_version_is_in_the_cache_key(
    notes: Path, configured: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["corpus=text_files", "evaluation=none", f"corpus.path={notes}"]
    converters = configured(*overrides).artifacts.corpus.cache_key["converters"]
    assert sorted(converters) == ["lxml", "mammoth", "markdownify", "pypdfium2", "trafilatura"]
    with_pdf = configured(*overrides).artifacts.corpus.folder
    monkeypatch.setattr(document_conversion.metadata, "version", lambda package: "99")
    assert configured(*overrides).artifacts.corpus.folder != with_pdf
    for file in notes.iterdir():
        if file.suffix != ".txt":
            file.unlink()
    assert "converters" not in configured(*overrides).artifacts.corpus.cache_key


def test_plan_reports_all_bad_questions(notes: Path, command: Command, tmp_path: Path) -> None:
    good = {"document": "a.txt", "question": "Who?", "choices": ["Vale", "Tobias"], "answer": 0}
    bad = [
        {**good, "document": "z.txt"},
        {**good, "answer": 2},
        {**good, "answer": True},
        {**good, "choices": ["one"]},
        {**good, "question": " "},
        {"document": "a.txt"},
        [],
    ]
    lines = ["{", *map(json.dumps, [good, *bad]), *["torn"] * 4]
    (tmp_path / "q.jsonl").write_text("\n".join(lines))
    result = command("corpus=text_files", f"corpus.path={notes}", f"corpus.questions={tmp_path / 'q.jsonl'}")
    assert result.returncode == 1 and "q.jsonl: 12 bad of 13 questions" in result.stderr
    for message in (
        "line 1: not JSON",
        "line 3: document must be a document of this corpus",
        "line 4: answer must be between 0 and 1, got 2",
        "line 5: answer must be between 0 and 1, got True",
        "line 6: choices must be at least two non-empty strings or numbers, got ['one']",
        "line 7: question must be a non-empty string, got ' '",
        "line 8: missing question, choices, answer",
        "line 9: missing document",
        "line 11: not JSON",
        "... and 2 more",
    ):
        assert message in result.stderr, result.stderr
    assert "line 12" not in result.stderr and not (tmp_path / "outputs").exists()
