"""Checks a sample of the texts before training: too short, repetitive, refusals, copies, wrong language, leakage."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from entigraph.config.schema import QualityGate
from entigraph.storage.fingerprints import sample_by_hash
from entigraph.storage.schemas import Document, Question, SyntheticText
from entigraph.synthesis.leakage import NGrams, ngrams_of_question, text_ngrams, word_ngrams
from entigraph.text.languages import is_foreign
from entigraph.text.refusals import find_refusal
from entigraph.text.writing_systems import split_words

COPY_NGRAM = 8  # words; shared n-grams count as copied
REPETITION_NGRAM = 4  # words
MAX_EXAMPLES = 5
UNSUPPORTED = "unsupported by their document"


@dataclass
class QualityReport:
    """Number of `checked` texts with each defect, with example ids. `limits` are the largest allowed shares.

    `sentences`: judged sentences that make a claim, the denominator of UNSUPPORTED. `no_verdict` counts sentences
    without a verdict by reason.
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
        total = self.sentences if defect == UNSUPPORTED else self.checked
        return self.counts[defect] / total if total else 0.0

    def add(self, text_id: str, defect: str) -> None:
        self.counts[defect] += 1
        examples = self.examples.setdefault(defect, [])
        if len(examples) < MAX_EXAMPLES:
            examples.append(text_id)

    def lines(self) -> Iterator[str]:
        """Yields a heading and one line per defect that occurs."""
        yield f"quality of {self.checked:,} sampled texts: {'defects' if self.counts else 'no defects'}"
        for defect in self.limits:
            if self.counts[defect]:
                state = "above" if defect in self.exceeded else "within"
                denominator = f" of {self.sentences:,} judged sentences" if defect == UNSUPPORTED else ""
                yield (
                    f"  {self.share(defect):.1%}{denominator} are {defect}, {state} the limit of "
                    f"{self.limits[defect]:.1%} (e.g. {self.examples[defect][0]})"
                )
        for reason, count in self.no_verdict.items():
            yield f"  {count:,} judged sentences have no verdict: {reason}"

    def to_dict(self) -> Mapping[str, object]:
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
    sampled = sorted(sample_by_hash(texts, gate.sample, lambda text: text.id), key=lambda text: text.id)
    by_id = {document.id: document for document in documents}
    sources = {name: document.text for name, document in by_id.items()}
    source_ngrams = lru_cache(maxsize=256)(lambda document: copy_ngrams(sources.get(document, "")))
    question_ngrams = NGrams().union(
        *(ngrams_of_question(question, by_id.get(question.document_id)) for question in questions)
    )
    defects: Mapping[str, tuple[float, Callable[[SyntheticText], bool]]] = {
        "too short": (gate.max_short, lambda text: text.tokens < gate.min_tokens),
        "refusals": (gate.max_refusals, lambda text: find_refusal(text.text) is not None),
        "repetitive": (gate.max_repetitive, lambda text: repeated_share(text.text) > gate.max_repeated_ngrams),
        "in a different language from their document": (
            gate.max_other_language,
            lambda text: is_foreign(text.text) != is_foreign(sources.get(text.document_id, "")),
        ),
        "copied from their document": (
            gate.max_copied,
            lambda text: copied_share(text.text, source_ngrams(text.document_id)) > gate.max_copied_ngrams,
        ),
        "quoting an evaluation question": (
            gate.max_quoting,
            lambda text: not question_ngrams.isdisjoint(text_ngrams(text.text)),
        ),
    }
    report = QualityReport(len(sampled), {defect: limit for defect, (limit, _) in defects.items()})
    for text in sampled:
        for defect, (_, has_defect) in defects.items():
            if has_defect(text):
                report.add(text.id, defect)
    return report


def copy_ngrams(text: str) -> NGrams:
    return word_ngrams(split_words(text.casefold()), COPY_NGRAM)


def copied_share(text: str, source: NGrams) -> float:
    """Returns the share of a text's word n-grams that its document contains."""
    ngrams = copy_ngrams(text)
    return len(ngrams & source) / len(ngrams) if ngrams else 0.0


def repeated_share(text: str) -> float:
    """Returns the share of a text's word n-grams that occur earlier in it; 0 for very short texts."""
    words = split_words(text.casefold())
    starts = len(words) - REPETITION_NGRAM + 1
    return 1 - len(word_ngrams(words, REPETITION_NGRAM)) / starts if starts >= 2 * REPETITION_NGRAM else 0.0
