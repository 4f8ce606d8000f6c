"""The offline writer: tasks are discovered, including those outside the package."""

import json

import pytest

from entigraph.errors import LLMError
from entigraph.llm.base import Request
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import REGISTRY, offline_task
from entigraph.llm.offline.offline_writer import OfflineWriter

DOCUMENT = "The Lamp, by Ann\nThe Lamp of Orsk burned. Ann Bell saw the Lamp of Orsk. Ann Bell left Orsk."


def answer(task: str) -> str:
    user = f"### Document\n{DOCUMENT}\n\n### Task\n{task}"
    (completion,) = OfflineWriter().complete([Request(system="", user=user, temperature=1.0)])
    return completion.text


def test_module_adds_a_task_by_decorating_a_function() -> None:
    @offline_task("List the entities backwards")
    def list_backwards(prompt: OfflinePrompt) -> str:
        return " ".join(reversed(prompt.phrases[:2]))

    try:
        assert answer("List the entities backwards, please") == "Lamp Orsk"
    finally:
        del REGISTRY["list the entities backwards"]
    assert "Orsk" in json.loads(answer("List the entities of the document"))["entities"]


def test_unknown_task_raises_one_error() -> None:
    with pytest.raises(LLMError, match="does not know the task 'sing the document'; it knows .*list the entities"):
        answer("Sing the document")


def test_answers_depend_on_the_request_only() -> None:
    assert answer("Rewrite the document: easy") == answer("Rewrite the document: easy")
