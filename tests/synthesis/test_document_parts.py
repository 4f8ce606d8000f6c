import random

from entigraph.storage.schemas import Document, EntityGraph
from entigraph.synthesis.base import render_document
from entigraph.synthesis.document_parts import DocumentPart, add_summaries, split_document, split_text
from entigraph.text.writing_systems import estimate_tokens


def a_book(chapters: int, seed: int = 0) -> Document:
    rng = random.Random(seed)
    words = [
        "lamp",
        "keeper",
        "ledger",
        "storm",
        "harbor",
        "island",
        "letter",
        "captain",
        "winter",
        "rock",
        "oil",
        "brother",
    ]

    def sentence() -> str:
        return " ".join(rng.choices(words, k=rng.randint(5, 15))).capitalize() + "."

    def chapter(number: int) -> str:
        paragraphs = "\n\n".join(" ".join(sentence() for _ in range(rng.randint(2, 6))) for _ in range(5))
        return f"# Chapter {number}\n\n{paragraphs}"

    text = "\n\n".join(chapter(number) for number in range(1, chapters + 1))
    return Document(id="book", title="The Book", text=text, meta={"author": "A. Nonymous"})


def test_short_document_is_not_split() -> None:
    book = a_book(1)
    assert split_document(book, 100_000) == split_document(book, None) == [book]


def test_parts_overlap_and_cover_the_document() -> None:
    book = a_book(30)
    parts = split_document(book, 1_000)
    assert len(parts) > 5 and all(len(part.text) <= 4_000 for part in parts)
    assert [part.id for part in parts] == [f"book#{number}" for number in range(1, len(parts) + 1)]
    for sentence in book.text.split("."):
        assert any(sentence.strip() in part.text for part in parts)
    for one, other in zip(parts, parts[1:], strict=False):
        head = other.text[:200]
        assert head in one.text or one.text.endswith(head.split(".")[0] + "."), "the next begins with the end of this"


def test_pieces_join_to_the_text() -> None:
    for text in (a_book(4).text, "x" * 5_000, "word " * 2_000, "Line.\n" * 900, "", " \n\n ", "Ä" * 999 + ". B"):
        parts = split_text(text, 700)
        assert "".join(parts) == text and all(len(piece) <= 700 for piece in parts)


def test_heading_starts_a_new_piece() -> None:
    parts = split_text(a_book(12).text, 2_500)
    assert sum(piece.lstrip().startswith("# Chapter") for piece in parts) > len(parts) / 2


def test_part_shows_title_number_and_summary() -> None:
    parts = split_document(a_book(10), 1_000)
    graphs = {
        part.id: EntityGraph(document_id=part.id, summary=f"What {part.id} says. " * 300, entities=["a", "b"])
        for part in parts
    }
    complete = list(add_summaries(parts, graphs))
    first_line = render_document(complete[1]).splitlines()[1]
    assert first_line.startswith(f'"The Book", A. Nonymous. Part 2 of {len(parts)}. The whole: What book#1 says.')
    assert all(f"What {part.id} says." in first_line for part in parts) and len(first_line) < 2_500
    assert all(isinstance(part, DocumentPart) and part.source == "book" for part in complete)


def test_parts_of_text_without_spaces_end_with_sentences() -> None:
    sentences = [f"第{number}年，陈岚在灰塔里敲响了铜钟，港口的人都听见了。" for number in range(200)]
    document = Document(id="tower", title="灰塔", text="".join(sentences))
    parts = split_document(document, 500)
    assert len(parts) > 5 and {part.text[-1] for part in parts} == {"。"}
    assert all(part.text.startswith("第") and estimate_tokens(part.text) <= 500 for part in parts)
    assert all(any(sentence in part.text for part in parts) for sentence in sentences)
