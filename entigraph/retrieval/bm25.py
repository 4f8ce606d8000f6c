"""Lexical retrieval with BM25, which needs no API key, download or model."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from entigraph.retrieval.base import Ranked, RetrievalContext, top_indices
from entigraph.retrieval.rerank import RerankingRetriever
from entigraph.text.writing_systems import ARABIC_ARTICLES, OTHER_CHARACTERS, UNSPACED_CHARACTERS, split_words

NOT_LATIN = re.compile(f"{UNSPACED_CHARACTERS.pattern}|{OTHER_CHARACTERS.pattern}")
ARABIC_ARTICLE = re.compile(rf"^{ARABIC_ARTICLES}(?=\w{{3}})")  # the stemmer keeps it after "and"
# The first and last letter of a script, and the language with the most text in it.
STEMMERS: Mapping[tuple[str, str], str] = {
    ("\u0370", "\u03ff"): "greek",
    ("\u0400", "\u04ff"): "russian",
    ("\u0530", "\u058f"): "armenian",
    ("\u0600", "\u06ff"): "arabic",
    ("\u0900", "\u097f"): "hindi",
    ("\u0b80", "\u0bff"): "tamil",
}


@dataclass(frozen=True, kw_only=True)
class BM25(RerankingRetriever):
    """Lucene's variant of BM25 with English stemming and stop word removal.

    Other alphabets have their own stemmers; scripts without spaces are indexed by characters and pairs of characters.
    `k1` controls the saturation of the term frequency, `b` the length normalization. Texts that share no word with the
    query are not ranked.
    """

    k1: float = 1.5
    b: float = 0.75

    def first_stage(self, texts: Sequence[str], queries: Sequence[str], context: RetrievalContext) -> Iterator[Ranked]:
        with context.progress.bar("indexing"):
            index = TermIndex(texts, self.k1, self.b)
        yield from (index.rank(terms, self.depth) for terms in tokenize(queries))


class TermIndex:
    """The index of `BM25` over the terms of texts."""

    def __init__(self, texts: Sequence[str], k1: float, b: float) -> None:
        import bm25s

        self.index = bm25s.BM25(k1=k1, b=b)
        terms = tokenize(texts)
        self.is_empty = not any(terms)  # the library rejects an empty index
        if not self.is_empty:
            self.index.index(terms, show_progress=False)

    def rank(self, query: Sequence[str], depth: int) -> Ranked:
        """Returns up to `depth` texts that contain a term of the query."""
        known = [] if self.is_empty else [term for term in query if term in self.index.vocab_dict]
        if not known:
            return []
        scores = self.index.get_scores(known)
        return [(index, float(scores[index])) for index in top_indices(scores, depth) if scores[index] > 0]


def tokenize(texts: Sequence[str]) -> list[list[str]]:
    """Returns the terms of each text: stems of its words, and of scripts without spaces characters and their pairs."""
    import bm25s
    import Stemmer

    texts = [text if text.isascii() else unicodedata.normalize("NFKC", text) for text in texts]  # fullwidth forms
    latin = [text if text.isascii() else NOT_LATIN.sub(" ", text) for text in texts]
    terms: list[list[str]] = bm25s.tokenize(
        latin, stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False
    )
    return [
        words if text.isascii() else [*words, *terms_of_other_scripts(text)]
        for words, text in zip(terms, texts, strict=True)
    ]


def terms_of_other_scripts(text: str) -> Iterator[str]:
    """Yields the terms of the parts of a text that are not in the Latin alphabet."""
    for match in NOT_LATIN.finditer(text.casefold()):
        run = match.group()
        if UNSPACED_CHARACTERS.fullmatch(run):
            yield from run
            yield from (run[start : start + 2] for start in range(len(run) - 1))
        else:
            yield from (stem(word) for word in split_words(run))


def stem(word: str) -> str:
    """Returns the stem by the Snowball stemmer of the main language of the word's script; the word if there is none."""
    word = ARABIC_ARTICLE.sub("", word)
    for script, language in STEMMERS.items():
        if script[0] <= word[0] <= script[1]:
            return str(stemmer(language).stemWord(word))
    return word


@cache
def stemmer(language: str) -> Any:
    import Stemmer

    return Stemmer.Stemmer(language)
