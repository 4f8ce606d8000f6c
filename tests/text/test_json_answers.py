"""JSON as models write it."""

import pytest

from entigraph.text.json_answers import parse_json_answer

VALUE = {"summary": "A bell.", "entities": ["Grey Tower", "O'Hara"]}
JSON = '{"summary": "A bell.", "entities": ["Grey Tower", "O\'Hara"]}'


@pytest.mark.parametrize(
    "answer",
    [
        JSON,
        f"```json\n{JSON}\n```",
        f"```\r\n{JSON}\r\n```\r\nAnything else?",
        f"Here is the JSON [as you asked]:\n{JSON}\nI hope {{this}} helps.",
        f'I follow {{"summary": "...", "entities": []}}.\n\n{JSON}',
        JSON.replace('"]', '",]').replace("]}", "],}"),
        JSON.replace(": [", ": [  // all of them\n"),
        "{'summary': 'A bell.', 'entities': ['Grey Tower', \"O'Hara\"]}",
        '{summary: "A bell.", entities: ["Grey Tower", "O\'Hara"]}',
    ],
)
def test_json_is_found_and_repaired(answer: str) -> None:
    assert parse_json_answer(answer, lambda value: isinstance(value, dict) and "entities" in value) == VALUE


@pytest.mark.parametrize("answer", ["", "No entities here.", "[[[[", "{{{{" * 100, "see [1] and [2]"])
def test_answer_without_json_is_rejected(answer: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        parse_json_answer(answer, lambda value: isinstance(value, dict))
