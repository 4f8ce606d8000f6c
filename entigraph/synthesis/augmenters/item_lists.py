"""Lists that a writer draws up about a document (strategies, questions, facts), of which each text takes one item."""

from collections.abc import Mapping
from typing import Any

from entigraph.synthesis.base import BadAnswer
from entigraph.text.json_answers import parse_object


def read_items(answer: str, name: str) -> list[str]:
    """Returns the items of the list `name` in an answer, without repetitions. Raises BadAnswer if there is none."""
    try:
        fields = parse_object(answer, name, kind=list)
    except ValueError:
        raise BadAnswer(f"{name} that are not the JSON asked for") from None
    items = [" ".join(item.split()) for item in fields[name] if isinstance(item, str)]
    distinct = {item.casefold(): item for item in reversed(items) if item}
    if not distinct:
        raise BadAnswer(f"an empty list of {name}")
    return [*reversed(distinct.values())]


def pick_item(answer: str, name: str, index: int) -> str:
    """Returns an item of the list in an answer, counting around if the list is shorter.

    An empty answer, which only a cost estimate gives, has the item "": so the estimate reaches the next request.
    """
    if not answer:
        return ""
    items = read_items(answer, name)
    return items[index % len(items)]


def read_object(answer: str, *names: str) -> Mapping[str, Any]:
    """Returns the object with these fields in an answer. Raises BadAnswer if there is none."""
    try:
        return parse_object(answer, *names)
    except ValueError:
        raise BadAnswer(f"no JSON with {' and '.join(names)}") from None
