"""JSON schemas of requests, and parsing of the JSON in answers."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

FENCE = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
VALUE_START = re.compile(r"""[{\[](?=\s*["'“{\[\]}\w/])""")
STRING: Mapping[str, Any] = {"type": "string"}
MAX_REPAIRS = 5  # attempts per answer: most brackets in prose begin no value
MAX_CHARACTERS = 200_000  # longer answers are not repaired: it takes more than linear time


def object_schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the JSON schema of an object with exactly these fields."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def array_schema(items: Mapping[str, Any] = STRING) -> dict[str, Any]:
    return {"type": "array", "items": items}


def enum_schema(values: Iterable[str]) -> dict[str, Any]:
    return {"type": "string", "enum": [*map(str, values)]}


def parse_json_answer(answer: str, accept: Callable[[Any], bool] = lambda value: True) -> Any:
    """Returns the object or array that an answer states as JSON: the longest that is accepted.

    The answer may wrap it in Markdown or in sentences, and may have common mistakes: trailing commas, single quotes,
    comments. Raises ValueError if there is no such value.
    """
    try:
        value = json.loads(answer)
        if accept(value):
            return value
    except (ValueError, RecursionError):
        pass
    for text in [*FENCE.findall(answer), answer]:
        values = [(length, value) for length, value in find_values(text) if accept(value)]
        if values:
            return max(values, key=lambda item: item[0])[1]
    raise ValueError("no JSON")


def parse_object(answer: str, *fields: str, kind: type = object) -> dict[str, Any]:
    """Returns the object with these fields, of this kind, that an answer states. Raises ValueError if there is none."""
    return dict(parse_json_answer(answer, lambda value: has_fields(value, fields, kind)))


def parse_complete_object(answer: str, *fields: str, kind: type = object) -> dict[str, Any]:
    """Like `parse_object` without repairs: the first verdicts of a list that is cut off would count as all of them."""
    try:
        value = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not has_fields(value, fields, kind):
        raise ValueError("other fields")
    return dict(value)


def has_fields(value: Any, fields: Iterable[str], kind: type) -> bool:
    return isinstance(value, dict) and all(name in value and isinstance(value[name], kind) for name in fields)


def find_values(text: str) -> Iterator[tuple[int, Any]]:
    """Yields the objects and arrays in a text with their lengths; one with mistakes extends to the end of the text."""
    position = repairs = 0
    while match := VALUE_START.search(text, position):
        start = match.start()
        try:
            value, position = json.JSONDecoder().raw_decode(text, start)
            yield position - start, value
        except RecursionError:  # at the next brackets too
            return
        except ValueError:
            position = start + 1
            if repairs < MAX_REPAIRS:
                repairs += 1
                yield len(text) - start, repair(text[start:])


def repair(text: str) -> Any:
    """Returns the value of JSON with mistakes, None if there is none."""
    import json_repair

    if len(text) > MAX_CHARACTERS:
        return None
    try:
        return json_repair.loads(text)
    except Exception:  # of the library, for input that it did not expect
        return None
