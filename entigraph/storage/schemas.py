"""The records that stages exchange: frozen dataclasses, stored as JSON Lines (synthetic texts as Parquet rows)."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

Choice = int | list[int]  # the index of an option; a sorted list of indices where several may be right


def choice_set(choice: Choice | None) -> frozenset[int]:
    """Returns the chosen indices."""
    if choice is None:
        return frozenset()
    return frozenset(choice if isinstance(choice, list) else [choice])


def choice_text(choices: Sequence[str], choice: Choice) -> str:
    """Returns the texts of the chosen options, separated by semicolons."""
    return "; ".join(choices[option] for option in sorted(choice_set(choice)))


@dataclass(frozen=True, kw_only=True)
class Document:
    """A source document. `meta` holds further facts about it (author, year, topic, ...)."""

    id: str
    title: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Question:
    """A multiple-choice question about one document.

    Attributes:
        answer: Index into `choices`; a list, even of length one, means that several choices may be right.
        group: The category by which scores are broken down (`forward`, `hard`, ...).
        split: Separates questions that the training text answers from those that it does not.
        thought: An intermediate answer is generated before the choice.
        evidence: The passages of the document, verbatim, that together answer the question, where they are known.
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
    def multiple_answers(self) -> bool:
        """Whether the question asks for all right choices, of which there may be several."""
        return not isinstance(self.answer, int)


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A source file that yielded no document. `reason` is a category; `detail` is specific to the file."""

    file: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class EntityGraph:
    """The entities of one document; every pair and triple of them is a possible relation (paper §2.2).

    A document that was split into parts has one graph per part, under the part's id. `left_out` counts the entities
    beyond the configured maximum.
    """

    document_id: str
    summary: str
    entities: Sequence[str]
    left_out: int = 0


def source_document_id(name: str, documents: Container[str]) -> str:
    """Returns the document id for a graph's id: parts of a document have the ids "id#1", "id#2", ..."""
    return name if name in documents else name.rpartition("#")[0]


@dataclass(frozen=True, kw_only=True)
class SyntheticText:
    """A synthetic text and its provenance. `tokens` counts it as it is trained on, including separators."""

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
    """A request that yielded no text, and why. Failures are never part of the corpus."""

    document_id: str
    kind: str
    about: Sequence[str]
    reason: str
    response: str = ""


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """A text nearly identical to an earlier one. `similarity` is the estimated Jaccard similarity of the two."""

    id: str
    original_id: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class TokenShard:
    """One file of little-endian uint32 token ids, in which `documents` texts end."""

    file: str
    tokens: int
    documents: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage for retrieval: characters `start` to `end` of a document, preceded by a heading in `text`."""

    id: str
    document_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The retrieved passages of a question, best first, as line numbers in passages.jsonl; identical texts count once.

    Attributes:
        article: The passages of the question's own document; None where the corpus lacks it.
        evidence: For each part of the question's evidence the passages that contain it; None where it is not known.
    """

    question_id: str
    passages: Sequence[int]
    scores: Sequence[float]
    article: Sequence[int] | None = None
    evidence: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A model's answer to a question.

    Attributes:
        choice: The choice that is scored; None where the model named none or the question could not be asked.
        overflowed: The prompt did not fit the model's context.
        scores: The log-likelihood score of each option.
        choice_norm: The choice by length-normalized scores.
        samples: The choice of each sampled generation; None where it could not be parsed.
        unparsed: Counts the reasons why samples could not be parsed.
        texts: The first sampled generations.
        passages: The ids of the retrieved passages in the prompt.
        retrieved: The number of retrieved passages; None in closed-book tasks.
        article_shown: Whether they include the question's document; None where that is not known.
        evidence_shown: Whether they include the question's evidence; None where that is not known.
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
    """A model's summary of a document from memory; `finish_reason` is "length" where it was cut off.

    `prompt` names the prompt, and `sample` numbers the repetitions.
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
    """A model's loss on one document: `nats` in total over `tokens`; `unscored` tokens have no preceding context."""

    document_id: str
    nats: float
    tokens: int
    unscored: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point of the curve: the mean over seeds at one budget, with the standard error over seeds (over documents if
    there is one seed).
    """

    augmenter: str
    synthetic_tokens: int
    budget: int
    accuracy: float
    stderr: float
    seeds: int
    questions: int
    groups: dict[str, float]
    background: float | None
    metrics: dict[str, float] = field(default_factory=dict)
