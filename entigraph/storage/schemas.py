"""The language in which stages speak: frozen records, one JSON object a line (texts: one Parquet row)."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

Choice = int | list[int]  # an option's number; where several may be right, the numbers of those chosen, ascending


def choice_set(choice: Choice | None) -> frozenset[int]:
    if choice is None:
        return frozenset()
    return frozenset(choice if isinstance(choice, list) else [choice])


def choice_text(choices: Sequence[str], choice: Choice) -> str:
    return "; ".join(choices[option] for option in sorted(choice_set(choice)))


@dataclass(frozen=True, kw_only=True)
class Document:
    """A source document. `meta` holds what a reader knows beyond it (author, year, topic, ...)."""

    id: str
    title: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A multiple-choice question about one document.

    `answer` indexes `choices`; a list, even of one, says that several may be right. `group` is a kind for the panel by
    kind (`forward`, `hard`, ...). `split` tells apart questions that training text answers and those it does not.
    `thought`: an intermediate answer is generated first.
    `evidence`: the parts of the document, word for word, that answer it together, where they are known.
    """

    id: str
    document_id: str
    text: str
    choices: Sequence[str]
    answer: Choice
    group: str
    split: str = "test"
    thought: bool = False
    evidence: Sequence[str] = ()

    @property
    def several(self) -> bool:
        """Whether all right options are asked for, however many."""
        return not isinstance(self.answer, int)


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A file of the source that gave no document. `reason` is of a kind that can be counted, `detail` of this file."""

    file: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class EntityGraph:
    """The nodes of one document's graph; every pair and triple of them is a possible edge (paper §2.2).

    A document that was written about in parts has a graph for each, under the part's id. `left_out` counts the entities
    beyond a stated maximum.
    """

    document_id: str
    summary: str
    entities: Sequence[str]
    left_out: int = 0


def source_document_id(name: str, documents: Container[str]) -> str:
    """The document that a graph's id means: a document written about in parts has one for each, "id#1", "id#2", ..."""
    return name if name in documents else name.rpartition("#")[0]


@dataclass(frozen=True, kw_only=True)
class SyntheticText:
    """A text to train on and where it came from. `tokens` counts it as it is trained, separators included."""

    id: str
    document_id: str
    augmenter: str
    kind: str
    about: Sequence[str]
    sample: int
    text: str
    writer: str
    prompt_hash: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request that gave no text, and why. Never part of the corpus."""

    document_id: str
    kind: str
    about: Sequence[str]
    reason: str
    response: str = ""


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """A text that says nearly the same as an earlier one, `like`. `similarity` is the estimated share in common."""

    id: str
    like: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """One file of little-endian uint32 token ids; `documents` texts end in it."""

    file: str
    tokens: int
    documents: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A part of a document as it is retrieved: `text` is that from character `start` to `end`, behind a heading."""

    id: str
    document_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The passages for a question, by their numbers in passages.jsonl, the best first; of one text its first passage.

    What it should find: the passages of its `article`, and for each part of its evidence those that hold it; null
    where the corpus lacks the article, or the evidence is not known.
    """

    question_id: str
    passages: Sequence[int]
    scores: Sequence[float]
    article: Sequence[int] | None = None
    evidence: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to a question. `choice` is the one that counts (None: it gave none, or could not be asked).

    By likelihood: each option's score, and `choice_norm` by the rule that divides by length. By samples: the choice
    that each sample names (None: unparsed; `unparsed` counts why), and the `texts` of the first of them.
    `overflowed`: the prompt did not fit the model's context. `passages` stood before the question; `article_shown` and
    `evidence_shown`: whether they were what it takes, null where that is not known. `retrieved` counts them, null in a
    closed-book task.
    """

    question_id: str
    document_id: str
    group: str
    question: str
    choices: Sequence[str]
    answer: Choice
    choice: Choice | None
    correct: bool
    overflowed: bool = False
    thought: str = ""
    scores: Sequence[float] = ()
    choice_norm: int | None = None
    correct_norm: bool | None = None
    samples: Sequence[Choice | None] = ()
    unparsed: dict[str, int] = field(default_factory=dict)
    texts: Sequence[str] = ()
    passages: Sequence[str] = ()
    retrieved: int | None = None
    article_shown: bool | None = None
    evidence_shown: bool | None = None
    prompt_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a model wrote of a document from memory; `finish_reason` is "length" where it was cut.

    `prompt` names the one it was asked by, `sample` tells repetitions apart.
    """

    id: str
    document_id: str
    prompt: str
    sample: int
    text: str
    finish_reason: str
    prompt_hash: str


@dataclass(frozen=True, kw_only=True)
class DocumentLoss:
    """How well a model foretold one document: `nats` over `tokens`; before `unscored` tokens nothing stood."""

    document_id: str
    nats: float
    tokens: int
    unscored: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point of the curve: the mean over seeds at one budget, `stderr` over seeds, or by document where one seed."""

    augmenter: str
    synthetic_tokens: int
    budget: int
    accuracy: float
    stderr: float
    seeds: int
    questions: int
    groups: dict[str, float]
    background: float | None
