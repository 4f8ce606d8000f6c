"""What the paper's figures and tables are told, and those that a study's own are drawn like."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from entigraph.errors import ConfigError
from entigraph.llm.base import Say

if TYPE_CHECKING:
    from entigraph.analysis.examinations import SyntheticCorpus
    from entigraph.analysis.study_runs import FinishedRun


@dataclass(frozen=True, kw_only=True)
class PaperCurve:
    """One of the paper's figures of accuracy against tokens, by `name`, from what it publishes of it; a study's own
    curve beside it where it has finished runs."""

    name: str
    reads_runs: ClassVar[bool] = True

    def __post_init__(self) -> None:
        from entigraph.analysis.paper.published import CURVES

        if self.name not in CURVES:
            raise ConfigError(f"analysis.name: {self.name!r} found, one of {', '.join(CURVES)} expected")

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.paper.paper_figures import paper_curve

        return paper_curve(self.name, runs, out)


@dataclass(frozen=True, kw_only=True)
class MixtureFit:
    """The paper's Fig. 4: its three-exponential fit and ours on points of it; a study's own points beside it."""

    name: ClassVar[str] = "mixture_fit"
    reads_runs: ClassVar[bool] = True
    points: int = 12

    def __post_init__(self) -> None:
        if self.points < 8:
            raise ConfigError(f"analysis.points: {self.points} found; seven parameters need 8 or more")

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.paper.mixture_fit import mixture_fit

        return mixture_fit(self, runs, out)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The paper's Table 1: the tokens of other continued pretrainings."""

    name: ClassVar[str] = "survey"
    reads_runs: ClassVar[bool] = False

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.paper.survey import survey

        return survey(out)


@dataclass(frozen=True, kw_only=True)
class RagTable:
    """The paper's Table 3, and below it a study's own models with passages and without."""

    name: ClassVar[str] = "rag_table"
    reads_runs: ClassVar[bool] = True

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.paper.rag_table import rag_table

        return rag_table(runs, out)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Accuracy over the settings in which a study's runs differ, as panels and as a table."""

    name: ClassVar[str] = "grid"
    reads_runs: ClassVar[bool] = True

    def draw(self, runs: Sequence["FinishedRun"], out: Path) -> list[str]:
        from entigraph.analysis.scaling.grid import grid

        return grid(runs, out)


@dataclass(frozen=True, kw_only=True)
class Histograms:
    """Documents by their tokens, their entities and their synthetic tokens (paper Fig. 7)."""

    name: ClassVar[str] = "histograms"

    def cache_key(self, volatile: Container[str]) -> Mapping[str, Any]:
        return {}

    def check(self) -> None:
        pass

    def examine(self, corpora: Sequence["SyntheticCorpus"], out: Path, response_cache: Path, say: Say) -> list[str]:
        from entigraph.analysis.paper.histograms import examine

        return examine(corpora, out)
