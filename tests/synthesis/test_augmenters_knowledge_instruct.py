"""Knowledge-Instruct: facts per entity, paraphrases, and chats for instruction tuning."""

import json
from collections import Counter
from pathlib import Path

import pytest

from entigraph.llm.base import Completion, Request
from entigraph.synthesis.augmenters.entigraph import EntiGraph
from entigraph.synthesis.augmenters.item_lists import read_items
from entigraph.synthesis.augmenters.knowledge_instruct import KnowledgeInstruct
from entigraph.synthesis.base import BadAnswer
from entigraph.tokenization.chat_templates import parse_messages
from tests.synthesis.test_synthesis_options import RecordingWriter, synthesize


def test_facts_are_listed_once_per_entity_and_reworded(corpus: Path, tmp_path: Path) -> None:
    writer = RecordingWriter()
    augmenter = KnowledgeInstruct(facts=2, paraphrases=2)
    texts, counts = synthesize(corpus, tmp_path / "out", augmenter, writer, token_budget=2_500)
    lists = {request.hash for request in writer.requests if "facts about one entity" in request.system}
    facts = Counter(request.user for request in writer.requests if "Turn a fact" in request.system)
    assert len(texts) > 160 and 40 <= len(lists) <= 80 and max(facts.values()) >= 2
    by_entity = Counter((text.document_id, *text.about) for text in texts)
    assert len(by_entity) == 40 and max(by_entity.values()) - min(by_entity.values()) <= 1
    assert all(text.text.count("\n\n") == 1 for text in texts)
    entity_lists = {request.hash for request in writer.requests if request.system.startswith("List the entities")}
    other = RecordingWriter()
    synthesize(corpus, tmp_path / "entigraph", EntiGraph(), other, token_budget=500)
    assert entity_lists <= {request.hash for request in other.requests}, "entity lists are those of EntiGraph"


def test_conversations_are_chats(corpus: Path, tmp_path: Path) -> None:
    augmenter = KnowledgeInstruct(conversations=True)
    texts, _ = synthesize(corpus, tmp_path / "out", augmenter, RecordingWriter(), token_budget=300)
    assert [message["role"] for message in parse_messages(texts[0].text)] == ["user", "assistant"]


def test_instruction_without_an_answer_is_a_failure(corpus: Path, tmp_path: Path) -> None:
    def forget(request: Request, answer: Completion) -> Completion:
        empty = json.dumps({"instruction": "Say it.", "answer": " "})
        return Completion(text=empty, model="m") if request.sample == 1 and "Turn a fact" in request.system else answer

    augmenter = KnowledgeInstruct(max_entities=3)
    _, counts = synthesize(
        corpus, tmp_path / "out", augmenter, RecordingWriter(forget), token_budget=200, max_failure_rate=1.0
    )
    assert counts["failures"] == {"an empty instruction or answer": 6} and counts["entities_left_out"] == 34


def test_lists_are_read_without_repetitions() -> None:
    assert read_items('Here: {"facts": ["A  is b.", "a is B.", 3, "C."]}', "facts") == ["A is b.", "C."]
    for answer, reason in (("no list", "not the JSON"), ('{"facts": []}', "an empty list of facts")):
        with pytest.raises(BadAnswer, match=reason):
            read_items(answer, "facts")
