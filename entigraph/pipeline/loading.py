"""Turns a composed config into a run; with an adaptive augmenter, into one run per round.

In round k of an adaptive augmenter (augmenter.selection=adaptive, augmenter.rounds=4), the texts are k / rounds of the
token budget. The run of a round needs the one before: its texts, and the evaluation of the student that was trained on
them. So each round has its own artifacts, which are planned, resumed and paid for like any others. The first
round is a run with augmenter.selection=uniform.
"""

import copy
from math import ceil

from omegaconf import DictConfig, open_dict

from entigraph.config.instantiate import BuiltComponents
from entigraph.config.validation import raise_if_problems
from entigraph.errors import ConfigError
from entigraph.pipeline.cache_keys import compute_artifacts
from entigraph.pipeline.compatibility import check_artifacts, check_components
from entigraph.pipeline.components import Components, build_components
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import check_allowed_variation
from entigraph.synthesis.augmenters.relation_order import Selection
from entigraph.synthesis.augmenters.student_feedback import DEFAULT_ROUNDS
from entigraph.synthesis.base import read_prompt

STUDENT_EVALUATION = {"statement_loss": {"_target_": "entigraph.evaluation.tasks.statement_loss.StatementLoss"}}


def load_run(config: DictConfig, known: BuiltComponents | None = None) -> Run:
    """Returns the run that a config describes; writes nothing. Raises ConfigError listing every problem.

    Runs that are loaded with one `known`, an empty dictionary at first, share the components that they have in common.
    """
    if not known:
        read_prompt.cache_clear()  # in a notebook, files may have been edited since
    earlier = load_previous_round(config, known)
    fields = build_components(config, known)
    components = Components(**fields)
    raise_if_problems(check_components(components))
    run = Run(**fields, artifacts=compute_artifacts(components), previous_round=earlier)
    raise_if_problems([*check_artifacts(run, run.artifacts), *check_allowed_variation(run)])
    return run


def load_previous_round(config: DictConfig, known: BuiltComponents | None) -> Run | None:
    """Returns the run whose student determines what this one writes next, and names its artifacts in the config."""
    earlier = previous_round_config(config)
    if earlier is None:
        return None
    run = load_run(earlier, known)
    with open_dict(config.augmenter):
        config.augmenter.student = str(run.artifacts.evaluation.folder)
        config.augmenter.earlier_texts = str(run.artifacts.synthesis.folder)
    return run


def previous_round_config(config: DictConfig) -> DictConfig | None:
    """Returns the config of the round before the last one of this config; None if its augmenter is not adaptive.

    Raises ConfigError without a token budget to divide.
    """
    rounds = config.augmenter.get("rounds", DEFAULT_ROUNDS)
    if config.augmenter.get("selection") != Selection.adaptive or rounds < 2:
        return None
    budget = config.synthesis.token_budget
    if budget is None:
        raise ConfigError(
            "synthesis.token_budget must be set with augmenter.selection=adaptive, which divides it; got null"
        )
    earlier = copy.deepcopy(config)
    options = {"rounds": rounds - 1} if rounds > 2 else {"selection": Selection.uniform.value, "target_loss": None}
    with open_dict(earlier.augmenter):
        earlier.augmenter.update({**options, "student": None, "earlier_texts": None})
    earlier.synthesis.token_budget = ceil(budget * (rounds - 1) / rounds)
    earlier.tokens.budget = None
    earlier.evaluation = STUDENT_EVALUATION
    earlier.baselines = {}
    return earlier
