"""What an analysis is told: stated in the config before anything is measured."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from entigraph.analysis.factuality.judges import Judged
from entigraph.errors import ConfigError
from entigraph.llm.base import Say
from entigraph.storage.fingerprints import digest, fingerprint

if TYPE_CHECKING:
    from entigraph.analysis.examinations import SyntheticCorpus
    from entigraph.analysis.study_runs import FinishedRun


@dataclass(frozen=True, kw_only=True)
class ScalingCurve:
    """accuracy = a + b·ln(synthetic tokens), fitted to single runs whose budget lies in the stated range (null: open).

    `confidence` is that of the intervals, from `resamples` draws over documents and runs. Forecasts go to `forecast_to`
    times the largest budget, and tell the tokens for each accuracy in `targets`. `samples_shown` synthetic texts stand
    in the report beside their source. `stop_at_half_width`: how narrow an interval ended the adding of seeds.
    """

    fit_from_tokens: int | None = None
    fit_to_tokens: int | None = None
    confidence: float = 0.9
    resamples: int = 2000
    forecast_to: float = 4.0
    targets: list[float] = field(default_factory=lambda: [0.5, 0.75, 0.9])
    samples_shown: int = 3
    stop_at_half_width: float | None = None

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if self.resamples < 1 or self.samples_shown < 0:
            raise ConfigError("analysis: resamples must be at least 1 and samples_shown at least 0")
        if self.forecast_to < 1:
            raise ConfigError(f"analysis.forecast_to: {self.forecast_to} found, 1 or more expected")
        if not all(0 < target < 1 for target in self.targets):
            raise ConfigError(f"analysis.targets: {self.targets} found, shares between 0 and 1 expected")
        low, high = self.fit_from_tokens, self.fit_to_tokens
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"analysis.fit_from_tokens: {low:,} found, below fit_to_tokens {high:,} expected")

    def in_range(self, tokens: int) -> bool:
        return (self.fit_from_tokens or 0) <= tokens <= (self.fit_to_tokens or tokens)


class Drawing(Protocol):
    """An analysis other than the curve: a folder of its own below analysis/, made once for what decides it."""

    @property
    def name(self) -> str: ...

    @property
    def reads_runs(self) -> bool: ...

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        """Write figures (PNG and SVG) and their numbers (JSON); returns the lines to print."""


@dataclass(frozen=True, kw_only=True)
class ToyModel:
    """The paper's toy model, exact and simulated (§6, Fig. 9: 100 entities, p = 0.03)."""

    name: ClassVar[str] = "toy_model"
    reads_runs: ClassVar[bool] = False
    vertices: int = 100
    mean_degree: float = 3.0
    graphs: int = 20
    simulations: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        check_graphs(self.vertices, self.mean_degree, self.graphs)
        if self.simulations < 2:
            raise ConfigError(f"analysis.simulations: {self.simulations} found, 2 or more expected")

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.theory.formulas import toy_model

        return toy_model(self, out)


@dataclass(frozen=True, kw_only=True)
class GraphFamilies:
    """The toy model on graphs denser, sparser, clustered, hierarchical and with hubs, which the paper leaves open."""

    name: ClassVar[str] = "graph_families"
    reads_runs: ClassVar[bool] = False
    vertices: int = 500
    mean_degree: float = 3.0
    graphs: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_graphs(self.vertices, self.mean_degree, self.graphs)

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.theory.formulas import graph_families

        return graph_families(self, out)


def check_confidence(share: float) -> None:
    if not 0 < share < 1:
        raise ConfigError(f"analysis.confidence: {share} found, a share between 0 and 1 expected")


