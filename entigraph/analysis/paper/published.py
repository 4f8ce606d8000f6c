"""Numbers published in the paper, each with its section. Accuracies are shares in [0, 1]; tokens are counts.

The paper prints no table of accuracy by tokens. Its EntiGraph curve is known from the fit of App. G.1 and the last
point; its Rephrase, QA and weak-writer curves exist only as lines in figures, so they are not included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from entigraph.analysis.document_bootstrap import Vector
from entigraph.analysis.scaling.curve_forms import Exponentials

PAPER = "Yang et al., ICLR 2025"


@dataclass(frozen=True)
class PublishedLevel:
    """A reference line: a model's closed-book accuracy on QuALITY."""

    name: str
    accuracy: float
    section: str


@dataclass(frozen=True)
class PublishedPoint:
    """A printed accuracy at a number of synthetic tokens; `above`: the paper states only that it is exceeded."""

    name: str
    augmenter: str
    tokens: float
    accuracy: float
    section: str
    above: bool = False


@dataclass(frozen=True)
class PublishedCurve:
    """A figure of accuracy against tokens: what is printed as numbers, and what is only drawn."""

    title: str
    levels: Sequence[PublishedLevel]
    points: Sequence[PublishedPoint]
    accuracies: tuple[float, float]  # range of the y axis
    only_drawn: str = ""
    fitted: bool = True  # the figure has the EntiGraph curve, whose fit is printed
    tokens: tuple[float, float] = (1e6, 455e6)  # range of the x axis


GPT_4 = PublishedLevel("GPT-4", 0.5130, "§3, Fig. 2")
GPT_3_5 = PublishedLevel("GPT-3.5", 0.4481, "§3, Fig. 2")
BASE = PublishedLevel("Llama 3 8B", 0.3949, "§4.2, Fig. 2")
RAW = PublishedLevel("Raw CPT, 1.3M tokens", 0.3815, "Fig. 2")
QUESTIONS = 4609  # QuALITY (§3)
HEADLINE = PublishedPoint("EntiGraph, 455M tokens", "entigraph", 455e6, 0.5622, "§4.2")
WEAK = PublishedPoint("EntiGraph by Llama 3.1 8B, 334M tokens", "weak", 334e6, 0.5130, "App. A.1", above=True)
COURSERA_BASE = PublishedLevel("Llama 3 8B", 0.4826, "App. A.3")
COURSERA = PublishedPoint("EntiGraph, 32M tokens", "entigraph", 32e6, 0.5387, "App. A.3")

CURVES: Mapping[str, PublishedCurve] = {
    "scaling_with_baselines": PublishedCurve(
        "Closed-book accuracy against synthetic tokens (paper Fig. 2)",
        (GPT_4, GPT_3_5, BASE, RAW), (HEADLINE,), (0.36, 0.66),
        "Rephrase, up to 38M tokens",
    ),
    "weak_writer": PublishedCurve(
        "A weaker writer (paper Fig. 5)",
        (GPT_4, BASE), (HEADLINE, WEAK), (0.36, 0.62),
        "EntiGraph and Rephrase by Llama 3.1 8B",
    ),
    "coursera": PublishedCurve(
        "Questions of Coursera lectures (paper Fig. 6)",
        (COURSERA_BASE,), (COURSERA,), (0.47, 0.56),
        "the curve from 20M tokens on, and Rephrase at up to 22M",
        fitted=False, tokens=(15e6, 40e6),
    ),
    "qa": PublishedCurve(
        "Question-answer pairs as training text (paper Fig. 8)",
        (BASE,), (HEADLINE,), (0.36, 0.62),
        "Rephrase, up to 38M tokens, and QA pairs, up to 28M",
    ),
}  # fmt: skip

# y = a - b1 r1^x - b2 r2^x - b3 r3^x, x in millions of tokens, y in percent (App. G.1, Fig. 4).
FIT_SECTION = "App. G.1, Fig. 4"
FIT_A = 64.5456
FIT_B: Sequence[float] = (13.8352, 8.4705, 3.932)
FIT_R: Sequence[float] = (0.9989, 0.8961, 0.0546)
FIT_FORM = Exponentials(3)
FIT_RANGE = (1e5, 455e6)  # x axis of Fig. 4


def fit_parameters() -> Vector:
    """Returns the paper's fit in the units of `FIT_FORM`: shares, and time scales in tokens in ascending order."""
    scales = -1e6 / np.log(np.array(FIT_R))
    order = np.argsort(scales)
    return np.array([FIT_A / 100, *(np.array(FIT_B)[order] / 100), *scales[order]])


def fitted_accuracy(tokens: Vector) -> Vector:
    """Returns the paper's fitted EntiGraph curve (App. G.1)."""
    return np.asarray(FIT_FORM.predict(fit_parameters()[None], tokens)[0])


