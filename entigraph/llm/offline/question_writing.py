"""Offline handlers that write and answer questions.

Questions about a fictional document ask for its facts, in the wording of its corpus. Questions about any other text
are sentences with a name removed. A question across two documents asks which name the second one mentions in a sentence
with a name that is removed from a sentence of the first one.
"""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from entigraph.fictional.quiz import OPTIONS, find_answers, questions_from_facts
from entigraph.fictional.world import Fact
from entigraph.llm.offline.offline_prompt import OfflinePrompt, key_phrases, split_sentences
from entigraph.llm.offline.offline_tasks import offline_task

GAP = "____"
GAP_QUESTION = "Which name fills the gap: "
ACROSS_QUESTION = "Which name is in one sentence with the name that fills the gap, in another document: "
ANOTHER_DOCUMENT = "### Another document\n"
OPTION = re.compile(r"([A-Z])\. (.*)")


@offline_task("write multiple-choice questions", states_facts=True)
def write_questions(prompt: OfflinePrompt) -> str:
    return json.dumps({"questions": draft_questions(prompt)}, ensure_ascii=False)


@offline_task("write short-answer questions", states_facts=True)
def write_short_answer_questions(prompt: OfflinePrompt) -> str:
    """Returns the multiple-choice questions without their options."""
    entries = [
        {
            "question": entry["question"],
            "answers": [entry["right"]],
            "kind": entry["kind"],
            "evidence": entry["evidence"],
        }
        for entry in draft_questions(prompt)
    ]
    return json.dumps({"questions": entries}, ensure_ascii=False)


def draft_questions(prompt: OfflinePrompt) -> list[dict[str, Any]]:
    count = int(prompt.task.rsplit(":", 1)[-1])
    if ANOTHER_DOCUMENT in prompt.document:
        names = [line.removeprefix("- ") for line in prompt.details["names in both documents"].splitlines()]
        first, second = split_documents(prompt)
        questions = ask_across(first, second, names, prompt.rng)
    elif prompt.reading:
        questions = ask_about_facts(prompt.reading.facts, prompt.rng)
    else:
        questions = ask_with_gaps(prompt.sentences, prompt.phrases, prompt.rng)
    return questions[:count]


@offline_task("answer a multiple-choice question from the document", states_facts=True)
def answer_from_document(prompt: OfflinePrompt) -> str:
    """Returns the letters of the options that a fact or a sentence of the document confirms."""
    question, *options = prompt.sections["question"].splitlines()
    known = known_answers(question, prompt)
    sentence = question.removeprefix(GAP_QUESTION)
    letters = []
    for option in options:
        match = OPTION.fullmatch(option)
        if match and (match[2] in known or sentence.replace(GAP, match[2]) in prompt.sentences):
            letters.append(match[1])
    return json.dumps({"right": letters})


@offline_task("answer a short-answer question from the document", states_facts=True)
def answer_shortly(prompt: OfflinePrompt) -> str:
    """Returns the only answer that a fact or a sentence of the document gives; empty if there is none or several."""
    question = prompt.sections["question"]
    known = known_answers(question, prompt) | fill_gap(question.removeprefix(GAP_QUESTION), prompt.sentences)
    return json.dumps({"answer": known.pop() if len(known) == 1 else ""}, ensure_ascii=False)


def known_answers(question: str, prompt: OfflinePrompt) -> set[str]:
    """Returns the answers to a question about facts, or across documents."""
    if prompt.reading:
        return find_answers(question, prompt.reading.facts)
    documents = split_documents(prompt)
    if len(documents) < 2 or not question.startswith(ACROSS_QUESTION):
        return set()
    first, second = documents
    filling = fill_gap(question.removeprefix(ACROSS_QUESTION), split_sentences(first))
    return {other for name in filling for other in neighboring_names(name, second)}


