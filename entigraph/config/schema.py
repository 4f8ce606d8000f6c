"""The shape of the root config: its keys, their types and their defaults. Groups are checked against their targets."""

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from entigraph.config.fields import check_minimums, check_shares, runtime_field
from entigraph.errors import ConfigError


class Command(StrEnum):
    """What `entigraph COMMAND` does with a configuration."""

    plan = "plan"
    preview = "preview"
    run = "run"
    analyze = "analyze"
    list = "list"
    clean = "clean"


class Stage(StrEnum):  # StrEnum, so that ${stage} reads "tokens" and not "Stage.tokens"
    corpus = "corpus"
    questions = "questions"
    retrieval = "retrieval"
    synthesis = "synthesis"
    tokens = "tokens"
    training = "training"
    evaluation = "evaluation"
    baselines = "baselines"


class NearDuplicates(StrEnum):
    ignore = "ignore"
    report = "report"
    remove = "remove"


@dataclass
class Paths:
    root: str = "outputs"


@dataclass
class Synthesis:
    """Settings of the synthesis stage: stopping, retries, failures and near-duplicates. See conf/config.yaml."""

    token_budget: int | None = None
    seed: int = 0
    max_retries: int = 0
    max_entity_retries: int = 2
    detect_refusals: bool = True
    max_failure_rate: float = runtime_field(0.2)
    near_duplicates: NearDuplicates = NearDuplicates.report
    similarity: float = 0.8

    def __post_init__(self) -> None:
        check_minimums(self, "synthesis.", token_budget=1, max_retries=0, max_entity_retries=0)
        check_shares(self, "synthesis.", "max_failure_rate")
        if not 0 < self.similarity <= 1:
            raise ConfigError(f"synthesis.similarity must be above 0 and at most 1, got {self.similarity}")

    @property
    def graph_retries(self) -> int:
        """Returns the maximum number of retries for an entity list."""
        return max(self.max_retries, self.max_entity_retries)


class GateMode(StrEnum):
    off = "off"
    report = "report"
    stop = "stop"


@dataclass
class QualityGate:
    """Checks of the texts before training; `max_*` are maximum fractions. See conf/config.yaml."""

    mode: GateMode = GateMode.off
    sample: int = 2_000
    min_tokens: int = 20
    max_short: float = 0.05
    max_refusals: float = 0.01
    max_repetitive: float = 0.05
    max_repeated_ngrams: float = 0.3
    max_other_language: float = 0.01
    max_copied: float = 0.2
    max_copied_ngrams: float = 0.5
    max_quoting: float = 0.0
    judged_sentences: int = 0
    max_unsupported: float = 0.2

    def __post_init__(self) -> None:
        check_minimums(self, "quality_gate.", sample=1, judged_sentences=0)
        shares = (field.name for field in fields(self) if field.name.startswith("max_"))
        check_shares(self, "quality_gate.", *shares)

    @property
    def uses_judge(self) -> bool:
        """Returns whether sentences are judged by the writer."""
        return self.mode is not GateMode.off and self.judged_sentences > 0


@dataclass
class Preview:
    """What `entigraph preview` writes: `texts` texts of each kind, about the first `documents` documents."""

    texts: int = 1
    documents: int = 3

    def __post_init__(self) -> None:
        check_minimums(self, "preview.", texts=1, documents=1)


@dataclass
class Tokens:
    """Which texts a run trains on, and how they are packed. See conf/config.yaml."""

    budget: int | None = None
    block_length: int | None = None
    too_long: str = "skip"
    text_layout: str = "separate"
    encoder: str = runtime_field("auto")
    changed_since: str | None = None
    exclude_documents: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_minimums(self, "tokens.", budget=1)
        if self.text_layout == "stitched" and self.block_length is not None:
            raise ConfigError(
                f"tokens.block_length must be null with tokens.text_layout=stitched, got {self.block_length}: stitched "
                "texts are longer than a block"
            )
        choices = {
            "too_long": ("skip", "truncate"),
            "encoder": ("auto", "tokenizers"),
            "text_layout": ("separate", "stitched"),
        }
        for key, valid in choices.items():
            if getattr(self, key) not in valid:
                raise ConfigError(f"tokens.{key} must be {' or '.join(valid)}, got {getattr(self, key)!r}")


@dataclass
class StudySettings:
    """The study that a run belongs to. `allow_varying` names settings in which its runs may differ.

    The augmenter, budget and seed may always differ. `private` makes `entigraph publish` refuse the study's artifacts.
    """

    name: str = "study"
    allow_varying: list[str] = field(default_factory=list)
    private: bool = False

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise ConfigError(f"study.name must be a folder name without / or a leading dot, got {self.name!r}")


@dataclass
class Need:
    """An experiment whose artifacts a run reads, with overrides of it. See pipeline/dependencies.py."""

    experiment: str = MISSING
    overrides: list[str] = field(default_factory=list)


@dataclass
class Root:
    """`seed` determines the initial weights, the data order and the texts sampled for the budget, and nothing else.

    `command` is set by the subcommand on the command line. `stage` runs a single stage. `style`: matplotlib style of
    the figures.
    """

    command: Command | None = None
    stage: Stage | None = None
    why: bool = False
    clean: bool = False
    unfinished: bool = False
    style: str | None = None
    study: StudySettings = field(default_factory=StudySettings)
    seed: int = 0
    needs: list[Need] = field(default_factory=list)
    sweep: dict[str, Any] = field(default_factory=dict)
    paths: Paths = field(default_factory=Paths)
    corpus: Any = MISSING
    questions: Any = MISSING
    augmenter: Any = MISSING
    llm: Any = MISSING
    synthesis: Synthesis = field(default_factory=Synthesis)
    preview: Preview = field(default_factory=Preview)
    quality_gate: QualityGate = field(default_factory=QualityGate)
    tokenizer: Any = MISSING
    tokens: Tokens = field(default_factory=Tokens)
    data: Any = MISSING
    model: Any = MISSING
    module: Any = MISSING
    optim: Any = MISSING
    scheduler: Any = MISSING
    trainer: Any = MISSING
    callbacks: dict[str, Any] = field(default_factory=dict)
    retriever: Any = MISSING
    engine: Any = MISSING
    evaluation: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, Any] = field(default_factory=dict)
    analysis: Any = MISSING
    logger: dict[str, Any] = field(default_factory=dict)


# Groups with a single `_target_` node, and groups of named nodes. `module`, `callbacks` and `logger` are built when
# training starts, because their classes import torch.
COMPONENTS = tuple(field.name for field in fields(Root) if field.default == MISSING and field.name != "module")
NAMED_COMPONENTS = ("evaluation", "baselines")


def register() -> None:
    """Makes the schema known to Hydra."""
    ConfigStore.instance().store(name="schema", node=Root)


def selected_command(config: DictConfig) -> Command:
    """Returns the subcommand; without one, a configuration is planned unless it names a stage to run."""
    if config.command is not None:
        return Command(config.command)
    return Command.plan if config.stage is None else Command.run
