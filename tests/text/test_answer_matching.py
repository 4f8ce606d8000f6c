"""Exact match and F1 of short answers."""

import re
import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entigraph.text.answer_matching import best_f1, exact_match, normalize_answer, word_f1


@pytest.mark.parametrize(
    ("answer", "accepted", "matches", "f1"),
    [
        ("The Meridian.", ["Meridian"], True, 1.0),
        ("Captain  Holloway", ["holloway", "captain holloway"], True, 1.0),
        ("Tobias Vale", ["Miriam Vale"], False, 0.5),
        ("20,000 men", ["20000"], False, 2 / 3),
        ("", ["Meridian"], False, 0.0),
        ("A", ["A"], True, 1.0),
        ("the", ["A"], False, 0.0),
        ("$", ["$"], True, 1.0),
        ("Cafe\u0301", ["CAFÉ"], True, 1.0),
        ("STRASSE", ["Straße"], True, 1.0),
        ("«Война и мир»", ["война и мир"], True, 1.0),
        ("Ｔｏｋｙｏ。", ["tokyo"], True, 1.0),
        ("東京都", ["東京"], False, 0.8),
        ("القاهرة،", ["القاهرة"], True, 1.0),
    ],
)
def test_answers_in_any_script(answer: str, accepted: list[str], matches: bool, f1: float) -> None:
    assert exact_match(answer, accepted) is matches
    assert best_f1(answer, accepted) == pytest.approx(f1)


def squad_normalize(text: str) -> str:
    """The steps of SQuAD's evaluation: lower case, no ASCII punctuation, no articles, single spaces."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


@given(
    st.text(st.sampled_from("aAnthe .,$-'Xy 19\n"), max_size=30), st.text(st.sampled_from("aAnthe .Xy"), max_size=20)
)
def test_equal_to_squad_for_ascii(answer: str, reference: str) -> None:
    ours, theirs = normalize_answer(answer), squad_normalize(answer)
    if theirs and squad_normalize(reference):
        assert ours == theirs
        first, second = Counter(theirs.split()), Counter(squad_normalize(reference).split())
        common = (first & second).total()
        f1 = 2 * common / (first.total() + second.total()) if common else 0.0
        assert word_f1(answer, reference) == pytest.approx(f1)
        assert exact_match(answer, [reference]) is (theirs == squad_normalize(reference))
