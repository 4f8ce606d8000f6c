"""The records that stages exchange: frozen dataclasses, stored as JSON Lines (synthetic texts as Parquet rows)."""

from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

UNGROUPED = "ungrouped"  # the group of questions without one in their source
Choice = int | list[int]  # the index of an option; a sorted list of indices if several may be correct


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
    """A source document with metadata such as author, year or topic."""

    id: str
    title: str
    text: str
    meta: dict[str, str] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Title, author and year in a line, as shown in prompts."""
        return ", ".join(filter(None, [f'"{self.title}"', self.meta.get("author"), self.meta.get("year")]))

    @property
    def citation(self) -> str:
        """Title, author and year, as the paper cites a document (App. I.1): "Laumer, Keith" is "Keith Laumer"."""
        last, comma, first = self.meta.get("author", "").partition(", ")
        author = f" by {first} {last}" if comma else f" by {last}" if last else ""
        year = f" ({self.meta['year']})" if self.meta.get("year") else ""
        return f'"{self.title}"{author}{year}'


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about a document: multiple choice, or free-form, with `accepted` short answers and no choices.

    Attributes:
        document_id: The document; the first one of a question about several.
        answer: Index into `choices`; a list, even of length one, means that several choices may be correct. Empty for
            a free-form question.
        group: The category by which scores are broken down (`forward`, `hard`, ...).
        split: The split of the questions, such as `test`.
        thought: Whether an intermediate answer is generated before the choice.
        evidence: The verbatim passages of the document that together answer the question; empty if unknown.
    """

    id: str
    document_id: str
    text: str
    choices: Sequence[str] = ()
    answer: Choice = field(default_factory=list)
    group: str
    split: str = "test"
    thought: bool = False
    evidence: Sequence[str] = ()
    accepted: Sequence[str] = field(default_factory=list)

    @property
    def multiple_answers(self) -> bool:
        """Returns whether more than one choice may be correct; the question then asks for all of them."""
        return bool(self.choices) and not isinstance(self.answer, int)

    @property
    def accepted_answers(self) -> Sequence[str]:
        """Returns the texts that are correct free-form answers; for multiple choice, the text of the correct choice."""
        return self.accepted or ([choice_text(self.choices, self.answer)] if self.choices else [])


@dataclass(frozen=True, kw_only=True)
class SkippedFile:
    """A source file or record without a document. `reason` is a category; `detail` is specific to the file."""

    file: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class ConversionLoss:
    """What the conversion of a file to text left out, by kind, such as pictures."""

    file: str
    lost: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class DuplicateDocument:
    """A document with the same text as an earlier one, apart from whitespace; the corpus contains the earlier one."""

    id: str
    original_id: str


@dataclass(frozen=True, kw_only=True)
class EntityGraph:
    """The entities of one document; requests are about pairs and triples of them (paper §2.2).

    A document that is split into parts has one graph per part, with the part's id. `left_out`: number of entities
    dropped beyond the maximum; `merged`: other spellings found in the writer's list, by entity.
    """

    document_id: str
    summary: str
    entities: Sequence[str]
    left_out: int = 0
    merged: dict[str, list[str]] = field(default_factory=dict)


def source_document_id(name: str, documents: Container[str]) -> str:
    """Returns the document id of a graph's id: the parts of a document have the ids "id#1", "id#2", ..."""
    return name if name in documents else name.rpartition("#")[0]


@dataclass(frozen=True, kw_only=True)
class SyntheticText:
    """A synthetic text and its provenance. `tokens` is its length as trained on, including separators.

    `context`: ids of other documents included in the prompt.
    """

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
    context: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A request without a usable answer, and the reason. Failures are never part of the corpus."""

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
    """A file of little-endian uint32 token ids. `documents`: number of texts that end in it."""

    file: str
    tokens: int
    documents: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A passage for retrieval. `text` is a heading followed by characters `start` to `end` of the document."""

    id: str
    document_id: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The retrieved passages of a question, best first, as line numbers in passages.jsonl; identical texts count once.

    Attributes:
        article: The passages of the question's document; None if it is not in the corpus.
        evidence: For each part of the question's evidence the passages that contain it; None if unknown.
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
        choice: The choice that is scored; None if no choice could be parsed or the prompt did not fit.
        overflowed: Whether the prompt exceeds the model's context.
        scores: The log-likelihood score of each option.
        choice_norm: The choice by length-normalized scores.
        samples: The choice of each sampled generation; None if it could not be parsed.
        unparsed: Counts the reasons why samples could not be parsed.
        texts: The first sampled generations.
        passages: The ids of the retrieved passages in the prompt.
        retrieved: The number of retrieved passages; None in closed-book tasks.
        article_shown: Whether they include a passage of the question's document; None if unknown.
        evidence_shown: Whether they include the question's evidence; None if unknown.
        accepted: The accepted answers of a free-form question.
        response: The free-form answer; empty if the model gave none.
        f1: The F1 of the free-form answer's words.
        verdict: A judge's verdict on the free-form answer (llm/answer_judge.py); None without one.
        verdict_missing: Why a judge gave no verdict.
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
    accepted: Sequence[str] = field(default_factory=list)
    response: str = ""
    f1: float | None = None
    verdict: str | None = None
    verdict_missing: str = ""

    @property
    def correct_text(self) -> str:
        """Returns the text of the correct choices, or the first accepted answer."""
        return self.accepted[0] if self.accepted else choice_text(self.choices, self.answer)

    @property
    def given_text(self) -> str | None:
        """Returns the text of the choice, or the free-form answer; None if the model gave none."""
        if self.accepted:
            return self.response or None
        return None if self.choice is None else choice_text(self.choices, self.choice)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A model's summary of a document from memory; `finish_reason` is "length" if it was truncated.

    `prompt` is the name of the prompt, and `sample` the index of the repetition.
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
    """A model's total loss in `nats` over the `tokens` of one document; `unscored` tokens have no preceding context."""

    document_id: str
    nats: float
    tokens: int
    unscored: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ScoredStatement:
    """A model's loss in `nats` on one sentence or line of a document; None if it exceeds the context.

    `tokens` are those that the model read: the statement, and what precedes it in the prompt.
    """

    id: str
    document_id: str
    text: str
    nats: float | None = None
    tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class AnswerLikelihood:
    """A model's loss in `nats` on an accepted answer of `bytes` bytes; None if the prompt exceeds the context."""

    question_id: str
    document_id: str
    nats: float | None
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A point of the scaling curve: the mean over seeds at one budget, with the standard error over seeds (over
    documents if there is only one seed). `metrics` (user-defined) and `scores` (all numbers in scores.json) are means
    over runs; `data_losses`, maxima (storage/data_losses.py).
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
    scores: dict[str, float] = field(default_factory=dict)
    data_losses: dict[str, dict[str, Any]] = field(default_factory=dict)
