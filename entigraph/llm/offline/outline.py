"""What the offline writer can state about a document, for handlers that arrange it in different forms.

About fictional documents it states the facts that it parsed, each time in other words. From other texts it takes
sentences.
"""

from collections.abc import Sequence
from itertools import combinations

from entigraph.fictional.fact_checking import Truth, check_truth, statement_patterns
from entigraph.fictional.grammar import capitalize, definite
from entigraph.fictional.writing import build_links, find_paths, render_phrase, render_two_steps, state_fact
from entigraph.llm.offline.offline_prompt import OfflinePrompt, key_phrases

MAX_CONNECTIONS = 12
Pair = tuple[str, str]


def topics(prompt: OfflinePrompt) -> list[tuple[str, list[str]]]:
    """Returns each entity of the document with sentences about it; the title, if none has one."""
    if prompt.reading:
        facts, names = prompt.reading.facts, prompt.reading.entities
        stated = {name: [fact for fact in facts if name in (fact.subject, fact.object)] for name in names}
        return [
            (definite(name), [capitalize(state_fact(fact, name, prompt.rng)) for fact in about])
            for name, about in stated.items()
        ]
    mentions = [(name, [sentence for sentence in prompt.sentences if name in sentence]) for name in prompt.phrases]
    return [(name, sentences) for name, sentences in mentions if sentences] or [("This text", list(prompt.sentences))]


def connections(prompt: OfflinePrompt) -> list[tuple[Pair, str]]:
    """Returns some pairs of entities, each with a sentence that connects them.

    In a fictional document the sentence follows from two facts; in any other text it mentions both entities, or is
    about the first one if none does.
    """
    if prompt.reading:
        links = build_links(prompt.reading.facts)
        paths = [
            (one, other, path)
            for one, other in combinations(prompt.reading.entities, 2)
            for path in find_paths(links, one, other)
        ]
        chosen = prompt.rng.sample(paths, min(MAX_CONNECTIONS, len(paths)))
        return [
            ((definite(one), definite(other)), capitalize(render_two_steps(one, other, path, prompt.rng)))
            for one, other, path in chosen
        ]
    known = topics(prompt)
    shared = [
        ((name, other), prompt.rng.choice(both))
        for (name, sentences), (other, _) in combinations(known, 2)
        if (both := [sentence for sentence in sentences if other in sentence])
    ]
    shared = shared or [((name, name), prompt.rng.choice(sentences)) for name, sentences in known]
    return prompt.rng.sample(shared, min(MAX_CONNECTIONS, len(shared)))


def question_about(pair: Sequence[str]) -> str:
    return f"How does {pair[0]} bear on {pair[1]}?"


def ask_about_statement(statement: str) -> list[tuple[str, str]]:
    """Returns questions with answers about a statement of the grammar, or about any other sentence."""
    for pattern, relation in statement_patterns():
        if match := pattern.fullmatch(statement):
            ends = ((match["s"], match["o"], True), (match["o"], match["s"], False))
            return [
                (f"What or who is {render_phrase((relation, onward), known)}?", f"{definite(wanted)}.")
                for known, wanted, onward in ends
            ]
    return [(f"What is said of {next(iter(key_phrases(statement)), 'this')}?", statement)]


def is_supported(sentence: str, prompt: OfflinePrompt, before: str = "") -> bool:
    """Returns whether the document states what a sentence does: by the grammar, or else in the same words."""
    if prompt.reading:
        return check_truth(sentence, before, prompt.reading) in (Truth.true, Truth.states_nothing)
    return sentence.endswith("?") or sentence.removeprefix("Answer: ") in prompt.sentences
