"""A writer without a model, which restates or rearranges the document in the prompt.

It parses fictional documents with their grammar. Any other English text is treated extractively: entities are recurring
capitalized words and phrases, and a text about entities consists of the document's sentences about them. This tests the
pipeline; it does not predict results with texts written by an LLM.
"""

import random
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from entigraph.config.fields import check_shares
from entigraph.llm.base import LLM, Completion, Notify, Request

if TYPE_CHECKING:
    from entigraph.fictional.reading import Reading


@dataclass(frozen=True, kw_only=True)
class OfflineWriter:
    """`errors` is the fraction of statements about fictional documents in which a name is replaced with a wrong one."""

    name: str = "offline"
    errors: float = 0.0

    def __post_init__(self) -> None:
        check_shares(self, "llm.", "errors")

    def check(self) -> None:
        pass

    @contextmanager
    def connect(self, response_cache: Path, notify: Notify = print) -> Iterator[LLM]:
        yield self  # its answers cost nothing, so they are not cached

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        for request in requests:
            yield Completion(text=answer_request(request, self.errors), model=self.name)


def answer_request(request: Request, errors: float = 0.0) -> str:
    from entigraph.llm.offline.offline_prompt import OfflinePrompt, parse_details, parse_sections
    from entigraph.llm.offline.offline_tasks import find_task

    sections = parse_sections(request.user)
    if "document" in sections:  # details under their own headings are not part of it
        sections["document"] = sections["document"].removesuffix(request.suffix.strip()).rstrip()
    task_line = sections.get("task", request.system).split("\n", 1)[0].strip().lower()
    prompt = OfflinePrompt(sections, task_line, random.Random(request.hash), parse_details(request.suffix))
    task = find_task(prompt)
    text = task.answer(prompt)
    if not errors or not task.states_facts:
        return text
    return insert_errors(text, prompt.reading, errors, random.Random(f"{request.hash} errors"))


def insert_errors(text: str, reading: "Reading | None", errors: float, rng: random.Random) -> str:
    """Replaces a name in the fraction `errors` of sentences with another name from the same relation."""
    objects: dict[str, list[str]] = {}
    for fact in reading.facts if reading else ():
        objects.setdefault(fact.relation, []).append(fact.object)
    alternatives = {name: names for names in objects.values() for name in names}

    def rewrite(match: re.Match[str]) -> str:
        sentence = match.group()
        names = [name for name in alternatives if name in sentence]
        if rng.random() >= errors or not names:
            return sentence
        name = rng.choice(names)
        others = [other for other in alternatives[name] if other not in sentence]
        return sentence.replace(name, rng.choice(others)) if others else sentence

    return re.sub(r"[^.?!\n]+[.?!]?", rewrite, text)
