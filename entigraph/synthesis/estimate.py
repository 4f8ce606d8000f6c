"""What a synthesis will take, before the first request: requests, tokens and dollars, as a range.

Arithmetic over document lengths and entity counts; no request is made or rendered, so a plan of millions costs nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, comb

from entigraph.records import Document
from entigraph.synthesis.base import Augmenter, prompt
from entigraph.synthesis.entigraph import EntiGraph

CHARACTERS_A_TOKEN = 4.0
# Entities a document, where none are known yet: the paper's Fig. 7(b) spans 0 to 100, most between these.
FEW_ENTITIES, MANY_ENTITIES = 10, 50
ENTITY_ANSWER_TOKENS = 500


@dataclass(frozen=True)
class Estimate:
    """`cached_tokens` are those of the prompts that a server with a prefix cache has read before."""

    requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def estimate(
    augmenter: Augmenter, documents: Iterable[Document], token_budget: int | None, tokens_a_text: int, entities: int
) -> Estimate:
    """Each text is taken to have `tokens_a_text` tokens, each document `entities` entities."""
    lengths = [len(document.text) / CHARACTERS_A_TOKEN for document in documents]
    mean_length = sum(lengths) / max(1, len(lengths))
    wanted = ceil(token_budget / tokens_a_text) if token_budget is not None else None
    available = available_texts(augmenter, len(lengths), entities)
    texts = min(count for count in (wanted, available) if count is not None)
    system = sum(len(prompt(name)) for name in augmenter.prompts) / len(augmenter.prompts) / CHARACTERS_A_TOKEN
    asked = len(lengths) if "entities" in augmenter.prompts else 0
    prompt_tokens = (texts + asked) * (mean_length + system)
    in_a_row = augmenter.requests_in_a_row if isinstance(augmenter, EntiGraph) else 1
    cached = texts * mean_length * (1 - 1 / in_a_row)
    written = texts * tokens_a_text + asked * ENTITY_ANSWER_TOKENS
    return Estimate(texts + asked, round(prompt_tokens), round(cached), written)


def available_texts(augmenter: Augmenter, documents: int, entities: int) -> int | None:
    """How many texts the augmenter can ask for; None where there is no end."""
    if augmenter.endless:
        return None
    if isinstance(augmenter, EntiGraph):
        triples = comb(entities, 3)
        if augmenter.triples_per_document is not None:
            triples = min(triples, augmenter.triples_per_document)
        return documents * (comb(entities, 2) + triples)
    return documents * len(getattr(augmenter, "styles", ("",))) * (getattr(augmenter, "rounds", 1) or 1)
