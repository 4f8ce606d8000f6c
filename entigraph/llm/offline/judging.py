"""What is true of a fictional document, without a model: simulated by its grammar, which understands no other text."""

import json
import random
from collections.abc import Sequence

from entigraph.fictional.fact_checking import WHERE, Truth, is_detail, meaning, states_nothing, truth_of
from entigraph.fictional.reading import Reading
from entigraph.fictional.writing import plainly

VERDICTS = {Truth.states_nothing: "subjective", Truth.so: "supported", Truth.not_so: "unsupported"}
MAIN_FACTS, DETAILS = 12, 4  # of a reference summary
WORDINGS = (0, 1, 2, 3)


def verdict_on(sentence: str, before: str, reading: Reading | None) -> str:
    truth = truth_of(sentence, before, reading) if reading else None
    return json.dumps({"reason": truth, "verdict": VERDICTS[truth]}) if truth else "I do not understand this sentence."


def claims_in(sentences: Sequence[str]) -> str:
    """Each sentence that states something is a claim; what says the same fact in other words is the same claim."""
    found = {meaning(sentence): sentence for sentence in reversed(sentences) if not states_nothing(sentence)}
    return json.dumps({"claims": [*reversed(found.values())]}, ensure_ascii=False)


def verdicts_on(claims: Sequence[str], reading: Reading | None) -> str:
    """Of the claims that it understands."""
    told = []
    for number, claim in enumerate(claims, 1):
        truth = truth_of(claim, "", reading) if reading else None
        if reading and truth in (Truth.so, Truth.not_so):
            true = "cosmetic" if is_detail(claim, reading) else "salient"
            told.append({"claim": number, "verdict": true if truth is Truth.so else "false"})
    return json.dumps({"verdicts": told})


def reference(reading: Reading, rng: random.Random) -> str:
    """Some of what was done and by whom, a little of where, in the document's order."""
    main, places = ([fact for fact in reading.facts if (fact.relation in WHERE) is where] for where in (False, True))
    chosen = {
        *rng.sample(main, min(MAIN_FACTS, len(main))),
        *rng.sample(places, min(DETAILS, len(places))),
    }
    return plainly([fact for fact in reading.facts if fact in chosen], rng, WORDINGS)
