"""Offline handlers that write and answer multiple-choice questions.

Questions about a fictional document ask for its facts, in the wording of its corpus. Questions about any other text
are sentences with a name removed.
"""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from entigraph.fictional.quiz import OPTIONS, find_answers, questions_from_facts
from entigraph.fictional.world import Fact
from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task

GAP = "____"
GAP_QUESTION = "Which name fills the gap: "
OPTION = re.compile(r"([A-Z])\. (.*)")


@offline_task("write multiple-choice questions", states_facts=True)
def write_questions(prompt: OfflinePrompt) -> str:
    count = int(prompt.task.rsplit(":", 1)[-1])
    if prompt.reading:
        questions = ask_about_facts(prompt.reading.facts, prompt.rng)
    else:
        questions = ask_with_gaps(prompt.sentences, prompt.phrases, prompt.rng)
    return json.dumps({"questions": questions[:count]}, ensure_ascii=False)


@offline_task("answer a multiple-choice question from the document", states_facts=True)
def answer_from_document(prompt: OfflinePrompt) -> str:
    """Returns the letters of the options that a fact or a sentence of the document confirms."""
    question, *options = prompt.sections["question"].splitlines()
    known = find_answers(question, prompt.reading.facts) if prompt.reading else set()
    sentence = question.removeprefix(GAP_QUESTION)
    letters = []
    for option in options:
        match = OPTION.fullmatch(option)
        if match and (match[2] in known or sentence.replace(GAP, match[2]) in prompt.sentences):
            letters.append(match[1])
    return json.dumps({"right": letters})


@offline_task("answer a multiple-choice question from memory", needs_document=False)
def answer_from_memory(prompt: OfflinePrompt) -> str:
    return json.dumps({"right": []})  # the offline writer has no memory


def ask_about_facts(facts: Sequence[Fact], rng: random.Random) -> list[dict[str, Any]]:
    return [question_entry(item.text, item.choices, "") for item in questions_from_facts(facts, rng)]


def ask_with_gaps(sentences: Sequence[str], phrases: Sequence[str], rng: random.Random) -> list[dict[str, Any]]:
    """Returns a question for each sentence with a name, in random order; distractors are names from other sentences."""
    capitalized = [phrase for phrase in phrases if phrase[0].isupper()]
    names = [name for name in capitalized if not any(name != other and name in other for other in capitalized)]
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


def question_entry(question: str, choices: Sequence[str], evidence: str) -> dict[str, Any]:
    """Returns a question in the JSON format of the prompt. The first choice is the correct one."""
    return {"question": question, "right": choices[0], "wrong": choices[1:], "kind": "stated", "evidence": evidence}
