"""Entity lists and sections as different writers format them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entigraph.storage.schemas import Document
from entigraph.synthesis.augmenters.entigraph import EntiGraph, split_groups
from entigraph.synthesis.augmenters.entity_lists import group_spellings, read_entities
from entigraph.synthesis.base import BadAnswer, WritingTask
from entigraph.synthesis.generation import text_id_suffix


@pytest.mark.parametrize(
    ("entities", "names"),
    [
        (["Orsk", {"name": "Blue Mill"}, {"kind": "river"}, 1911, None, True], ["Orsk", "Blue Mill", "1911"]),
        ([".NET", "-273 degrees", "C++", "U.S.", "Orsk."], [".NET", "-273 degrees", "C++", "U.S.", "Orsk"]),
        (["- Orsk", "**Vale**", "• Grey Tower,", "`Mill`"], ["Orsk", "Vale", "Grey Tower", "Mill"]),
        (["1. Orsk", "2. Blue Mill"], ["Orsk", "Blue Mill"]),
        (["1. FC Köln", "__init__", "C*"], ["1. FC Köln", "__init__", "C*"]),
        (["Caf\u00e9", "Cafe\u0301", "CAF\u00c9"], ["Caf\u00e9"]),
        (["Or\ud800sk", "---", "", "Orsk\u200b", "\ufeffOrsk"], ["Orsk"]),
        (["李明", "李明。"], ["李明"]),
        (["O’Neil", "O'Neil", "Jean‑Luc", "Jean-Luc", "ＮＥＣ", "nec"], ["O’Neil", "Jean‑Luc", "ＮＥＣ"]),
        (['"Orsk"', "“Vale”", "«Mill»", "「灯台」", "[Tower](x)"], ["Orsk", "Vale", "Mill", "灯台", "Tower"]),
        (['"A" and "B"', "__Miriam Vale__", "f[0]"], ['"A" and "B"', "Miriam Vale", "f[0]"]),
    ],
)
def test_names_are_read_and_normalized(entities: list[Any], names: list[str]) -> None:
    _, read = read_entities(json.dumps({"summary": "A bell.", "entities": entities}))
    assert list(group_spellings(read)) == names


@pytest.mark.parametrize(
    "answer",
    [
        '```json\n{"summary": "s", "entities": ["Orsk", "Vale"]}\n```',
        'Here you are:\n{"summary": "s", "entities": ["Orsk", "Vale"]}\nDone.',
        '{"summary": "s", "entities": ["Orsk", "Vale",]}',
        '{"Summary": "s", "Entities": [{"Name": "Orsk"}, {"entity_name": "Vale"}]}',
        '{"result": {"summary": "s", "entities": ["Orsk", "Vale"]}}',
        '{"summary": "s", "entities": {"places": ["Orsk"], "people": ["Vale"]}}',
        '{"summary": "s", "entities": {"Orsk": "place", "Vale": "person"}}',
        '{"summary": "s", "entities": [["Orsk", "place"], ["Vale", "person"]]}',
    ],
)
def test_json_in_prose_is_read(answer: str) -> None:
    assert read_entities(answer) == ("s", ["Orsk", "Vale"])


def test_array_of_names_is_read() -> None:
    assert read_entities('Entities:\n["Orsk", "Vale"]') == ("", ["Orsk", "Vale"])


@pytest.mark.parametrize("answer", ["", "No entities.", '{"summary": "s"}', '["Orsk"]'])
def test_answer_without_a_list_of_entities_fails(answer: str) -> None:
    with pytest.raises(BadAnswer):
        read_entities(answer)


@pytest.mark.parametrize(
    "heading",
    [
        *("=== {}", "=== {} ===", "**=== {}**", "## === {}", "=== {}\r", "=== {}:", "=== **{}** ==="),
        *("=== {}: Orsk and Vale", "=== Group {} ===", "=== {} (Orsk, Vale) ===", "===== {} ====="),
        *(
            "=== 第{}组 ===",
            "=== 그룹 {} ===",
            "=== กลุ่ม {}",
            "=== Gruppe {}",
            "＝＝＝ {} ＝＝＝",
            "### {}",
            "## Group {}:",
        ),
    ],
)
def test_headings_of_sections(heading: str) -> None:
    answer = "\n".join(f"{heading.format(number)}\nText {number}." for number in (1, 2))
    assert [(number, text.strip()) for number, text in split_groups(answer)] == [(1, "Text 1."), (2, "Text 2.")]


def test_headings_within_a_text_are_part_of_it() -> None:
    text = "First.\n==== 2. Background ====\nMore.\n| === 1 | 2 |\n=== Chapter 2 ===\n## 2"
    assert [(number, text.strip()) for number, text in split_groups(f"=== 1\n{text}")] == [(1, text)]


def test_repeated_headings_and_those_of_a_text_lose_nothing() -> None:
    answer = "=== 1\n=== 2\n\n=== 1\nFirst.\n=== 1911 ===\nMore.\n=== 2\nSecond.\n=== 2, continued\nThird."
    groups = [("Orsk", "Vale"), ("Orsk", "Mill"), ("Mill", "Vale")]
    document = Document(id="a", title="a", text="The mill of Orsk.")
    steps = EntiGraph(relations_per_request=3).write(WritingTask(document=document, kind="pair", about=groups))
    next(steps)
    with pytest.raises(StopIteration) as finished:
        steps.send(answer)
    assert finished.value.value == ["First.\n\nMore.", "Second.\n\nThird.", None]


def test_groups_numbered_from_zero_keep_their_order() -> None:
    groups = [("Orsk", "Vale"), ("Orsk", "Mill")]
    document = Document(id="a", title="a", text="The mill of Orsk.")
    steps = EntiGraph(relations_per_request=2).write(WritingTask(document=document, kind="pair", about=groups))
    next(steps)
    with pytest.raises(StopIteration) as finished:
        steps.send("=== 0\nFirst.\n=== 1\nSecond.")
    assert finished.value.value == ["First.", "Second."]


def test_ids_of_texts_are_distinct() -> None:
    assert text_id_suffix("pair", ("TCP", "IP/UDP"), 0) != text_id_suffix("pair", ("TCP/IP", "UDP"), 0)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def check_entity_answer(value: Any) -> None:
    """Any answer is a list of distinct names, or a BadAnswer."""
    text = value if isinstance(value, str) else json.dumps({"summary": value, "entities": value})
    try:
        names = list(group_spellings(read_entities(text)[1]))
    except BadAnswer:
        return
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name == name.strip() and name for name in names)


@settings(max_examples=200)
@given(JSON)
def test_any_entity_answer_is_read_or_rejected(value: Any) -> None:
    check_entity_answer(value)


@pytest.mark.slow
@settings(max_examples=10_000, derandomize=False)
@given(JSON)
def test_ten_thousand_entity_answers_are_read_or_rejected(value: Any) -> None:
    check_entity_answer(value)
