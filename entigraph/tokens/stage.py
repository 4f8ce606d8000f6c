"""Stage 3: texts → shard-*.bin, shards.jsonl, document-ends.npy; a budget is a prefix of one seeded order of texts."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from entigraph.errors import ConfigError
from entigraph.progress import Progress
from entigraph.shards import ShardWriter
from entigraph.texts import read_texts
from entigraph.tokens.tokenizer import Tokenizer

TEXTS_AT_ONCE = 512


def run(
    synthesis: Path,
    tokenizer_folder: Path,
    out: Path,
    *,
    budget: int | None,
    repeat: bool,
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """The longest prefix of whole texts within `budget` tokens (null: all of them), drawn without replacement.

    `repeat`: when all texts are drawn and the budget is not reached, they are drawn again (raw documents have nothing
    more to give). Raises ConfigError for a budget beyond the texts otherwise, or below the first text.
    """
    tokenizer = Tokenizer(tokenizer_folder)
    texts = [text.text for text in read_texts(synthesis)]
    with ShardWriter(out) as shards, progress.bar("tokens", budget, "tokens") as advance:
        for ids in encoded(texts, tokenizer, seed, repeat and budget is not None):
            if budget is not None and shards.tokens + len(ids) > budget:
                break
            shards.add(ids)
            advance(len(ids))
        else:
            refuse_if_short(budget, shards.tokens, synthesis)
    if not shards.documents:
        raise ConfigError(f"tokens.budget: {budget:,} tokens do not hold even the first text; raise it")
    return {
        "synthetic_tokens": shards.tokens,
        "texts": shards.documents,
        "passes": round(shards.documents / len(texts), 3),
        "vocabulary": tokenizer.vocabulary,
    }


def encoded(texts: list[str], tokenizer: Tokenizer, seed: int, repeat: bool) -> Iterator[list[int]]:
    draw = 0
    while draw == 0 or repeat:
        order = random.Random(f"draw/{seed}/{draw}").sample(range(len(texts)), len(texts))
        stream = iter(order)
        while some := list(islice(stream, TEXTS_AT_ONCE)):
            yield from tokenizer.separated([texts[index] for index in some])
        draw += 1


def refuse_if_short(budget: int | None, tokens: int, synthesis: Path) -> None:
    if budget is not None and tokens < budget:
        raise ConfigError(
            f"tokens.budget: {budget:,} tokens asked for; {synthesis} holds {tokens:,}. "
            "Lower tokens.budget, or have more written (synthesis.token_budget, or more documents)"
        )
