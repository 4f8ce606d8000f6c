"""Turns a composed config into a run."""

from omegaconf import DictConfig, open_dict

from entigraph.config.instantiate import BuiltComponents
from entigraph.config.validation import raise_if_problems
from entigraph.pipeline.adaptive_rounds import previous_round
from entigraph.pipeline.cache_keys import compute_artifacts
from entigraph.pipeline.compatibility import check_artifacts, check_components
from entigraph.pipeline.components import Components, build_components
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import check_allowed_variation


def load_run(config: DictConfig, known: BuiltComponents | None = None) -> Run:
    """Returns the run that a config describes; writes nothing. Raises ConfigError listing every problem.

    Runs that are loaded with one `known`, an empty dictionary at first, share the components that they have in common.
    """
    earlier = load_previous_round(config, known)
    fields = build_components(config, known)
    components = Components(**fields)
    raise_if_problems(check_components(components))
    run = Run(**fields, artifacts=compute_artifacts(components), previous_round=earlier)
    raise_if_problems([*check_artifacts(run, run.artifacts), *check_allowed_variation(run)])
    return run


def load_previous_round(config: DictConfig, known: BuiltComponents | None) -> Run | None:
    """Returns the run whose student decides what this one writes next, and names its artifacts in the config."""
    earlier = previous_round(config)
    if earlier is None:
        return None
    run = load_run(earlier, known)
    with open_dict(config.augmenter):
        config.augmenter.student = str(run.artifacts.evaluation.folder)
        config.augmenter.earlier_texts = str(run.artifacts.synthesis.folder)
    return run
