"""The rounds of an adaptive augmenter (augmenter.selection=adaptive, augmenter.rounds=4).

In round k, the texts are k / rounds of the token budget. The run of a round needs the one before: its texts, and the
evaluation of the student that was trained on them. So each round has artifacts of its own, which are planned, resumed
and paid for as those of any run. The first round is a run with augmenter.selection=uniform.
"""

import copy
from math import ceil

from omegaconf import DictConfig, open_dict

from entigraph.errors import ConfigError
from entigraph.synthesis.augmenters.relation_order import Selection
from entigraph.synthesis.augmenters.student_feedback import DEFAULT_ROUNDS

STUDENT_EVALUATION = {"statement_loss": {"_target_": "entigraph.evaluation.tasks.statement_loss.StatementLoss"}}


def previous_round(config: DictConfig) -> DictConfig | None:
    """Returns the config of the round before the last one of this config; None if its augmenter is not adaptive.

    Raises ConfigError without a token budget to divide.
    """
    rounds = config.augmenter.get("rounds", DEFAULT_ROUNDS)
    if config.augmenter.get("selection") != Selection.adaptive or rounds < 2:
        return None
    budget = config.synthesis.token_budget
    if budget is None:
        raise ConfigError(
            "synthesis.token_budget: null found with augmenter.selection=adaptive; set the budget to divide"
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
