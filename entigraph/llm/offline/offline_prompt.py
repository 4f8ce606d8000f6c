"""The view of a request that offline handlers receive: parsed prompt sections and features of the document."""

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from entigraph.fictional.reading import Reading, comprehend

MAX_PHRASES = 24
NOT_NAMES = frozenset(
    re.findall(
        r"\w+",
        "The A An And But Or If In On At By For From To Of As It He She They We I You His Her Its Their My Your "
        "This That These Those There Here When While Where What Who Why How Then Now No Not Yes So Oh Well All "
        "Some One Two After Before",
    )
)


@dataclass(frozen=True)
class OfflinePrompt:
    """A parsed prompt.

    Attributes:
        sections: The text under each "### Heading" of the prompt, by lower-case heading.
        task: The first line of the Task section (of the system prompt if there is none), in lower case.
        rng: Seeded with the request's hash, so that the answer is a function of the request.
        details: The text under each "### Heading" of the request's suffix, by lower-case heading.
    """

    sections: Mapping[str, str]
    task: str
    rng: random.Random
    details: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def document(self) -> str:
        """The document without its first line, which contains title, author and year."""
        return self.sections["document"].split("\n", 1)[-1].strip()

    @property
    def sentences(self) -> tuple[str, ...]:
        return split_sentences(self.document)

    @property
    def phrases(self) -> tuple[str, ...]:
        return key_phrases(self.document)

    @cached_property
    def reading(self) -> Reading | None:
        """The facts stated by a fictional document; None for any other text."""
        return comprehend(self.document)


def parse_sections(prompt: str) -> dict[str, str]:
    pieces = re.split(r"^### (Document|Task|Entities|Question)\n", prompt, flags=re.MULTILINE)
    return {heading.lower(): text.strip() for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)}


def parse_details(suffix: str) -> dict[str, str]:
    pieces = re.split(r"^### (.+)\n", suffix, flags=re.MULTILINE)
    return {heading.lower(): text.strip() for heading, text in zip(pieces[1::2], pieces[2::2], strict=True)}


@lru_cache(maxsize=64)
def split_sentences(text: str) -> tuple[str, ...]:
    unwrapped = re.sub(r"\s+", " ", text).strip()
    return tuple(piece for piece in re.split(r"(?<=[.!?][\"'”’)]|.[.!?])\s+(?=[\"'“‘(A-Z0-9])", unwrapped) if piece)


@lru_cache(maxsize=64)
def key_phrases(text: str) -> tuple[str, ...]:
    """Returns recurring capitalized words and phrases, then frequent long words, by decreasing frequency."""
    capitalized = re.findall(r"\b[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2}", text)
    names = Counter(
        filter(None, (" ".join(word for word in phrase.split() if word not in NOT_NAMES) for phrase in capitalized))
    )
    words = Counter(re.findall(r"\b[a-z]{7,}\b", text))
    recurring = [name for name, count in names.most_common() if count > 1]
    recurring += [word for word, count in words.most_common() if count > 2]
    ranked = [*recurring, *(name for name, _ in names.most_common()), *(word for word, _ in words.most_common())]
    return tuple(dict.fromkeys(ranked))[:MAX_PHRASES]
