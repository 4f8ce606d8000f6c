"""What a sampled answer says: "Answer: X." with exactly one letter of the options, or nothing; "Answer: X, Y." where
several may be right.
"""

import re
import string

LETTERS = string.ascii_uppercase
# Where a sample may end: behind the first whole line that begins with "Answer:", whatever stands in it.
ANSWER_LINE = r"(?:^|\n)Answer:[^\n]*\n"
LINE = re.compile(r"(?:^|\n)[ \t]*Answer:[ \t]*([^\n]*)")
AUTHORS_END = re.compile(r"Answer: ([A-D]{1,4})\.\n")
SEPARATOR = r"(?:, and |, ?| and )"
SEVERAL = re.compile(rf"[A-Z](?:{SEPARATOR}[A-Z])*\.")
NO_LINE, NOT_ONE_LETTER, NO_OPTION, CUT = "no answer line", "not one letter", "not an option", "cut"
NOT_LETTERS = "not different letters"


def choice_of(text: str, options: int) -> int | str:
    """The option that the first answer line names (paper App. I.1), counted from 0; else why there is none.

    The paper keeps samples that end in "A.", "B.", "C." or "D.". "AB." is no choice, nor is "A" without its full stop.
    """
    found = LINE.search(text)
    if found is None:
        return NO_LINE
    said = found[1].strip()
    if not re.fullmatch(r"[A-Z]\.", said):
        return NOT_ONE_LETTER
    number = LETTERS.index(said[0])
    return number if number < options else NO_OPTION


def choices_of(text: str, options: int) -> list[int] | str:
    """All options that the first answer line names, ascending; else why there are none.

    Letters are parted by commas or "and". "AC." is none, nor is "A, A.", nor a line with one letter of no option.
    """
    found = LINE.search(text)
    if found is None:
        return NO_LINE
    said = found[1].strip()
    if not SEVERAL.fullmatch(said):
        return NOT_LETTERS
    numbers = [LETTERS.index(letter) for letter in re.split(SEPARATOR, said.removesuffix("."))]
    if len(set(numbers)) < len(numbers):
        return NOT_LETTERS
    return sorted(numbers) if max(numbers) < options else NO_OPTION


def authors_choice_of(text: str, options: int) -> int | str:
    """As the published code reads it: generation must have stopped behind "Answer: ", up to four different letters, a
    full stop and a line feed, and the last of those letters counts ("AB." is B).
    """
    found = AUTHORS_END.search(text)
    if found is None or len(set(found[1])) != len(found[1]):
        return NO_LINE
    number = LETTERS.index(found[1][-1])
    return number if number < options else NO_OPTION
