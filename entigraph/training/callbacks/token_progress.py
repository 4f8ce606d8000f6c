"""The progress bar of a training run."""

from typing import Any, cast

import lightning as L

from entigraph.runtime.progress import Advance, advance_silently
from entigraph.training.datamodule import SyntheticDataModule
from entigraph.training.module import is_step_end


class TokenProgress(L.Callback):
    """Advances the stage's progress bar by the tokens of each optimizer step. Training sets `advance`."""

    advance: Advance = staticmethod(advance_silently)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        schedule = cast(SyntheticDataModule, cast(Any, trainer).datamodule).schedule
        self.tokens_per_step = schedule.batch_size * schedule.context_length
        self.advance(trainer.global_step * self.tokens_per_step, resumed=True)  # steps before the resumed checkpoint

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any) -> None:
        if is_step_end(trainer):
            self.advance(self.tokens_per_step)
