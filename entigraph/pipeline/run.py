"""One configuration: its components and the artifacts that they determine."""

from dataclasses import dataclass

from entigraph.pipeline.cache_keys import Artifacts
from entigraph.pipeline.components import Components


@dataclass(frozen=True, kw_only=True, eq=False)
class Run(Components):
    """The components of a configuration, which fit each other, and the artifacts that they determine.

    `previous_round` is the run whose student determines what an adaptive augmenter writes (pipeline/loading.py).
    """

    artifacts: Artifacts
    previous_round: "Run | None" = None

    @property
    def writes_texts(self) -> bool:
        """Whether the writer has texts to write."""
        return self.augmenter.needs_writer and not self.artifacts.synthesis.complete

    @property
    def writes_questions(self) -> bool:
        """Whether the writer has questions to write."""
        questions = self.artifacts.questions
        return self.questions.needs_writer and questions is not None and not questions.complete

    @property
    def judges_texts(self) -> bool:
        """Whether the writer has sentences to judge before the training."""
        return self.quality_gate.uses_judge and self.augmenter.needs_writer and not self.artifacts.training.complete
