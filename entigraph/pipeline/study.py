"""What a run is to others: the study where it meets its like, its entry there, and how it is tracked."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from entigraph.pipeline.run import Run
from entigraph.storage import artifact
from entigraph.storage.artifact import Artifact
from entigraph.storage.fingerprints import digest
from entigraph.tracking.base import RunInfo, Tracker


@dataclass(frozen=True)
class Study:
    """Of one run."""

    run: Run

    def headline(self, counts: Mapping[str, Any]) -> dict[str, Any]:
        """The keys a scatter of accuracy against synthetic_tokens by augmenter is made of."""
        tokens = artifact.read_manifest(self.run.tokens.folder)["counts"]["synthetic_tokens"]
        first: Mapping[str, Any] = next((score for score in counts.values() if "accuracy" in score), {})
        names = ("accuracy", "nats_per_token", "bits_per_byte")
        others = {f"{task}/{name}": score[name] for task, score in counts.items() for name in names if name in score}
        others |= {
            f"{task}/{name}": value
            for task, score in counts.items()
            for name, value in score.get("metrics", {}).items()
        }
        return {
            "augmenter": self.run.augmenter.name,
            "synthetic_tokens": tokens,
            "seed": self.run.seed,
            "accuracy": first.get("accuracy"),
            "label": self.run.label,
            **others,
        }

    def result(self) -> dict[str, Any]:
        """The headline of a run whose evaluation is complete; empty otherwise."""
        if not self.run.tasks or not self.run.evaluation.complete:
            return {}
        return self.headline(artifact.read_manifest(self.run.evaluation.folder)["counts"])

    @property
    def info(self) -> RunInfo:
        """One tracked run holds a job's training and its scores."""
        own_id = digest([self.run.training.key, self.run.evaluation.key if self.run.tasks else None])
        return self.tracked_as(own_id, self.run.readable_name, "train", [self.run.augmenter.name])

    def info_of(self, made: Artifact) -> RunInfo:
        """Of what several jobs may share: a tracked run of its own, the same whichever of them makes it."""
        name = made.folder.name
        return self.tracked_as(f"{made.stage}-{name}", name, made.stage, [])

    @contextmanager
    def opened_when_needed(self, made: Artifact | None = None) -> Iterator[Callable[[], Tracker]]:
        """The job's tracked run, or that of an artifact which it made; begins where something is to be tracked."""
        with ExitStack() as stack:
            opened: list[Tracker] = []

            def tracker() -> Tracker:
                if not opened:
                    info = self.info_of(made) if made else self.info
                    opened.append(stack.enter_context(self.run.logger.run(info, self.run.root)))
                return opened[0]

            yield tracker

    @property
    def analysis_info(self) -> RunInfo:
        return self.tracked_as(f"{self.folder.name}-analysis", f"{self.run.config.study} analysis", "analysis", [])

    def tracked_as(self, own_id: str, name: str, job_type: str, tags: Sequence[str]) -> RunInfo:
        resolved = OmegaConf.to_container(self.run.config, resolve=True)
        assert isinstance(resolved, dict)
        return RunInfo(
            id=own_id,
            name=name,
            group=self.folder.name,
            job_type=job_type,
            tags=[self.run.corpus.name, self.run.model.name, *tags],
            # W&B groups by plain values of the config only: the augmenter's name stands there, its options beside it.
            config={**resolved, "augmenter": self.run.augmenter.name, "augmenter_options": resolved["augmenter"]},  # type: ignore[dict-item]
        )

    @property
    def folder(self) -> Path:
        """Where the runs meet that differ in augmenter, budget and seed only, and in what `study_varies` names."""
        return self.run.root / "studies" / f"{self.run.config.study}-{digest(self.settings)}"

    @property
    def settings(self) -> dict[str, Any]:
        settings = self.run.settings
        for key in self.run.config.study_varies:
            *parents, name = key.split(".")
            reduce(lambda held, parent: held.get(parent, {}), parents, settings).pop(name, None)
        return settings

    def member(self) -> dict[str, Any]:
        """This run as its study keeps it: what it is and where its parts are, relative to paths.root."""
        parts = {
            "corpus": self.run.documents,
            "synthesis": self.run.synthesis,
            "tokens": self.run.tokens,
            "training": self.run.training,
            "evaluation": self.run.evaluation,
            "baseline": self.run.baseline,
        }
        return {
            "augmenter": self.run.augmenter.name,
            "budget": self.run.config.tokens.budget,
            "seed": self.run.seed,
            "writer": self.run.llm.name if self.run.augmenter.needs_writer else None,
            "label": self.run.label,
            "repeats": self.run.augmenter.repeats,
            **({"varies": varies} if (varies := self.run.varied()) else {}),
            **{name: str(part.folder.relative_to(self.run.root)) for name, part in parts.items() if part},
        }
