"""A seeded, uniform sample of the sentences of synthetic corpora."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

from entigraph.analysis.written_corpus import WrittenCorpus
from entigraph.storage.fingerprints import hash_name, sample_by_hash
from entigraph.storage.schemas import SyntheticText
from entigraph.text.writing_systems import CHARACTERS_PER_TOKEN, STATEMENT_END, characters_per_token, count_words

# A sentence ends at .!? before a capital, a digit or a quotation mark, but not after an initial or "Mr."; a line break
# ends one too. Anything with fewer words (headings, list numbers) is not a sentence.
SENTENCE_END = re.compile(
    r"""(?<!\b[A-Z]\.)(?<!\b(?:Mr|Dr|St|Jr)\.)(?<!\bMrs\.)"""
    r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)]))\s+(?=["'“‘(]*[A-Z0-9])"""
)
MIN_WORDS = 3
CONTEXT_CHARACTERS = 600
Candidate = tuple[str, WrittenCorpus, SyntheticText, int, str]  # location, corpus, text, start and sentence


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
    """Yields each sentence with its start. Scripts without capitals have the ends of `text.writing_systems`."""
    sentence_end = SENTENCE_END if characters_per_token(text) == CHARACTERS_PER_TOKEN else STATEMENT_END
    for line in re.finditer(r"[^\n]+", text):
        start = 0
        for end in [*(match.span() for match in sentence_end.finditer(line[0])), (len(line[0]), len(line[0]))]:
            sentence = line[0][start : end[0]]
            if count_words(sentence) >= MIN_WORDS:
                yield line.start() + start, sentence.strip()
            start = end[1]


def sample_sentences(corpora: Sequence[WrittenCorpus], size: int, seed: int) -> tuple[list[SampledSentence], int]:
    """Returns up to `size` sentences of these corpora together, grouped by document, and the number of all sentences.

    Each sentence gets a hash of the seed and its location; the lowest hashes form the sample.
    """
    total = 0

    def candidates() -> Iterator[Candidate]:
        nonlocal total
        for corpus in corpora:
            for text in corpus.texts():
                for number, (start, sentence) in enumerate(split_sentences(text.text)):
                    total += 1
                    yield f"{seed}/{corpus.name}/{text.id}/{number}", corpus, text, start, sentence

    sample = [describe_sentence(*candidate) for candidate in sample_by_hash(candidates(), size, itemgetter(0))]
    return sorted(sample, key=lambda sentence: (sentence.corpus, sentence.document_id)), total


def describe_sentence(
    location: str, corpus: WrittenCorpus, text: SyntheticText, start: int, sentence: str
) -> SampledSentence:
    return SampledSentence(
        id=hash_name(location).hex(),
        corpus=corpus.name,
        document_id=text.document_id,
        augmenter=corpus.augmenter,
        kind=text.kind,
        entities=len(text.about),
        text_id=text.id,
        before=text.text[max(0, start - CONTEXT_CHARACTERS) : start].strip(),
        sentence=sentence,
    )