def check_graphs(vertices: int, mean_degree: float, graphs: int) -> None:
    if vertices < 10 or graphs < 1:
        raise ConfigError(f"analysis: {vertices} vertices, {graphs} graphs found; at least 10 and 1 expected")
    if not 1 < mean_degree < vertices:
        raise ConfigError(
            f"analysis.mean_degree: {mean_degree} found; above 1 expected (at 1 and below no large part of a graph is "
            f"reachable) and below {vertices} vertices"
        )


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Pairs of entities that a study's texts cover, and the curve that this predicts, laid over the measured one.

    Two entities are mentioned together where `window` successive sentences name both. Shares are means over `draws`
    orders of the texts; of a larger corpus only the first `texts` are read.
    """

    name: ClassVar[str] = "coverage"
    reads_runs: ClassVar[bool] = True
    window: int = 1
    draws: int = 5
    texts: int = 200_000

    def __post_init__(self) -> None:
        if min(self.window, self.draws, self.texts) < 1:
            raise ConfigError("analysis: window, draws and texts must be at least 1")

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.theory.coverage import draw

        return draw(self, runs, out)


class Examination(Protocol):
    """An analysis of texts: those of a study's finished runs, and the configuration's own.

    Like a drawing it is a folder below analysis/, made once for what decides it.
    """

    @property
    def name(self) -> str: ...

    def cache_key(self, volatile: Container[str]) -> Mapping[str, Any]:
        """What decides its result; `volatile` names the options of a writer that do not."""
        ...

    def check(self) -> None:
        """Raises LLMError where it could not be done: asked before anything is made."""
        ...

    def examine(self, given: Any, out: Path, response_cache: Path, say: Say) -> list[str]:
        """`given` is what it examines: synthetic corpora, or who wrote summaries.

        Write figures (PNG and SVG) and their numbers (JSON); returns the lines to print."""
        ...


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Which of the synthetic texts' n-grams of tokens stand in their source document (paper App. A.2, Table 4).

    Over `documents` drawn by `seed` (null: all), in the tokens of `tokenizer`, a folder with a tokenizer.json (null:
    that of the synthesis). The paper draws 100 and counts in Llama 3.1's tokens.
    """

    name: ClassVar[str] = "overlap"
    sizes: list[int] = field(default_factory=lambda: [2, 4, 8, 16])
    documents: int | None = 100
    seed: int = 0
    tokenizer: str | None = None

    def __post_init__(self) -> None:
        if not self.sizes or min(self.sizes) < 1 or len(set(self.sizes)) < len(self.sizes):
            raise ConfigError(f"analysis.sizes: {self.sizes} found, different lengths of n-grams expected, 1 or more")
        if self.documents is not None and self.documents < 1:
            raise ConfigError(f"analysis.documents: {self.documents} found, 1 or more, or null, expected")
        if self.tokenizer is not None and not self.tokenizer_file.is_file():
            raise ConfigError(
                f"analysis.tokenizer: {self.tokenizer!r} holds no tokenizer.json; give a folder that does"
            )

    @property
    def tokenizer_file(self) -> Path:
        return Path(self.tokenizer or "").expanduser() / "tokenizer.json"

    def cache_key(self, volatile: Container[str]) -> Mapping[str, Any]:
        given = fingerprint(self.tokenizer_file) if self.tokenizer else None
        return {**asdict(self), "tokenizer": given}

    def check(self) -> None:
        pass

    def examine(self, corpora: Sequence["SyntheticCorpus"], out: Path, response_cache: Path, say: Say) -> list[str]:
        from entigraph.analysis.overlap.overlap import examine

        return examine(self, corpora, out)


@dataclass(frozen=True, kw_only=True)
class Factuality(Judged):
    """How much of a synthetic corpus its source documents bear out: a sample of sentences, judged by an LLM.

    `sentences` of each augmenter, drawn by `seed`, evenly over its whole corpus; the paper's authors labeled 150 by
    hand (App. A.2). `labels`: the file to_label.csv of this sample, labeled by a person, wholly or in part.
    """

    name: ClassVar[str] = "factuality"
    labels: str | None = None
    sentences: int = 150
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.sentences < 1:
            raise ConfigError(f"analysis.sentences: {self.sentences} found, 1 or more expected")
        check_confidence(self.confidence)
        if self.labels is not None and not Path(self.labels).expanduser().is_file():
            raise ConfigError(f"analysis.labels: {self.labels!r} is no file; give the labeled to_label.csv, or null")
        _ = self.judges

    def cache_key(self, volatile: Container[str]) -> Mapping[str, Any]:
        from entigraph.analysis.factuality.judge_requests import prompt

        labels = fingerprint(Path(self.labels).expanduser()) if self.labels else None
        prompts = {name: digest(prompt(name)) for name in ("judge_system", "judge")}
        return {**asdict(self), **self.chosen(volatile), "labels": labels, "prompts": prompts}

    def examine(self, corpora: Sequence["SyntheticCorpus"], out: Path, response_cache: Path, say: Say) -> list[str]:
        from entigraph.analysis.factuality.factuality import examine

        return examine(self, corpora, out, response_cache, say)
