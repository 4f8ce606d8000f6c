"""A writer without a model. It sees only the prompt, and rearranges what the prompt's document says.

Fictional documents it understands (their grammar is ours); any other English text it treats extractively: entities
are recurring capitalised words and phrases, and a text about some of them is the document's own sentences about
them, rearranged. That is enough to prove the plumbing and says nothing about what an LLM's texts would teach.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from entigraph.errors import ConfigError, LLMError
from entigraph.fictional.reading import Reading, comprehend
from entigraph.fictional.world import Relation
from entigraph.fictional.writing import ask_and_answer, relate, restate
from entigraph.llm.base import LLM, Completion, Request, Say
from entigraph.llm.offline.judging import claims_in, reference, verdict_on, verdicts_on
from entigraph.llm.offline.question_writing import about_facts, gaps, right_letters

MOST_ENTITIES = 24
SUMMARY_SENTENCES = 3
# Which of the four wordings of a fact a style draws from: with these, the three together use all of them.
WORDINGS: Mapping[str, Sequence[int]] = {"easy": (0, 1), "medium": (0, 1, 2, 3), "hard": (2, 3)}
NOT_NAMES = frozenset(
    [
        "The",
        "A",
        "An",
        "And",
        "But",
        "Or",
        "If",
        "In",
        "On",
        "At",
        "By",
        "For",
        "From",
        "To",
        "Of",
        "As",
        "It",
        "He",
        "She",
        "They",
        "We",
        "I",
        "You",
        "His",
        "Her",
        "Its",
        "Their",
        "My",
        "Your",
        "This",
        "That",
        "These",
        "Those",
        "There",
        "Here",
        "When",
        "While",
        "Where",
        "What",
        "Who",
        "Why",
        "How",
        "Then",
        "Now",
        "No",
        "Not",
        "Yes",
        "So",
        "Oh",
        "Well",
        "All",
        "Some",
        "One",
        "Two",
        "After",
        "Before",
    ]
)


@dataclass(frozen=True, kw_only=True)
class OfflineWriter:
    """`errors`: the share of its statements about fictional documents that name something else of the same kind."""

    name: str = "offline"
    errors: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.errors <= 1:
            raise ConfigError(f"llm.errors: {self.errors} found, a share from 0 to 1 expected")

    def check(self) -> None:
        pass

    @contextmanager
    def connect(self, response_cache: Path, say: Say = print) -> Iterator[LLM]:
        yield self  # its answers cost nothing: nothing to keep

    def complete(self, requests: Iterable[Request]) -> Generator[Completion, None, None]:
        for request in requests:
            yield Completion(text=write(request, self.errors), model=self.name)


def write(request: Request, errors: float = 0.0) -> str:
    parts = sections(request.user)
    task = parts.get("task", request.system).split("\n", 1)[0].strip().lower()
    handler = next((handler for start, handler in HANDLERS.items() if task.startswith(start)), None)
    if handler is None or ("document" not in parts and handler not in WITHOUT_DOCUMENT):
        raise LLMError(
            f"the offline writer does not know the task {task!r}; "
            f"it knows {', '.join(HANDLERS)}, each over a '### Document' section"
        )
    text = handler(task, parts, random.Random(request.hash))
    if not errors or handler in WITHOUT_ERRORS:
        return text
    return mistaken(text, comprehend(body(parts)), errors, random.Random(f"{request.hash} errors"))


def mistaken(text: str, reading: Reading | None, share: float, rng: random.Random) -> str:
    """A share of the sentences, each with one name replaced by another that stands in the same relation elsewhere."""
    objects: dict[Relation, list[str]] = {}
    for fact in reading.facts if reading else ():
        objects.setdefault(fact.relation, []).append(fact.object)
    alike = {name: names for names in objects.values() for name in names}

    def said(sentence: re.Match[str]) -> str:
        found = sentence.group()
        named = [name for name in alike if name in found]
        if rng.random() >= share or not named:
            return found
        name = rng.choice(named)
        others = [other for other in alike[name] if other not in found]
        return found.replace(name, rng.choice(others)) if others else found

    return re.sub(r"[^.?!\n]+[.?!]?", said, text)


def sections(prompt: str) -> dict[str, str]:
    """The text below each '### Heading' of a prompt."""
    pieces = re.split(r"^### (Document|Task|Entities|Question)\n", prompt, flags=re.MULTILINE)
    return {heading.lower(): body.strip() for heading, body in zip(pieces[1::2], pieces[2::2], strict=True)}


def body(parts: Mapping[str, str]) -> str:
    """The document without its first line, which names title, author and year."""
    return parts["document"].split("\n", 1)[-1].strip()


def list_entities(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    text = body(parts)
    reading = comprehend(text)
    entities = reading.entities if reading else key_phrases(text)
    summary = " ".join(sentences(text)[:SUMMARY_SENTENCES])
    return json.dumps({"summary": summary, "entities": entities}, ensure_ascii=False)


def relate_entities(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    entities = [line.removeprefix("- ").strip() for line in parts.get("entities", "").splitlines() if line.strip()]
    text = body(parts)
    reading = comprehend(text)
    return relate(reading.facts, entities, rng) if reading else extract(text, entities, rng)


def relate_groups(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    """Several groups of entities, each its own text below a heading with its number."""
    pieces = re.split(r"^=== (\d+)\n", parts.get("entities", ""), flags=re.MULTILINE)
    return "\n".join(
        f"=== {number}\n{relate_entities(task, {**parts, 'entities': listed}, rng)}"
        for number, listed in zip(pieces[1::2], pieces[2::2], strict=True)
    )


def question(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    text = body(parts)
    reading = comprehend(text)
    if reading:
        return ask_and_answer(reading, rng)
    mentioned = [(name, [s for s in sentences(text) if name in s]) for name in key_phrases(text)]
    return "\n\n".join(
        f"Question: What is said of {name}?\nAnswer: {rng.choice(said)}" for name, said in mentioned if said
    )


def rewrite(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    text = body(parts)
    reading = comprehend(text)
    if reading:
        return restate(reading, rng, WORDINGS[task.split()[-1]])
    # Without understanding, a paraphrase is the text with a sentence left out here and there: no new words.
    kept = [sentence for sentence in sentences(text) if rng.random() < 0.9]
    return " ".join(kept or sentences(text))


def quiz(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    text = body(parts)
    count = int(task.rsplit(":", 1)[-1])
    reading = comprehend(text)
    items = about_facts(reading.facts, rng) if reading else gaps(sentences(text), key_phrases(text), rng)
    return json.dumps({"questions": items[:count]}, ensure_ascii=False)


def check(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    """It answers from the document: a question about facts by the facts, a gap by the document's own sentence."""
    text = body(parts)
    asked, *options = parts["question"].splitlines()
    reading = comprehend(text)
    return right_letters(asked, options, reading.facts if reading else None, sentences(text))


