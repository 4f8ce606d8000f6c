"""Tells whether a text is written in a language other than English."""

import re
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from entigraph.text.writing_systems import HANGUL, OTHER_ALPHABETS, UNSPACED

SAMPLE_CHARACTERS = 2_000  # each from the beginning, the middle and the end of a long text
ENGLISH_SHARE = 0.15  # share of English function words from which a text counts as English at once
MIN_OTHER_LETTERS = 0.5  # share of letters outside the Latin alphabet
MIN_FUNCTION_WORDS = 0.08  # share of a language's function words; its texts have 0.2 or more
MIN_DIFFERENT_WORDS = 4
LATIN_LETTER = re.compile("[A-Za-z\u00c0-\u024f\u1e00-\u1eff]")
OTHER_LETTER = re.compile(f"[{UNSPACED}{HANGUL}{OTHER_ALPHABETS}]")
LATIN_WORD = re.compile("[a-z\u00c0-\u024f\u1e00-\u1eff]+")

ENGLISH = frozenset(
    re.findall(
        r"\w+",
        "the of and to a in is was that for it with as his he on be at by i this had not are but from or have an they "
        "which her she you were their been has there when who will more no if out so what into up said",
    )
)
# Frequent words of other languages in the Latin alphabet, without those that are also frequent in English.
OTHERS: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "Afrikaans": "die van en het nie wat om te dit met vir sy hy ek is aan ook deur maar",
        "Catalan": "el la els les de que en un una per amb no es del al i va seva com més",
        "Croatian": "je i u na se da su za koji od s a što kao ali bio iz nije će kako",
        "Czech": "a se na je v že to s z do o ale jako za by jsem byl tak si od",
        "Danish": "og i at det en den til er som på de med han af for ikke der var jeg",
        "Dutch": "de het een van en dat op te zijn met voor niet aan die er maar om ook als bij",
        "Finnish": "ja on ei että oli se hän joka mutta kun niin kuin myös sen ovat jos mukaan",
        "French": "le la les de des et un une est que qui dans en pour pas sur au avec ce il du par plus",
        "German": "der die und das den von zu mit sich des auf für ist nicht ein eine als auch es dem er sie war",
        "Hungarian": "a az és hogy nem egy is volt ez meg de csak már mint azt el még mert",
        "Indonesian": "yang dan di dengan untuk dari ini itu pada dalam tidak adalah akan oleh ke juga",
        "Italian": "il la di che e un una per non con del della sono le dei i gli da si al nel era più",
        "Norwegian": "og i det er på som en til at av med han de for ikke den var et jeg",
        "Polish": "i w na się z nie że do to jest o jak ale po za od tak przez był",
        "Portuguese": "o a os as de que e do da em um uma para não com por mais como dos das no na foi",
        "Romanian": "și de la în a cu pe nu că o care din un se este mai pentru sau să",
        "Spanish": "el la los las de que y en un una por con para no se del al su lo es era como más",
        "Swedish": "och att det i en som är på av för med den till inte han de var ett om jag",
        "Tagalog": "ang ng sa na mga ay at si ni ito hindi para kung may niya",
        "Turkish": "ve bir bu da de için ile o çok olarak gibi daha ama kadar olan ne değil",
        "Vietnamese": "và của là có không được cho một trong những các người với đã này khi",
    }.items()
}


OWN_LANGUAGE = (
    "The document is not in English. Write in the language of the document, headings and summaries included, and where "
    "the instructions above say English, its language is meant. Keep the names of JSON fields as they are given."
)


def in_own_language(instruction: str, document: str) -> str:
    """Returns the instruction of a prompt, extended if the document is not in English; unchanged for English ones."""
    return f"{instruction}\n\n{OWN_LANGUAGE}" if is_foreign(document) else instruction


@lru_cache(maxsize=16_384)
def is_foreign(text: str) -> bool:
    """Returns whether a text is clearly not in English. Short or mixed texts, numbers and code are not foreign."""
    sample = sample_text(text)
    other = 0 if sample.isascii() else len(OTHER_LETTER.findall(sample))
    if other and other >= MIN_OTHER_LETTERS * (other + len(LATIN_LETTER.findall(sample))):
        return True
    words = Counter(LATIN_WORD.findall(sample.lower()))
    english, total = sum(words[word] for word in ENGLISH), words.total()
    if english >= ENGLISH_SHARE * total:
        return False
    most = max(count_frequent_words(words, known) for known in OTHERS.values())
    return most >= MIN_FUNCTION_WORDS * total and most > 2 * english


def sample_text(text: str) -> str:
    if len(text) <= 3 * SAMPLE_CHARACTERS:
        return text
    middle = len(text) // 2
    return " ".join((text[:SAMPLE_CHARACTERS], text[middle : middle + SAMPLE_CHARACTERS], text[-SAMPLE_CHARACTERS:]))


def count_frequent_words(words: Counter[str], known: frozenset[str]) -> int:
    """Returns how many words are frequent words of a language and not of English; 0 if only a few different ones are.

    A list of names such as "La Rochelle, Le Mans" has no more.
    """
    counts = [words[word] for word in known - ENGLISH if word in words]
    return sum(counts) if len(counts) >= MIN_DIFFERENT_WORDS else 0