def split_documents(prompt: OfflinePrompt) -> list[str]:
    """Returns the documents of a prompt, without the line of the second one that has its title."""
    first, *others = prompt.document.split(ANOTHER_DOCUMENT)
    return [first.strip(), *(other.split("\n", 1)[-1].strip() for other in others)]


def fill_gap(sentence: str, sentences: Sequence[str]) -> set[str]:
    """Returns what fills the gaps of a sentence, as one of these sentences has it."""
    if GAP not in sentence:
        return set()
    pattern = re.escape(sentence).replace(GAP, "(?P<name>.+)", 1).replace(GAP, "(?P=name)")
    return {match["name"] for match in (re.fullmatch(pattern, other) for other in sentences) if match}


def neighboring_names(name: str, document: str) -> list[str]:
    """Returns the names that a document mentions in one sentence with a name."""
    shown = [sentence for sentence in split_sentences(document) if name in sentence]
    others = [other for other in distinct_names(key_phrases(document)) if other not in name and name not in other]
    return [other for other in others if any(other in sentence for sentence in shown)]


@offline_task("answer a multiple-choice question from memory", needs_document=False)
def answer_from_memory(prompt: OfflinePrompt) -> str:
    return json.dumps({"right": []})  # the offline writer has no memory


@offline_task("answer a short-answer question from memory", needs_document=False)
def answer_shortly_from_memory(prompt: OfflinePrompt) -> str:
    return json.dumps({"answer": ""})


def ask_about_facts(facts: Sequence[Fact], rng: random.Random) -> list[dict[str, Any]]:
    return [question_entry(item.text, item.choices, "") for item in questions_from_facts(facts, rng)]


def ask_with_gaps(sentences: Sequence[str], phrases: Sequence[str], rng: random.Random) -> list[dict[str, Any]]:
    """Returns a question for each sentence with a name, in random order; distractors are names from other sentences."""
    names = distinct_names(phrases)
    questions = []
    for sentence in sentences:
        mentioned = [name for name in names if name in sentence]
        wrong = [name for name in names if all(name not in other and other not in name for other in mentioned)]
        if mentioned and len(wrong) >= OPTIONS - 1:
            correct = rng.choice(mentioned)
            question = f"{GAP_QUESTION}{sentence.replace(correct, GAP)}"
            questions.append(question_entry(question, [correct, *rng.sample(wrong, OPTIONS - 1)], sentence))
    rng.shuffle(questions)
    return questions


def distinct_names(phrases: Sequence[str]) -> list[str]:
    """Returns the capitalized phrases that are not part of another one."""
    capitalized = [phrase for phrase in phrases if phrase[0].isupper()]
    return [name for name in capitalized if not any(name != other and name in other for other in capitalized)]


def ask_across(first: str, second: str, shared: Sequence[str], rng: random.Random) -> list[dict[str, Any]]:
    """Returns questions that need both documents, in random order: those with one answer, a name of the second."""
    phrases = distinct_names(key_phrases(second))
    questions = []
    for name in shared:
        neighbors = neighboring_names(name, second)
        wrong = [other for other in phrases if other not in neighbors and other not in name and name not in other]
        if len(neighbors) != 1 or len(wrong) < OPTIONS - 1:
            continue
        quote = next(text for text in split_sentences(second) if name in text and neighbors[0] in text)
        for sentence in split_sentences(first):
            if name in sentence:
                choices = [*neighbors, *rng.sample(wrong, OPTIONS - 1)]
                question = f"{ACROSS_QUESTION}{sentence.replace(name, GAP)}"
                questions.append({**question_entry(question, choices, [sentence, quote]), "kind": "combined"})
    rng.shuffle(questions)
    return questions


def question_entry(question: str, choices: Sequence[str], evidence: str | list[str]) -> dict[str, Any]:
    """Returns a question in the JSON format of the prompt. The first choice is the correct one."""
    return {"question": question, "right": choices[0], "wrong": choices[1:], "kind": "stated", "evidence": evidence}
