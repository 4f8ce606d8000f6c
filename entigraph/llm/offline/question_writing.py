"""Multiple-choice questions without a model, and the answers to them: simulated, like all that the offline writer does.

About a fictional document's facts, in the wording of its corpus; of any other text, a name taken out of a sentence.
"""

import json
import random
import re
from collections.abc import Sequence
from typing import Any

from entigraph.fictional.quiz import OPTIONS, questions_about, right_answers
from entigraph.fictional.world import Fact

GAP = "____"
ASKED = "Which name fills the gap: "
OPTION = re.compile(r"([A-Z])\. (.*)")


def about_facts(facts: Sequence[Fact], rng: random.Random) -> list[dict[str, Any]]:
    return [entry(item.text, item.choices, "") for item in questions_about(facts, rng)]


def gaps(sentences: Sequence[str], phrases: Sequence[str], rng: random.Random) -> list[dict[str, Any]]:
    """One for each sentence with a name in it, wrong options being names that it does not hold; in a drawn order."""
    capitalised = [phrase for phrase in phrases if phrase[0].isupper()]
    names = [name for name in capitalised if not any(name != other and name in other for other in capitalised)]
    found = []
    for sentence in sentences:
        held = [name for name in names if name in sentence]
        wrong = [name for name in names if all(name not in own and own not in name for own in held)]
        if held and len(wrong) >= OPTIONS - 1:
            right = rng.choice(held)
            asked = f"{ASKED}{sentence.replace(right, GAP)}"
            found.append(entry(asked, [right, *rng.sample(wrong, OPTIONS - 1)], sentence))
    rng.shuffle(found)
    return found


def entry(asked: str, choices: Sequence[str], evidence: str) -> dict[str, Any]:
    """The right choice is the first."""
    return {"question": asked, "right": choices[0], "wrong": choices[1:], "kind": "stated", "evidence": evidence}


def right_letters(asked: str, options: Sequence[str], facts: Sequence[Fact] | None, sentences: Sequence[str]) -> str:
    """Those of the options that the facts, or a sentence of the text, make right."""
    known = right_answers(asked, facts) if facts is not None else set()
    right = []
    for option in options:
        found = OPTION.fullmatch(option)
        if found and (found[2] in known or asked.removeprefix(ASKED).replace(GAP, found[2]) in sentences):
            right.append(found[1])
    return json.dumps({"right": right})
