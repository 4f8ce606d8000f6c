"""A seeded, uniform sample of the sentences of synthetic corpora."""

import hashlib
import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from entigraph.analysis.written_corpus import WrittenCorpus
from entigraph.storage.schemas import SyntheticText

# A sentence ends at .!? before a capital, a digit or a quotation mark, but not after an initial or "Mr."; a line break
# ends one too. Anything with fewer words (headings, list numbers) is not a sentence.
SENTENCE_END = re.compile(
    r"""(?<!\b[A-Z]\.)(?<!\b(?:Mr|Dr|St|Jr)\.)(?<!\bMrs\.)"""
    r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)]))\s+(?=["'“‘(]*[A-Z0-9])"""
)
MIN_WORDS = 3
CONTEXT_CHARACTERS = 600


@dataclass(frozen=True, kw_only=True)
class SampledSentence:
    """`before` is the end of the preceding text, which resolves pronouns. `entities` counts those the text is about."""

    id: str
    corpus: str
    document_id: str
    augmenter: str
    kind: str
    entities: int
    text_id: str
    before: str
    sentence: str


def split_sentences(text: str) -> Iterator[tuple[int, str]]:
    """Yields each sentence with its start."""
    for line in re.finditer(r"[^\n]+", text):
        start = 0
        for end in [*(match.span() for match in SENTENCE_END.finditer(line[0])), (len(line[0]), len(line[0]))]:
            sentence = line[0][start : end[0]]
            if len(sentence.split()) >= MIN_WORDS:
                yield line.start() + start, sentence.strip()
            start = end[1]


def sample_sentences(corpora: Sequence[WrittenCorpus], size: int, seed: int) -> tuple[list[SampledSentence], int]:
    """Returns up to `size` sentences of these corpora together, grouped by document, and the number of all sentences.

    Each sentence gets a hash of the seed and its place; the lowest hashes form the sample. So only `size` sentences are
    held in memory, and a smaller sample is part of a larger one.
    """
    lowest: list[tuple[int, SampledSentence]] = []
    total = 0
    for corpus in corpora:
        for text in corpus.texts():
            for number, (start, sentence) in enumerate(split_sentences(text.text)):
                total += 1
                name = hashlib.blake2b(f"{seed}/{corpus.name}/{text.id}/{number}".encode(), digest_size=8).hexdigest()
                rank = -int(name, 16)
                if len(lowest) < size:
                    heapq.heappush(lowest, (rank, describe_sentence(name, corpus, text, start, sentence)))
                elif rank > lowest[0][0]:
                    heapq.heapreplace(lowest, (rank, describe_sentence(name, corpus, text, start, sentence)))
    by_rank = [sentence for _, sentence in sorted(lowest, key=lambda entry: -entry[0])]
    return sorted(by_rank, key=lambda sentence: (sentence.corpus, sentence.document_id)), total


def describe_sentence(
    name: str, corpus: WrittenCorpus, text: SyntheticText, start: int, sentence: str
) -> SampledSentence:
    return SampledSentence(
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
