"""Words, names, sentences and lengths of text in several scripts."""

import re

import pytest

from entigraph.text.writing_systems import (
    SENTENCE_END,
    characters_per_token,
    count_words,
    estimate_tokens,
    find_names_in,
    name_pattern,
    split_words,
)
from tests.conftest import ARTICLE

CHINESE = "陈岚在灰塔里保管着铜钟。每年冬天，她都会给港口的孩子们讲故事！"
JAPANESE = "岬の灯台守は古い手紙を読んだ。「嵐が来る」と彼は言った。"
ARABIC = "حفظ سالم المفتاح في البرج. ثم عاد إلى القرية قبل العاصفة؟ نعم."


def test_english_words_are_runs_of_word_characters() -> None:
    text = f"{ARTICLE} Don't naïve café_x 3.14 ½ “quoted”"
    assert split_words(text) == re.findall(r"\w+", text)


def test_characters_are_words_where_no_spaces_separate_them() -> None:
    assert split_words("铜钟 in 1911") == ["铜", "钟", "in", "1911"]
    assert split_words("हिन्दी की किताब") == ["हिन्दी", "की", "किताब"]
    assert count_words("the old bell") == 3 and count_words("铜钟的故事") == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("陈岚", "于是陈岚走了"),
        ("Orsk", "她在Orsk住过"),
        ("灯台守", "岬の灯台守は"),
        ("البرج", "وصعد للبرج ليلا"),
        ("المفتاح", "والمفتاح معه"),
        ("سالم", "قال لسالم"),
        ("أحمد", "جاء أَحْمَد"),
        ("ירושלים", "בירושלים"),
        ("서울", "그는 서울에서 살았다"),
        ("NVIDIA", "NVIDIA는 AI를 만든다"),
        ("2023", "2023년에"),
        ("राम", "राम ने कहा"),
        (".NET", "the .NET runtime"),
        ("C++", "written in C++."),
        ("Miriam Vale", "where Miriam\nVale lived"),
        ("Miriam Vale", "where Miriam\u00a0Vale lived"),
        ("O'Neil", "by O\u2019Neil"),
        ("O\u2019Neil", "by O'Neil"),
        ("Ilse-Marie", "by Ilse\u2011Marie"),
    ],
)
def test_name_is_found(name: str, text: str) -> None:
    assert name_pattern(name).search(text) and find_names_in([name], text) == [name]


@pytest.mark.parametrize(
    ("name", "text"), [("Orsk", "Orskan"), ("राम", "रामायण"), ("سالم", "سالمون"), ("NET", "NETs"), ("서울", "새서울")]
)
def test_part_of_another_word_is_no_name(name: str, text: str) -> None:
    assert not name_pattern(name).search(text)


def test_sentences_end_without_spaces() -> None:
    assert len(re.split(SENTENCE_END, CHINESE)) - 1 == 2
    assert re.split(SENTENCE_END, JAPANESE)[1] == "「嵐が来る」と彼は言った。"
    assert len(re.split(SENTENCE_END, ARABIC)) == 3
    assert re.split(SENTENCE_END, "One. Two! 3.5 ...") == ["One. ", "Two! ", "3.5 ..."]


def test_characters_per_token_depend_on_the_script() -> None:
    assert characters_per_token(ARTICLE) == characters_per_token("naïve “café”") == characters_per_token("") == 4.0
    assert characters_per_token("é" * 100) == 4.0, "letters of the Latin alphabet outside ASCII"
    assert characters_per_token(f"{ARTICLE} 铜钟") == 4.0, "a few other characters change nothing"
    assert characters_per_token(CHINESE) < characters_per_token(ARABIC) < 4.0
    assert estimate_tokens("word" * 100) == 100
