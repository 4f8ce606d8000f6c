"""One configuration: its components and the artifacts that they decide."""

from dataclasses import dataclass

from entigraph.pipeline.cache_keys import Artifacts
from entigraph.pipeline.components import Components


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(Components):
    """The components of a configuration, which fit each other, and the artifacts that they decide."""

    artifacts: Artifacts
