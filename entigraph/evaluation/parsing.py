"""Parses sampled answers: "Answer: X." with one letter, or "Answer: X, Y." if several choices may be correct."""

import re
import string

LETTERS = string.ascii_uppercase
# Generation may end after the first complete line that starts with "Answer:", whatever follows on it.
ANSWER_LINE = r"(?:^|\n)Answer:[^\n]*\n"
LINE = re.compile(r"(?:^|\n)[ \t]*Answer:[ \t]*([^\n]*)")
AUTHORS_LINE = re.compile(r"Answer: ([A-D]{1,4})\.\n")
SEPARATOR = r"(?:, and |, ?| and )"
SEVERAL_LETTERS = re.compile(rf"[A-Z](?:{SEPARATOR}[A-Z])*\.")
NO_LINE, NOT_ONE_LETTER, OUT_OF_RANGE, TRUNCATED = "no answer line", "not one letter", "not an option", "truncated"
NOT_LETTERS = "not different letters"


def parse_choice(text: str, num_choices: int) -> int | str:
    """Returns the index of the choice in the first answer line (paper App. I.1), or the reason why it cannot be parsed.

    The paper keeps samples that end in "A.", "B.", "C." or "D."; "AB." and "A" without a period are invalid.
    """
    line = LINE.search(text)
    if line is None:
        return NO_LINE
    value = line[1].strip()
    if not re.fullmatch(r"[A-Z]\.", value):
        return NOT_ONE_LETTER
    index = LETTERS.index(value[0])
    return index if index < num_choices else OUT_OF_RANGE


def parse_choices(text: str, num_choices: int) -> list[int] | str:
    """Returns the sorted indices of all choices in the first answer line, or the reason why they cannot be parsed.

    Letters are separated by commas or "and". "AC.", "A, A." and letters out of range are invalid.
    """
    line = LINE.search(text)
    if line is None:
        return NO_LINE
    value = line[1].strip()
    if not SEVERAL_LETTERS.fullmatch(value):
        return NOT_LETTERS
    indices = [LETTERS.index(letter) for letter in re.split(SEPARATOR, value.removesuffix("."))]
    if len(set(indices)) < len(indices):
        return NOT_LETTERS
    return sorted(indices) if max(indices) < num_choices else OUT_OF_RANGE


def parse_choice_as_authors(text: str, num_choices: int) -> int | str:
    """Returns the choice as the published code parses it: "Answer: ", one to four different letters, a period and a
    newline. The last letter is the choice ("AB." is B).
    """
    line = AUTHORS_LINE.search(text)
    if line is None or len(set(line[1])) != len(line[1]):
        return NO_LINE
    index = LETTERS.index(line[1][-1])
    return index if index < num_choices else OUT_OF_RANGE
