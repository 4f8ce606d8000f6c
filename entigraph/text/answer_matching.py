"""Exact match and F1 of short answers, as in SQuAD (Rajpurkar et al. 2016), for text in any script.

For ASCII text the results equal those of SQuAD's official script, except that an answer of articles and punctuation
only, such as "A" or "$", is compared as it is instead of as an empty text.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from entigraph.text.normalization import fold_whitespace
from entigraph.text.writing_systems import UNSPACED, name_pattern, split_words

ARTICLE = re.compile(r"\b(a|an|the)\b")
FIRST_ARTICLE = re.compile(r"^(?:a|an|the) (?=.)")
WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")  # a character of a script without spaces is a word
REMOVED_CATEGORIES = ("P", "S")  # punctuation and symbols; SQuAD's script removes those of ASCII


def normalize_answer(text: str) -> str:
    """Returns an answer in lower case without punctuation, articles and superfluous whitespace, in Unicode NFKC."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    letters = "".join(character for character in folded if unicodedata.category(character)[0] not in REMOVED_CATEGORIES)
    return fold_whitespace(ARTICLE.sub(" ", letters)) or fold_whitespace(folded)


def exact_match(answer: str, accepted: Sequence[str]) -> bool:
    """Returns whether an answer equals one of the accepted answers after normalization."""
    return bool(answer.strip()) and normalize_answer(answer) in map(normalize_answer, accepted)


def best_f1(answer: str, accepted: Sequence[str]) -> float:
    """Returns the highest F1 of the words of an answer and of an accepted answer, from 0 to 1."""
    return max((word_f1(answer, reference) for reference in accepted), default=0.0)


def word_f1(answer: str, reference: str) -> float:
    """Returns the harmonic mean of the share of the answer's words that are in the reference, and the reverse."""
    first, second = (Counter(WORD.findall(normalize_answer(text))) for text in (answer, reference))
    common = (first & second).total()
    return 2 * common / (first.total() + second.total()) if common else 0.0


def contains_answer(text: str, answer: str) -> bool:
    """Returns whether a text contains the words of an answer, ignoring case, punctuation and a first article."""
    if f" {FIRST_ARTICLE.sub('', fold_words(answer))} " in f" {fold_words(text)} ":
        return True
    return not answer.isascii() and name_pattern(answer).search(fold_whitespace(text)) is not None


@lru_cache(maxsize=64)
def fold_words(text: str) -> str:
    return " ".join(split_words(unicodedata.normalize("NFKC", text).casefold()))
