"""Words, names, sentences and lengths of text in any writing system.

Some scripts put no spaces between words (Chinese, Japanese, Thai, ...); there, a character counts as a word. Text in
the Latin alphabet is handled by the plain rules: words are runs of word characters, a name matches as a whole word, and
four characters are a token.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache

# Thai to Khmer; CJK radicals, ideographs and kana; halfwidth kana; supplementary kana and ideographs.
UNSPACED = (
    "\u0e00-\u0eff\u0f40-\u0fbc\u1000-\u1049\u1050-\u109f\u1780-\u17d3"
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff"
    "\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# Combining marks of scripts with spaces, which \w does not match: accents, vowel points, and the Indic blocks.
MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06dc\u06df-\u06e8\u06ea-\u06ed\u0730-\u074a\u07a6-\u07b0\u0900-\u0963\u0966-\u0dff"
)
HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
OTHER_ALPHABETS = "\u0370-\u1dff\u1f00-\u1fff\u2c00-\u2dff\ua640-\ua69f\ua8e0-\ua8ff\ufb1d-\ufdff\ufe70-\ufefe"

UNSPACED_CHARACTERS = re.compile(f"[{UNSPACED}{HANGUL}]+")
OTHER_CHARACTERS = re.compile(f"(?:(?![{UNSPACED}{HANGUL}])[{OTHER_ALPHABETS}])+")
WORD = re.compile(rf"[{UNSPACED}]|(?:[^\W{UNSPACED}]|[{MARKS}])+")
# The ends of sentences: after ". ", and after marks that need no space behind them, with their closing quotes.
SENTENCE_END = r"(?<=[.!?؟۔।॥።]\s)|(?<=[。！？｡။།។])(?![。！？｡」』”’）])|(?<=[。！？｡][」』”’）])"
SENTENCE_START = (
    r"(?<=[.!?؟۔।॥።])\s|(?<=[。！？｡])(?![。！？｡」』”’）])|(?<=[。！？｡][」』”’）])"  # and the space before it
)
CLAUSE_END = r"(?<=[，、；：､၊])"
STATEMENT_END = re.compile(rf"{SENTENCE_END}|(?<=\n)")

CHARACTERS_PER_TOKEN = 4.0  # English; for estimates and limits without the writer's tokenizer
# For multilingual tokenizers with 100,000 to 260,000 tokens, rounded down so that prompts are not underestimated.
UNSPACED_CHARACTERS_PER_TOKEN, OTHER_CHARACTERS_PER_TOKEN = 1.25, 2.5
MIN_OTHER_SHARE = 0.05  # share of other scripts above which a text's characters per token are adjusted

# Letters that are written onto the front of a word: "and", "in", "to", "like" and the article.
ARABIC_PREFIXES, ARABIC_ARTICLES, HEBREW_PREFIXES = "[وف]?(?:[بكل]?(?:ال)?|لل)", "[وف]?(?:[بك]?ال|لل)", "[ובהכלמש]{0,3}"
ARABIC, HEBREW = re.compile("[\u0621-\u064a]"), re.compile("[\u05d0-\u05ea]")
VOWEL_POINTS = "[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u065f\u0670]*"
SPELLINGS: Mapping[str, str] = {
    **{letter: f"[{group}]" for group in ("اأإآٱ", "يى", "هة", "'’ʼ׳", "-‐‑–־", '"״') for letter in group},
    " ": r"\s+",  # a name may continue on the next line
}
PLAIN_SPELLING = str.maketrans("’ʼ׳‐‑–־״", "'''----\"")
MIN_LETTERS_WITH_PREFIX = 3  # shorter names with a prefix would match other words


def split_words(text: str) -> list[str]:
    """Returns the words of a text; each character of a script without spaces is one."""
    return WORD.findall(text)


def split_statements(text: str) -> list[str]:
    """Returns the sentences and lines of a text, without the whitespace around them."""
    return [statement.strip() for statement in STATEMENT_END.split(text) if statement.strip()]


def count_words(text: str) -> int:
    """Returns the number of words as written with spaces, where two characters of other scripts count as one word."""
    return len(text.split()) if text.isascii() else max(len(text.split()), len(split_words(text)) // 2)


@cache
def name_pattern(name: str) -> re.Pattern[str]:
    """Returns a pattern that finds a name as whole words, ignoring case and forms of apostrophes, hyphens, spaces.

    Beside a character of a script without spaces, a word may begin or end anywhere. Korean particles may follow a name,
    Arabic and Hebrew prefixes may precede it, and their vowel points are optional.
    """
    start, end = rf"(?<![^\W{UNSPACED}])(?<![{MARKS}])", rf"(?![^\W{UNSPACED}{HANGUL}])(?![{MARKS}])"
    stem, between = name, ""
    if ARABIC.search(name) or HEBREW.search(name):
        prefixes, stem = semitic_prefixes(name)
        start, between = start + prefixes, VOWEL_POINTS
    letters = "".join(SPELLINGS.get(letter, re.escape(letter)) + between for letter in stem)
    if re.match(f"[{UNSPACED}]", name):
        start = ""
    if re.search(f"[{UNSPACED}{HANGUL}]$", name):
        end = ""
    return re.compile(f"{start}{letters}{end}", re.IGNORECASE)


def find_names_in(names: Iterable[str], text: str) -> list[str]:
    """Returns the names that the text contains as whole words, ignoring case."""
    plain = " ".join(text.translate(PLAIN_SPELLING).lower().split())
    possible = (name for name in names if not name.isascii() or name.lower() in plain)
    return [name for name in possible if name_pattern(name).search(text)]


def semitic_prefixes(name: str) -> tuple[str, str]:
    """Returns a pattern of what may be written onto the front of an Arabic or Hebrew name, and the rest of the name."""
    if len(name) < MIN_LETTERS_WITH_PREFIX:
        return "", name
    if name.startswith("ال"):
        return ARABIC_ARTICLES, name[2:]
    return ARABIC_PREFIXES if ARABIC.match(name) else HEBREW_PREFIXES if HEBREW.match(name) else "", name


def estimate_tokens(text: str) -> float:
    """Returns about how many tokens a text has for a writer, whose tokenizer is not available."""
    return len(text) / characters_per_token(text)


def characters_per_token(text: str) -> float:
    """Returns 4 for text in the Latin alphabet, and less as far as it has other characters."""
    not_ascii = len(text) - len(text.encode("ascii", "ignore"))  # counted much faster than the scripts below
    if not_ascii < MIN_OTHER_SHARE * len(text) or not text:
        return CHARACTERS_PER_TOKEN
    unspaced = sum(map(len, UNSPACED_CHARACTERS.findall(text)))
    other = sum(map(len, OTHER_CHARACTERS.findall(text)))
    if unspaced + other < MIN_OTHER_SHARE * len(text):
        return CHARACTERS_PER_TOKEN
    tokens = (len(text) - unspaced - other) / CHARACTERS_PER_TOKEN
    tokens += unspaced / UNSPACED_CHARACTERS_PER_TOKEN + other / OTHER_CHARACTERS_PER_TOKEN
    return len(text) / tokens
