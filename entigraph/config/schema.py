"""The shape of the root config, the building of its components, and the check that runs before any stage does."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from entigraph.config.instantiate import build_all
from entigraph.errors import ConfigError, EntigraphError


class Command(StrEnum):
    """What `entigraph COMMAND` does with a configuration."""

    plan = "plan"
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
    """`token_budget` ends generation once so many tokens exist; null: when the augmenter has nothing more to ask.

    An answer that gave no text is asked for again up to `reask_failures` times; the stage stops where more than the
    share `max_lost` is lost. `near_duplicates`: ignore, report or remove texts more alike than `similarity`.
    """

    token_budget: int | None = None
    seed: int = 0
    reask_failures: int = 0
    max_lost: float = 0.2
    near_duplicates: NearDuplicates = NearDuplicates.report
    similarity: float = 0.8


@dataclass
class Tokens:
    """`budget` is the longest prefix of whole texts within so many tokens; null: all of them.

    `block_length`: texts lie whole in blocks of so many tokens; one that is longer is skipped, or cut (`too_long`).
    `encoder` auto: gigatoken where it agrees with Hugging Face's tokenizers; tokenizers: never.
    """

    budget: int | None = None
    block_length: int | None = None
    too_long: str = "skip"
    encoder: str = "auto"


@dataclass
class Root:
    """`seed` decides the initial weights, the order of training and the draw of the budget; nothing else follows it.

    `command` is set by the subcommand on the command line; `stage` runs that stage alone.
    `study_varies` names settings in which runs of one study may differ beside augmenter, budget and seed.
    """

    command: Command | None = None
    stage: Stage | None = None
    clean: bool = False
    study: str = "study"
    study_varies: list[str] = field(default_factory=list)
    seed: int = 0
    needs: list[str] = field(default_factory=list)
    sweep: dict[str, Any] = field(default_factory=dict)
    paths: Paths = field(default_factory=Paths)
    corpus: Any = MISSING
    questions: Any = MISSING
    augmenter: Any = MISSING
    llm: Any = MISSING
    synthesis: Synthesis = field(default_factory=Synthesis)
    tokenizer: Any = MISSING
    tokens: Tokens = field(default_factory=Tokens)
    data: Any = MISSING
    model: Any = MISSING
    optim: Any = MISSING
    trainer: Any = MISSING
    retriever: Any = MISSING
    engine: Any = MISSING
    evaluation: dict[str, Any] = field(default_factory=dict)
    baselines: dict[str, Any] = field(default_factory=dict)
    analysis: Any = MISSING
    logger: Any = MISSING


def selected_command(config: DictConfig) -> Command:
    """Returns the subcommand; without one, a configuration is planned unless it names a stage to run."""
    if config.command is not None:
        return Command(config.command)
    return Command.plan if config.stage is None else Command.run


PARTS: dict[str, type] = {"paths": Paths, "synthesis": Synthesis, "tokens": Tokens}  # whose keys are fixed
COMPONENTS = (
    "corpus",
    "questions",
    "augmenter",
    "llm",
    "tokenizer",
    "data",
    "model",
    "optim",
    "trainer",
    "retriever",
    "engine",
    "analysis",
    "logger",
)


def register() -> None:
    """Make the schema and the resolvers known to Hydra and OmegaConf."""
    ConfigStore.instance().store(name="schema", node=Root)
    OmegaConf.register_new_resolver("absolute", lambda path: str(Path(path).expanduser().resolve()), replace=True)
    OmegaConf.register_new_resolver("choices", lambda values: ",".join(map(str, values)), replace=True)
    OmegaConf.register_new_resolver("cores", cores, replace=True)
    OmegaConf.register_new_resolver("largest", largest, replace=True)


def cores() -> int:
    """Those that this process may use, by affinity and by quota."""
    from joblib import cpu_count

    return int(cpu_count())


def largest(values: list[int], other: int | None) -> int:
    """The largest of a study's budgets, and of one that was asked for beside them."""
    return max(*values, other) if other is not None else max(values)


def settle_root(config: DictConfig) -> None:
    """A paths.root that was typed is taken from where the command runs, like the default."""
    config.paths.root = str(Path(config.paths.root).expanduser().resolve())


def validate(config: DictConfig) -> dict[str, Any]:
    """Returns every component by its key. Raises one ConfigError that lists every problem of every component."""
    problems = unknown_keys(config, Root, "")
    for key, kind in PARTS.items():
        problems += unknown_keys(config[key], kind, f"{key}.")
    nodes = list(components(config, problems))
    built, invalid = build_all(nodes)
    refuse(problems + invalid)
    return built


def known_keys(group: str | None = None) -> list[str]:
    """Those of the root, or of a part of it whose keys are fixed; empty for any other."""
    kind = PARTS.get(group) if group else Root
    return [found.name for found in dataclasses.fields(kind)] if kind else []


def unknown_keys(node: DictConfig, kind: type, prefix: str) -> list[str]:
    """A key that was added with + is no option: nobody would read it."""
    known = [found.name for found in dataclasses.fields(kind)]
    return [
        f"{prefix}{name}: unknown; did you mean {' or '.join(get_close_matches(name, known) or known)}?"
        for name in map(str, node)
        if name not in known and name != "hydra"
    ]


def components(config: DictConfig, problems: list[str]) -> Iterator[tuple[str, Any]]:
    for key in COMPONENTS:
        if OmegaConf.is_missing(config, key):
            problems.append(f"{key}: not chosen; {key}=? lists the options")
        else:
            yield key, config[key]
    for group in ("evaluation", "baselines"):
        for name, node in config[group].items():
            yield f"{group}.{name}", node


def refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError(
            "the configuration has problems:\n" + "\n".join(f"  - {line}" for line in dict.fromkeys(problems))
        )


def problem_of(check: Any, *arguments: Any) -> list[str]:
    """What a check complains of, as a list to add to others."""
    try:
        check(*arguments)
    except EntigraphError as error:
        return [str(error)]
    return []
