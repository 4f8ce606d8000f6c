"""A seeded sample of the sentences of synthetic corpora: every sentence has the same chance, whatever the order."""

import hashlib
import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from entigraph.analysis.examinations import SyntheticCorpus

# A sentence ends at a full stop and its kin before a capital, a digit or a quotation, but not after an initial or
# "Mr."; a line ends one too. What has fewer words (headings, list numbers) is no sentence.
END = re.compile(
    r"""(?<!\b[A-Z]\.)(?<!\b(?:Mr|Dr|St|Jr)\.)(?<!\bMrs\.)"""
    r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)]))\s+(?=["'“‘(]*[A-Z0-9])"""
)
FEWEST_WORDS = 3
CONTEXT_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """`before` is the end of what stands before it in its text: who "he" is. `entities`: so many was it to be about."""

    id: str
    corpus: str
    document_id: str
    augmenter: str
    kind: str
    entities: int
    text_id: str
    before: str
    sentence: str


def split(text: str) -> Iterator[tuple[int, str]]:
    """Each sentence with where it starts."""
    for line in re.finditer(r"[^\n]+", text):
        start = 0
        for end in [*(match.span() for match in END.finditer(line[0])), (len(line[0]), len(line[0]))]:
            piece = line[0][start : end[0]]
            if len(piece.split()) >= FEWEST_WORDS:
                yield line.start() + start, piece.strip()
            start = end[1]


def sampled(corpora: Sequence[SyntheticCorpus], size: int, seed: int) -> tuple[list[Sentence], int]:
    """Up to `size` sentences of these corpora together, those of one document in a row; and of how many.

    Each sentence draws a number from the seed and its own place; the lowest are the sample. So memory holds `size`.
    """
    lowest: list[tuple[int, Sentence]] = []
    seen = 0
    for corpus in corpora:
        for text in corpus.texts():
            for number, (start, sentence) in enumerate(split(text.text)):
                seen += 1
                name = hashlib.blake2b(f"{seed}/{corpus.name}/{text.id}/{number}".encode(), digest_size=8).hexdigest()
                draw = -int(name, 16)
                if len(lowest) == size and draw <= lowest[0][0]:
                    continue
                found = Sentence(
                    id=name,
                    corpus=corpus.name,
                    document_id=text.document_id,
                    augmenter=corpus.augmenter,
                    kind=text.kind,
                    entities=len(text.about),
                    text_id=text.id,
                    before=text.text[max(0, start - CONTEXT_CHARACTERS) : start].strip(),
                    sentence=sentence,
                )
                (heapq.heappush if len(lowest) < size else heapq.heapreplace)(lowest, (draw, found))
    chosen = [sentence for _, sentence in sorted(lowest, key=lambda each: -each[0])]
    return sorted(chosen, key=lambda each: (each.corpus, each.document_id)), seen
