"""Offline handlers for the tasks of judges; they understand only the grammar of fictional documents."""

import json
import random
import re

from entigraph.fictional.fact_checking import (
    LOCATION_RELATIONS,
    Truth,
    check_truth,
    is_detail,
    normalize_claim,
    states_nothing,
)
from entigraph.fictional.reading import Reading
from entigraph.fictional.writing import write_statements
from entigraph.llm.offline.offline_prompt import OfflinePrompt, split_sentences
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.text.answer_matching import normalize_answer

VERDICTS = {Truth.states_nothing: "subjective", Truth.true: "supported", Truth.false: "unsupported"}
MAX_MAIN_FACTS, MAX_DETAILS = 12, 4  # per reference summary
WORDINGS = (0, 1, 2, 3)
SUMMARY_SENTENCES = 3
ABSTENTION = re.compile(r"\b(?:don['’]t|do not|cannot|can['’]t) (?:know|say|answer|tell)\b", re.IGNORECASE)


@offline_task("judge the sentence")
def judge_sentence(prompt: OfflinePrompt) -> str:
    before, _, sentence = prompt.sections["task"].partition("### Before\n")[2].rpartition("### Sentence\n")
    truth = check_truth(sentence.strip(), before, prompt.reading) if prompt.reading else None
    return json.dumps({"reason": truth, "verdict": VERDICTS[truth]}) if truth else "I do not understand this sentence."


@offline_task("judge the answer", needs_document=False)
def judge_answer(prompt: OfflinePrompt) -> str:
    """Returns whether all words of an accepted answer are in the answer."""
    accepted, _, answer = (
        prompt.sections["question"].partition("### Accepted answers\n")[2].partition("### Answer to judge\n")
    )
    words = set(normalize_answer(answer).split())
    references = [set(normalize_answer(line.removeprefix("- ")).split()) for line in accepted.splitlines() if line]
    if ABSTENTION.search(answer):
        return json.dumps({"reason": "It says that it does not know.", "verdict": "not_attempted"})
    verdict = "correct" if any(reference <= words for reference in references) else "incorrect"
    return json.dumps({"reason": "The words were compared.", "verdict": verdict})


@offline_task("split the summary", needs_document=False)
def split_claims(prompt: OfflinePrompt) -> str:
    """Returns each sentence that states a fact as a claim; sentences that state the same fact are one claim."""
    sentences = split_sentences(prompt.sections["task"].partition("### Summary\n")[2])
    claims = {normalize_claim(sentence): sentence for sentence in reversed(sentences) if not states_nothing(sentence)}
    return json.dumps({"claims": [*reversed(claims.values())]}, ensure_ascii=False)


@offline_task("judge the claims")
def judge_claims(prompt: OfflinePrompt) -> str:
    """Returns a verdict on each claim that can be parsed."""
    lines = prompt.sections["task"].partition("### Claims\n")[2].splitlines()
    reading = prompt.reading
    verdicts = []
    for number, claim in enumerate((line.partition(". ")[2] for line in lines), 1):
        truth = check_truth(claim, "", reading) if reading else None
        if reading and truth in (Truth.true, Truth.false):
            importance = "cosmetic" if is_detail(claim, reading) else "salient"
            verdicts.append({"claim": number, "verdict": importance if truth is Truth.true else "false"})
    return json.dumps({"verdicts": verdicts})


@offline_task("summarise the document", states_facts=True)
def summarize(prompt: OfflinePrompt) -> str:
    if prompt.reading:
        return write_reference_summary(prompt.reading, prompt.rng)
    return " ".join(prompt.sentences[:SUMMARY_SENTENCES])


def write_reference_summary(reading: Reading, rng: random.Random) -> str:
    """Returns some main facts and a few facts about places, in the document's order."""
    main, places = (
        [fact for fact in reading.facts if (fact.relation in LOCATION_RELATIONS) is where] for where in (False, True)
    )
    selected = {*rng.sample(main, min(MAX_MAIN_FACTS, len(main))), *rng.sample(places, min(MAX_DETAILS, len(places)))}
    return write_statements([fact for fact in reading.facts if fact in selected], rng, WORDINGS)
