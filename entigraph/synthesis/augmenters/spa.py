"""SPA (arXiv 2603.22213): seven fixed prompts about each document, sampled repeatedly."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from entigraph.llm.offline.offline_prompt import OfflinePrompt
from entigraph.llm.offline.offline_tasks import offline_task
from entigraph.llm.offline.outline import connections, question_about, topics
from entigraph.synthesis.augmenters.rounds import KindsAugmenter

KINDS = (
    "spa_concepts",
    "spa_mind_map",
    "spa_implications",
    "spa_questions",
    "spa_case_study",
    "spa_discussion",
    "spa_lesson",
)


@dataclass(frozen=True, kw_only=True)
class SPA(KindsAugmenter):
    """Writes a text of each of the `kinds` about each document in each of `rounds` rounds; null: up to the budget.

    From the paper and its repository: the seven kinds, one request per text with the document alone, k samples of each
    at temperature 1.0 (top-p 1.0, the default of most endpoints, in its QuALITY script; 0.95 in its SQuAD script).
    There, a run is defined by k samples per document and prompt, and the authors train two epochs, with the title of
    the document before each text. Ours: the text without the title, the wording of the prompts, the demand to state
    only what the document supports, and the order in rounds, so that any token budget covers all documents and kinds
    evenly.
    """

    name: str = "spa"
    kinds: list[str] = field(default_factory=lambda: list(KINDS))
    known_kinds: ClassVar[Sequence[str]] = KINDS


# How the offline writer answers: it arranges what it can state about a document in the form that a prompt asks for.


@offline_task("explain the key concepts", states_facts=True)
def explain_concepts(prompt: OfflinePrompt) -> str:
    return "\n\n".join(f"{topic}\n{' '.join(sentences)}" for topic, sentences in topics(prompt))


@offline_task("draw the document as a mind map", states_facts=True)
def draw_mind_map(prompt: OfflinePrompt) -> str:
    branches = topics(prompt)
    return "\n".join("\n  - ".join([f"- {topic}", *sentences]) for topic, sentences in branches)


@offline_task("work out what follows", states_facts=True)
def work_out_implications(prompt: OfflinePrompt) -> str:
    return "\n".join(sentence for _, sentence in connections(prompt))


@offline_task("ask and answer questions that need reasoning", states_facts=True)
def ask_for_reasons(prompt: OfflinePrompt) -> str:
    return "\n\n".join(f"{question_about(pair)}\n{sentence}" for pair, sentence in connections(prompt))


@offline_task("turn the document into a case study", states_facts=True)
def write_case_study(prompt: OfflinePrompt) -> str:
    topic, sentences = prompt.rng.choice(topics(prompt))
    return "\n".join([topic, *sentences, *(sentence for pair, sentence in connections(prompt) if topic in pair)])


@offline_task("let two readers discuss the document", states_facts=True)
def discuss(prompt: OfflinePrompt) -> str:
    turns = [(question_about(pair), sentence) for pair, sentence in connections(prompt)]
    turns += [(f"A note on {topic}.", prompt.rng.choice(sentences)) for topic, sentences in topics(prompt)]
    prompt.rng.shuffle(turns)
    return "\n\n".join("\n".join(turn) for turn in turns)


@offline_task("teach the document step by step", states_facts=True)
def teach(prompt: OfflinePrompt) -> str:
    steps = [f"Consider {topic}. {' '.join(sentences)}" for topic, sentences in topics(prompt)]
    return "\n\n".join([*steps, " ".join(sentence for _, sentence in connections(prompt))])
