"""The Hydra callback that turns a multirun into a study."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

STUDY_SWEEPER = "hydra_plugins.entigraph_study_sweeper.StudySweeper"


class StudyCallback(Callback):
    """Wraps whatever `hydra.sweeper` is configured in a `StudySweeper`.

    An exception in a Hydra callback becomes a warning and the sweep goes on; one in a sweeper ends it. So everything
    that may fail happens in the sweeper.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with flag_override(config, ["readonly", "struct"], False):
            config.hydra.sweeper = {"_target_": STUDY_SWEEPER, "_recursive_": False, "sweeper": config.hydra.sweeper}