def recall(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    return json.dumps({"right": []})  # it remembers nothing


def judge(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    before, _, sentence = parts["task"].partition("### Before\n")[2].rpartition("### Sentence\n")
    return verdict_on(sentence.strip(), before, comprehend(body(parts)))


def split_claims(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    return claims_in(sentences(parts["task"].partition("### Summary\n")[2]))


def judge_claims(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    listed = parts["task"].partition("### Claims\n")[2].splitlines()
    return verdicts_on([line.partition(". ")[2] for line in listed], comprehend(body(parts)))


def summarise(task: str, parts: Mapping[str, str], rng: random.Random) -> str:
    text = body(parts)
    reading = comprehend(text)
    return reference(reading, rng) if reading else " ".join(sentences(text)[:SUMMARY_SENTENCES])


HANDLERS: Mapping[str, Callable[[str, Mapping[str, str], random.Random], str]] = {
    "list the entities": list_entities,
    "relate the entities of a document: several groups": relate_groups,
    "relate the entities": relate_entities,
    "rewrite the document as questions": question,
    "rewrite the document": rewrite,
    "write multiple-choice questions": quiz,
    "answer a multiple-choice question from the document": check,
    "answer a multiple-choice question from memory": recall,
    "judge the sentence": judge,
    "split the summary": split_claims,
    "judge the claims": judge_claims,
    "summarise the document": summarise,
}
WITHOUT_DOCUMENT = (recall, split_claims)
WITHOUT_ERRORS = (list_entities, recall, judge, split_claims, judge_claims)


@lru_cache(maxsize=64)
def sentences(text: str) -> tuple[str, ...]:
    flowing = re.sub(r"\s+", " ", text).strip()
    return tuple(piece for piece in re.split(r"(?<=[.!?][\"'”’)]|.[.!?])\s+(?=[\"'“‘(A-Z0-9])", flowing) if piece)


@lru_cache(maxsize=64)
def key_phrases(text: str) -> tuple[str, ...]:
    """Capitalised words and phrases that recur, then frequent long words: most frequent first."""
    found = re.findall(r"\b[A-Z][\w'’-]+(?: [A-Z][\w'’-]+){0,2}", text)
    names = Counter(
        filter(None, (" ".join(word for word in phrase.split() if word not in NOT_NAMES) for phrase in found))
    )
    words = Counter(re.findall(r"\b[a-z]{7,}\b", text))
    recurring = [name for name, count in names.most_common() if count > 1]
    recurring += [word for word, count in words.most_common() if count > 2]
    ranked = [*recurring, *(name for name, _ in names.most_common()), *(word for word, _ in words.most_common())]
    return tuple(dict.fromkeys(ranked))[:MOST_ENTITIES]


def extract(text: str, entities: Sequence[str], rng: random.Random) -> str:
    """The sentences about the entities: those about several first, a few about each, in a drawn order."""
    mentions = {entity: [s for s in sentences(text) if entity in s] for entity in entities}
    shared = [s for s in sentences(text) if sum(entity in s for entity in entities) > 1]
    chosen = [f"{' and '.join(entities)}."]
    for entity in entities:
        chosen += rng.sample(mentions[entity], min(3, len(mentions[entity])))
    rng.shuffle(shared)
    return " ".join(dict.fromkeys([*chosen, *shared[:6]]))
