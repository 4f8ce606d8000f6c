"""Passage splitting: sizes, spans, separators, headings."""

import random

from entigraph.retrieval.passages import SEPARATORS, split_documents, split_text
from entigraph.storage.schemas import Document


def make_text(seed: int, paragraphs: int = 12) -> str:
    rng = random.Random(seed)
    words = [
        ["word", "a", "considerably", "of", "it.\n", "sentence."][rng.randrange(6)] for _ in range(paragraphs * 60)
    ]
    for index in range(60, len(words), 60):
        words[index] += "\n\n"
    return " ".join(words)


def test_passages_cover_the_text_within_the_limit() -> None:
    for characters in (256, 512, 1024):
        text = make_text(characters)
        results = split_text(text, characters, SEPARATORS)
        assert len(results) > 1 and max(end - start for start, end in results) <= characters
        assert all(one[1] <= other[0] for one, other in zip(results, results[1:], strict=False)), "no overlap, in order"
        assert "".join("".join(text[start:end] for start, end in results).split()) == "".join(text.split())


def test_adjacent_pieces_are_merged() -> None:
    text = make_text(1)
    results = split_text(text, 256, SEPARATORS)
    mean_length = sum(end - start for start, end in results) / len(results)
    assert mean_length > 128, "adjacent passages would not fit into one"


def test_first_separator_that_fits_is_used() -> None:
    text = "One line.\nTwo lines.\n\nThree words here.\n\n" + "x" * 50
    assert [text[a:b] for a, b in split_text(text, 25, SEPARATORS)] == [
        "One line.\nTwo lines.",
        "Three words here.",
        "x" * 25,
        "x" * 25,
    ]
    sentences = "One. Two. Three."
    assert [sentences[a:b] for a, b in split_text(sentences, 10, (". ", " "))] == ["One. Two.", "Three."]


def test_long_word_without_separator_stays_whole() -> None:
    assert split_text("x" * 50, 20, ("\n\n", " ")) == [(0, 50)]


def test_empty_texts_have_no_passages() -> None:
    assert split_text("", 10, SEPARATORS) == [] and split_text(" \n\n \n", 2, SEPARATORS) == []


def test_heading_does_not_count_toward_the_passage_length() -> None:
    document = Document(id="d", title="On Lamps", text="word " * 100, meta={"author": "Vale", "year": "1951"})
    results = list(split_documents([document], 100, SEPARATORS))
    assert len(results) > 3
    for passage in results:
        heading, _, text = passage.text.partition("\n\n")
        assert heading == "Title: On Lamps\nAuthor: Vale\nYear Written: 1951"
        assert text == document.text[passage.start : passage.end] and len(text) <= 100
    (plain,) = split_documents([Document(id="e", title="", text="Some text.")], 100, SEPARATORS)
    assert plain.text == "Some text."


def test_chinese_is_split_between_sentences() -> None:
    text = "陈岚在灰塔里保管着铜钟，一直到冬天。她从不离开！港口的孩子们都认识她，常常来听故事。" * 10
    results = [text[start:end] for start, end in split_text(text, 60, SEPARATORS)]
    assert "".join(results) == text and max(map(len, results)) <= 60
    assert {result[-1] for result in results} <= {"。", "！"}
