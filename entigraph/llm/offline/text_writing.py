"""Offline handlers for the tasks of augmenters: entity lists, texts about entities, and rewritten documents."""

import json
import random
import re
from collections.abc import Mapping, Sequence

from entigraph.fictional.writing import ask_and_answer, relate, restate
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task

SUMMARY_SENTENCES = 3
SENTENCES_PER_ENTITY, MAX_SHARED_SENTENCES = 3, 6
# The wordings of a fact (of four) that each style uses.
WORDINGS: Mapping[str, Sequence[int]] = {"easy": (0, 1), "medium": (0, 1, 2, 3), "hard": (2, 3)}


@offline_task("list the entities")
def list_entities(prompt: OfflinePrompt) -> str:
    entities = prompt.reading.entities if prompt.reading else prompt.phrases
    summary = " ".join(prompt.sentences[:SUMMARY_SENTENCES])
    return json.dumps({"summary": summary, "entities": entities}, ensure_ascii=False)


@offline_task("relate the entities", states_facts=True)
def relate_entities(prompt: OfflinePrompt) -> str:
    return write_about(prompt, prompt.sections.get("entities", ""))


@offline_task("relate the entities of a document: several groups", states_facts=True)
def relate_groups(prompt: OfflinePrompt) -> str:
    """Returns a text for each group of entities, under a heading with the group's number."""
    pieces = re.split(r"^=== (\d+)\n", prompt.sections.get("entities", ""), flags=re.MULTILINE)
    return "\n".join(
        f"=== {number}\n{write_about(prompt, entities)}"
        for number, entities in zip(pieces[1::2], pieces[2::2], strict=True)
    )


@offline_task("rewrite the document as questions", states_facts=True)
def rewrite_as_questions(prompt: OfflinePrompt) -> str:
    if prompt.reading:
        return ask_and_answer(prompt.reading, prompt.rng)
    mentions = [(name, [s for s in prompt.sentences if name in s]) for name in prompt.phrases]
    return "\n\n".join(
        f"Question: What is said of {name}?\nAnswer: {prompt.rng.choice(sentences)}"
        for name, sentences in mentions
        if sentences
    )


@offline_task("rewrite the document", states_facts=True)
def rewrite(prompt: OfflinePrompt) -> str:
    if prompt.reading:
        return restate(prompt.reading, prompt.rng, WORDINGS[prompt.task.split()[-1]])
    # Other documents are not understood: their paraphrase is the document with a few sentences dropped.
    sentences = [sentence for sentence in prompt.sentences if prompt.rng.random() < 0.9]
    return " ".join(sentences or prompt.sentences)


def write_about(prompt: OfflinePrompt, entity_list: str) -> str:
    entities = [line.removeprefix("- ").strip() for line in entity_list.splitlines() if line.strip()]
    if prompt.reading:
        return relate(prompt.reading.facts, entities, prompt.rng)
    return extract(prompt.sentences, entities, prompt.rng)


def extract(sentences: Sequence[str], entities: Sequence[str], rng: random.Random) -> str:
    """Returns sentences about the entities: a few about each one, then some about several, in random order."""
    mentions = {entity: [s for s in sentences if entity in s] for entity in entities}
    shared = [s for s in sentences if sum(entity in s for entity in entities) > 1]
    chosen = [f"{' and '.join(entities)}."]
    for entity in entities:
        chosen += rng.sample(mentions[entity], min(SENTENCES_PER_ENTITY, len(mentions[entity])))
    rng.shuffle(shared)
    return " ".join(dict.fromkeys([*chosen, *shared[:MAX_SHARED_SENTENCES]]))
