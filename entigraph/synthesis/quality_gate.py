"""Checks a sample of the texts before training: too short, repetitive, refusals, copies, wrong language, leakage."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from entigraph.config.schema import QualityGate
from entigraph.storage.fingerprints import sample_by_hash
from entigraph.storage.schemas import Document, Question, SyntheticText
from entigraph.synthesis.leakage import Sequences, question_sequences, text_sequences, word_sequences
from entigraph.text.languages import is_foreign
from entigraph.text.refusals import find_refusal
from entigraph.text.writing_systems import split_words

WORDS_IN_A_ROW = 8  # that a text has in common with its document are copied
COPIED_SHARE = 0.5  # of a text's word sequences, from which on it is a copy
REPEATED_SHARE = 0.3  # of a text's sequences of REPEATED_WORDS words, from which on it repeats itself
REPEATED_WORDS = 4
MAX_EXAMPLES = 5
UNSUPPORTED = "unsupported by their document"


@dataclass
class QualityReport:
    """How many of the `checked` texts have each defect, and ids of some. `limits` are the largest allowed shares.

    `sentences` is the number of judged sentences that state something: the whole of which UNSUPPORTED is a share. Those
    without a verdict are counted by reason in `no_verdict`.
    """

    checked: int
    limits: dict[str, float]
    sentences: int = 0
    no_verdict: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def exceeded(self) -> list[str]:
        return [defect for defect in self.limits if self.share(defect) > self.limits[defect]]

    def share(self, defect: str) -> float:
        whole = self.sentences if defect == UNSUPPORTED else self.checked
        return self.counts[defect] / whole if whole else 0.0

    def add(self, text_id: str, defect: str) -> None:
        self.counts[defect] += 1
        examples = self.examples.setdefault(defect, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(text_id)

    def lines(self) -> Iterator[str]:
        """Yields a heading and one line per defect that occurs."""
        yield f"quality of {self.checked:,} sampled texts: {'defects' if self.counts else 'no defect'}"
        for defect in self.limits:
            if self.counts[defect]:
                state = "above" if defect in self.exceeded else "within"
                of = f" of {self.sentences:,} judged sentences" if defect == UNSUPPORTED else ""
                yield (
                    f"  {self.share(defect):.1%}{of} are {defect}, {state} the limit of {self.limits[defect]:.1%} "
                    f"(such as {self.examples[defect][0]})"
                )
        for reason, count in self.no_verdict.items():
            yield f"  {count:,} judged sentences have no verdict: {reason}"

    def as_json(self) -> Mapping[str, object]:
        return {
            "checked": self.checked,
            "judged_sentences": self.sentences,
            "no_verdict": dict(self.no_verdict),
            "defects": {
                defect: {
                    "texts": self.counts[defect],
                    "share": self.share(defect),
                    "limit": limit,
                    "examples": self.examples.get(defect, []),
                }
                for defect, limit in self.limits.items()
            },
        }


def check_quality(
    texts: Iterable[SyntheticText], documents: Iterable[Document], questions: Iterable[Question], gate: QualityGate
) -> QualityReport:
    """Checks up to `gate.sample` of the texts, the same ones whenever it is called."""
    sampled = sample_texts(texts, gate.sample)
    sources = {document.id: document.text for document in documents}
    read_source = lru_cache(maxsize=256)(lambda document: copied_sequences(sources.get(document, "")))
    quotations = Sequences().union(*map(question_sequences, questions))
    defects: Mapping[str, tuple[float, Callable[[SyntheticText], bool]]] = {
        "too short": (gate.max_short, lambda text: text.tokens < gate.min_tokens),
        "refusals": (gate.max_refusals, lambda text: find_refusal(text.text) is not None),
        "repetitive": (gate.max_repetitive, lambda text: repeats_itself(text.text)),
        "in another language than their document": (
            gate.max_other_language,
            lambda text: is_foreign(text.text) != is_foreign(sources.get(text.document_id, "")),
        ),
        "copied from their document": (
            gate.max_copied,
            lambda text: copied_share(text.text, read_source(text.document_id)) > COPIED_SHARE,
        ),
        "quoting an evaluation question": (
            gate.max_quoting,
            lambda text: not quotations.isdisjoint(text_sequences(text.text)),
        ),
    }
    report = QualityReport(len(sampled), {defect: limit for defect, (limit, _) in defects.items()})
    for text in sampled:
        for defect, (_, has_defect) in defects.items():
            if has_defect(text):
                report.add(text.id, defect)
    return report


def sample_texts(texts: Iterable[SyntheticText], size: int) -> list[SyntheticText]:
    """Returns a random sample of the texts, by id."""
    return sorted(sample_by_hash(texts, size, lambda text: text.id), key=lambda text: text.id)


def copied_sequences(text: str) -> Sequences:
    return word_sequences(split_words(text.casefold()), WORDS_IN_A_ROW)


def copied_share(text: str, source: Sequences) -> float:
    """Returns the share of a text's word sequences that its document contains."""
    sequences = copied_sequences(text)
    return len(sequences & source) / len(sequences) if sequences else 0.0


def repeats_itself(text: str) -> bool:
    words = split_words(text.casefold())
    starts = len(words) - REPEATED_WORDS + 1
    return starts >= 2 * REPEATED_WORDS and 1 - len(word_sequences(words, REPEATED_WORDS)) / starts > REPEATED_SHARE
