"""One configuration: its components and the artifacts that they decide."""

from dataclasses import dataclass

from entigraph.pipeline.cache_keys import Artifacts
from entigraph.pipeline.components import Components


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(Components):
    """The components of a configuration, which fit each other, and the artifacts that they decide.

    `previous_round` is the run whose student decides what an adaptive augmenter writes (pipeline/adaptive_rounds.py).
    """

    artifacts: Artifacts
    previous_round: "Run | None" = None
