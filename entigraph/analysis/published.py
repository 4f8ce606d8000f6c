"""What the paper published, typed from it, each with its section. Accuracies are shares, tokens counts.

The paper prints no table of accuracy by tokens. Its EntiGraph curve is known by the fit of App. G.1 and the last point;
its Rephrase curve only as a line in a figure, so nothing of it stands here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from entigraph.analysis.forms import Exponentials, Vector

PAPER = "Yang et al., ICLR 2025"


@dataclass(frozen=True)
class Level:
    """A line of reference: a model's closed-book accuracy on QuALITY."""

    name: str
    accuracy: float
    section: str


LEVELS: Sequence[Level] = (
    Level("GPT-4", 0.5130, "§3, Fig. 2"),
    Level("GPT-3.5", 0.4481, "§3, Fig. 2"),
    Level("Llama 3 8B", 0.3949, "§4.2, Fig. 2"),
    Level("Raw CPT, 1.3M tokens", 0.3815, "Fig. 2"),
)
QUESTIONS = 4609  # of QuALITY (§3)
HEADLINE_TOKENS, HEADLINE_ACCURACY, HEADLINE_SECTION = 455e6, 0.5622, "§4.2"

# y = a - b1 r1^x - b2 r2^x - b3 r3^x, x in millions of tokens, y in percent (App. G.1, Fig. 4).
FIT_SECTION = "App. G.1, Fig. 4"
FIT_A = 64.5456
FIT_B: Sequence[float] = (13.8352, 8.4705, 3.932)
FIT_R: Sequence[float] = (0.9989, 0.8961, 0.0546)
FIT_FORM = Exponentials(3)
FIT_RANGE = (1e5, 455e6)  # of the axis of Fig. 4


def fit_parameters() -> Vector:
    """The paper's fit in the units of `FIT_FORM`: shares, and time scales in tokens, the shortest first."""
    scales = -1e6 / np.log(np.array(FIT_R))
    order = np.argsort(scales)
    return np.array([FIT_A / 100, *(np.array(FIT_B)[order] / 100), *scales[order]])


def fitted_accuracy(tokens: Vector) -> Vector:
    """The paper's fitted EntiGraph curve (App. G.1)."""
    return np.asarray(FIT_FORM.predict(fit_parameters()[None], tokens)[0])


# Fig. 9: the toy model's panels.
FIGURE_9: Mapping[str, float] = {"vertices": 100, "p": 0.03}

# Share of the synthetic tokens that begin an n-gram which stands in the source document (App. A.2, Table 4).
OVERLAP_SECTION = "App. A.2, Table 4"
OVERLAP: Mapping[str, Mapping[int, float]] = {
    "entigraph": {2: 0.2340, 4: 0.0366, 8: 0.0024, 16: 0.0000},
    "rephrase": {2: 0.2135, 4: 0.0304, 8: 0.0051, 16: 0.0022},
}


@dataclass(frozen=True)
class Share:
    value: float
    interval: tuple[float, float]


# 150 random sentences of the 455M-token corpus, labelled by the authors; bootstrap 95 % intervals (App. A.2).
FACTUALITY_SECTION = "App. A.2"
FACTUALITY_SENTENCES = 150
FACTUALITY: Mapping[str, Share] = {
    "subjective": Share(0.532, (0.455, 0.610)),
    "supported": Share(0.944, (0.889, 0.986)),  # of those that are not subjective
}

# Claims of closed-book summaries relative to the human ones. The paper prints no numbers, only a figure of nine points
# (four summarisers by a short and a long prompt, and the human one at 1 and 1); these are what its axes show.
CLAIMS_SECTION = "§4.3, Fig. 3"
CLAIMS_AXES: Mapping[str, tuple[float, float]] = {"salient": (0.0, 1.4), "false": (0.0, 8.0)}
