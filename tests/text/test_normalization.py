import unicodedata
from collections import Counter

import pytest

from entigraph.corpus.readers.fictional_corpora import FictionalCorpus
from entigraph.text.normalization import (
    decode_text,
    fold_whitespace,
    is_blank,
    normalize_text,
    render_changes,
)


@pytest.mark.parametrize(
    ("text", "expected", "kind", "count"),
    [
        ("\ufeffThe lamp\ufeff", "The lamp", "byte_order_marks", 2),
        ("a\r\nb\rc\x85d\u2028e\x0cf", "a\nb\nc\nd\ne\nf", "line_endings", 5),
        ("a\u2029b", "a\n\nb", "line_endings", 1),
        ("lamp\ud83d of\udc00", "lamp\ufffd of\ufffd", "lone_surrogates", 2),
        ("a\x00b\x07c\x7f\uffff", "abc", "control_characters", 4),
        ("the keeper\x92s lamp", "the keeper’s lamp", "control_characters", 1),
        ("light\u00adhouse\u200b \u202eOrsk\u202c\u2060", "lighthouse Orsk", "zero_width_characters", 5),
        ("Cafe\u0301", "Caf\u00e9", "decomposed_characters", 2),
        ("\u212bngstr\u00f6m", "\u00c5ngstr\u00f6m", "decomposed_characters", 1),
        ("\u1112\u1161\u11ab", "\ud55c", "decomposed_characters", 3),
        ("lamp\u200dkeeper\u200c", "lampkeeper", "zero_width_characters", 2),
    ],
)
def test_changes_are_counted_by_kind(text: str, expected: str, kind: str, count: int) -> None:
    changes: Counter[str] = Counter()
    assert normalize_text(text, changes) == expected and changes == {kind: count}
    assert normalize_text(expected, changes) == expected and changes.total() == count


@pytest.mark.parametrize(
    "text",
    [
        "Miriam Vale kept\tthe lamp.\n\nShe wrote “every” evening — in 1851…",
        "می\u200cخواهم",  # Persian: the joiner separates a prefix
        "क्\u200dष",
        "👩\u200d🚒 and ❤️\u200d🔥",
        "李明在蓝磨坊。ありがとう\u3000ございます",
        "\u0627\u0644\u0645\u0635\u0628\u0627\u062d",
    ],
)
def test_clean_text_is_unchanged(text: str) -> None:
    changes: Counter[str] = Counter()
    text = unicodedata.normalize("NFC", text)
    assert normalize_text(text, changes) == text and not changes


def test_surrogate_pairs_are_joined() -> None:
    changes: Counter[str] = Counter()
    assert normalize_text("\ud83d\ude00 \ud83d\ud83d\ude00\ude00", changes) == "😀 \ufffd😀\ufffd"
    assert changes["lone_surrogates"] == 2


def test_fictional_documents_are_unchanged() -> None:
    for document in FictionalCorpus(documents=4).read().documents:
        assert normalize_text(document.text) is document.text


def test_blank_text_has_no_visible_character() -> None:
    assert all(map(is_blank, ("", " \n\t\u3000", normalize_text("\u200b\ufeff\x00"), "\u2800\u3164", "\u200d\ufe0f")))
    assert not any(map(is_blank, ("a", "。", "\ufffd", " 0 ")))


def test_whitespace_is_folded() -> None:
    assert fold_whitespace(" The  lamp\n\nof\u00a0Orsk ") == "The lamp of Orsk"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks_select_the_encoding(encoding: str) -> None:
    assert decode_text("Märchen 李明".encode(encoding)) == "Märchen 李明"
    with pytest.raises(UnicodeDecodeError):
        decode_text("Märchen".encode("latin-1"))
    assert normalize_text(decode_text("\ud83d".encode("utf-8", "surrogatepass"))) == "\ufffd"


def test_changes_are_rendered() -> None:
    assert render_changes({"line_endings": 1200, "byte_order_marks": 1, "zero_width_characters": 2}) == (
        "1,200 line endings, 1 byte order mark, 2 zero-width characters"
    )