# Share of synthetic tokens that begin an n-gram of the source document (App. A.2, Table 4).
OVERLAP_SECTION = "App. A.2, Table 4"
OVERLAP_DOCUMENTS = 100  # a random sample
OVERLAP: Mapping[str, Mapping[int, float]] = {
    "entigraph": {2: 0.2340, 4: 0.0366, 8: 0.0024, 16: 0.0000},
    "rephrase": {2: 0.2135, 4: 0.0304, 8: 0.0051, 16: 0.0022},
}


@dataclass(frozen=True)
class PublishedShare:
    value: float
    interval: tuple[float, float]


# 150 random sentences of the 455M-token corpus, labeled by the authors; bootstrap 95% intervals (App. A.2).
FACTUALITY_SECTION = "App. A.2"
FACTUALITY_SENTENCES = 150
FACTUALITY: Mapping[str, PublishedShare] = {
    "subjective": PublishedShare(0.532, (0.455, 0.610)),
    "supported": PublishedShare(0.944, (0.889, 0.986)),  # of those that are not subjective
}

# Claims of closed-book summaries relative to the human ones. The paper prints no numbers, only a figure of nine points
# (four summarizers with a short and a long prompt, and the human one at (1, 1)); these are the ranges of its axes.
CLAIMS_SECTION = "§4.3, Fig. 3"
CLAIMS_AXES: Mapping[str, tuple[float, float]] = {"salient": (0.0, 1.4), "false": (0.0, 8.0)}


@dataclass(frozen=True)
class RetrievalRow:
    """A row of Table 3, or of a study: a model with passages and without (`closed`, null if it was not evaluated so).

    `recall`: the share of questions with a passage of their article in the prompt; in the paper, among eight passages.
    """

    model: str
    task: str
    accuracy: float
    stderr: float | None
    recall: float | None
    closed: float | None
    questions: int | None
    source: str

    @property
    def cells(self) -> tuple[Any, ...]:
        gain = self.accuracy - self.closed if self.closed is not None else None
        return (self.model, self.task, self.accuracy, self.stderr, self.recall, self.closed, gain,
                self.questions, self.source)  # fmt: skip


RETRIEVAL_SECTION = "§5, Table 3"
RETRIEVAL: Sequence[RetrievalRow] = tuple(
    RetrievalRow(name, "", accuracy, None, recall, closed.accuracy, QUESTIONS,
                 f"{RETRIEVAL_SECTION}; closed: {closed.section}")
    for name, accuracy, recall, closed in (
        ("EntiGraph CPT + RAG", 0.6260, 0.9963, HEADLINE),
        ("Llama 3 8B + RAG", 0.6035, 0.9963, BASE),
        ("GPT-4 + the whole document", 0.8609, 1.0, GPT_4),
        ("GPT-3.5 + the whole document", 0.7260, 1.0, GPT_3_5),
    )
)  # fmt: skip


@dataclass(frozen=True)
class SurveyRow:
    """A row of Table 1: unique tokens of continued pretraining, from the least to the most of the study's models."""

    study: str
    models: str
    tokens: tuple[float, float]


SURVEY_SECTION = "Table 1"
SURVEY: Sequence[SurveyRow] = (
    SurveyRow("Minerva", "8B, 62B, 540B", (26e9, 38.5e9)),
    SurveyRow("MediTron", "7B, 70B", (46.7e9, 46.7e9)),
    SurveyRow("Code Llama", "7B, 13B, 34B", (520e9, 620e9)),
    SurveyRow("Llemma", "7B, 34B", (50e9, 55e9)),
    SurveyRow("DeepSeekMath", "7B", (500e9, 500e9)),
    SurveyRow("SaulLM-7B", "7B", (30e9, 30e9)),
    SurveyRow("SaulLM-54B/141B", "54B, 141B", (520e9, 520e9)),
    SurveyRow("HEAL", "13B", (14.9e9, 14.9e9)),
    SurveyRow("The paper's articles", "8B", (1.3e6, 1.3e6)),
)


@dataclass(frozen=True)
class PublishedHistogram:
    """A panel of Fig. 7, over 265 documents: the range of its axis, and the mean if totals determine it (§2.2, §3)."""

    axis: tuple[float, float]
    mean: float | None


HISTOGRAMS_SECTION = "Fig. 7"
HISTOGRAM_DOCUMENTS = 265
HISTOGRAMS: Mapping[str, PublishedHistogram] = {
    "source_tokens": PublishedHistogram((2e3, 8e3), 1.3e6 / HISTOGRAM_DOCUMENTS),
    "entities": PublishedHistogram((0, 100), None),
    "synthetic_tokens": PublishedHistogram((0, 5e6), 455e6 / HISTOGRAM_DOCUMENTS),
}
