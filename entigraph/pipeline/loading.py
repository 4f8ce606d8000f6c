"""Turns a composed config into a run."""

from omegaconf import DictConfig

from entigraph.config.validation import raise_if_problems
from entigraph.pipeline.cache_keys import compute_artifacts
from entigraph.pipeline.compatibility import check_artifacts, check_components
from entigraph.pipeline.components import Components, build_components
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import check_allowed_variation


def load_run(config: DictConfig) -> Run:
    """Returns the run that a config describes; writes nothing. Raises ConfigError listing every problem."""
    fields = build_components(config)
    components = Components(**fields)
    raise_if_problems(check_components(components))
    run = Run(**fields, artifacts=compute_artifacts(components))
    raise_if_problems([*check_artifacts(run, run.artifacts), *check_allowed_variation(run)])
    return run
