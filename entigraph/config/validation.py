"""Checks a composed config as a whole, before anything is built or paid for; all its problems are one error."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from entigraph.config.composition import home
from entigraph.config.instantiate import (
    HYDRA_KEYS,
    BuiltComponent,
    BuiltComponents,
    build_all,
    inspect_target,
    resolve_target,
)
from entigraph.config.overrides import explain_comma, explain_syntax_error
from entigraph.config.schema import COMPONENTS, NAMED_COMPONENTS, Need, Root
from entigraph.config.suggestions import did_you_mean
from entigraph.errors import ConfigError, EntigraphError

SECTIONS = {name: kind for name, kind in get_type_hints(Root).items() if isinstance(kind, type) and is_dataclass(kind)}
HEADING, BULLET = "the configuration has problems:", "  - "
UNKNOWN_KEY = re.compile(r"Could not override '([\w.@/]+)'")
UNKNOWN_GROUP = re.compile(r"Could not override '(\w+)/(\w+)'")
INVALID_VALUE = re.compile(r"(.+)\n(?:.*\n)*?\s*full_key: (\S+)")
INVALID_CHOICE = re.compile(r"Invalid value '(.*)', expected one of \[(.+)\]")
INVALID_TYPE = re.compile(r"(\S+): Value (.*) (?:of type '\w+' could not be converted to|is not a valid) (\w+)")
EXPECTED_TYPES = {"Integer": "an integer", "Float": "a number", "Boolean": "true or false", "bool": "true or false"}
AMBIGUOUS = re.compile(r"^Ambiguous value for argument '(.+)'$", re.MULTILINE)
UNKNOWN_OPTION = re.compile(r"Could not (?:find|load) '([^'/]+/[^']+)'")
CONFIG_FOLDER = re.compile(r"path=file://(.+)$", re.MULTILINE)


def validate(
    config: DictConfig,
    replaced: Mapping[str, DictConfig] | None = None,
    further_problems: Callable[[Mapping[str, BuiltComponent]], list[str]] = lambda built: [],
    known: BuiltComponents | None = None,
) -> dict[str, BuiltComponent]:
    """Returns every component by config path. Raises one ConfigError that lists every problem of every component.

    `replaced` are nodes that are built instead of the config's; `known` are described in `build_all`.
    """
    problems = unknown_keys(config, Root, "")
    for section, kind in SECTIONS.items():
        unknown = unknown_keys(config[section], kind, f"{section}.")
        problems += unknown or collect_problems(OmegaConf.to_object, config[section])
    nodes = {**dict(component_nodes(config, problems)), **(replaced or {})}
    components, invalid = build_all(nodes.items(), known)
    raise_if_problems(problems + invalid + further_problems(components))
    return components


def component_nodes(config: DictConfig, problems: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields the config path and the node of every component; appends those that are not chosen to `problems`."""
    for group in COMPONENTS:
        if OmegaConf.is_missing(config, group):
            problems.append(f"{group}: not chosen; '{group}=?' lists the options")
        else:
            yield group, config[group]
    for group in NAMED_COMPONENTS:
        for name, node in config[group].items():
            yield f"{group}.{name}", node


def resolve_root(config: DictConfig) -> None:
    """Makes `paths.root` absolute: a relative path is taken from the working directory."""
    config.paths.root = str(Path(config.paths.root).expanduser().resolve())


def unknown_keys(node: DictConfig, kind: type, prefix: str) -> list[str]:
    """Returns a line for each key that nothing reads; keys added with + pass Hydra's own check."""
    known = [field.name for field in fields(kind)]
    unknown = [name for name in map(str, node) if name not in known and name != "hydra"]
    return [f"{prefix}{name}: unknown; {did_you_mean(name, known)}" for name in unknown]


def explain_composition_error(
    message: str, overrides: Sequence[str], compose: Callable[[list[str]], DictConfig]
) -> str | None:
    """Returns Hydra's message about overrides that it cannot read or apply, as one line; else None."""
    if ambiguous := AMBIGUOUS.search(message):
        return explain_comma(ambiguous[1])
    if message.startswith("Can only enumerate"):
        return "interval() is for sweepers that sample, such as hydra/sweeper=optuna; the default takes lists, range()"
    return explain_syntax_error(overrides) or explain_override_error(message, overrides, compose)


def explain_override_error(
    message: str, overrides: Sequence[str], compose: Callable[[list[str]], DictConfig]
) -> str | None:
    """Returns Hydra's message about a key, an option or a value that does not exist, as one line; else None.

    `compose` returns the config of some overrides: which keys exist depends on the options that are chosen.
    """
    if match := UNKNOWN_OPTION.search(message):
        group, option = split_option(match[1], overrides)
        known = group_options(group, CONFIG_FOLDER.findall(message))
        if option == "?" and known:
            return f"options of {group}: {', '.join(known)}"
        return f"{group}={option}: no such option; {did_you_mean(option, known)}" if known else None
    if (match := UNKNOWN_GROUP.match(message)) and (options := options_with_group(*match.groups())):
        group, nested = match.groups()
        return f"{group}/{nested}: not available for this {group}; {choose_option(options)}"
    if match := UNKNOWN_KEY.match(message):
        key = match[1]
        others = [override for override in overrides if override.partition("=")[0].lstrip("+~") != key]
        try:
            config = compose(others)
        except Exception:  # another override is wrong too
            config = None
        given = [override for override in overrides if override not in others]
        return next(unknown_inside(key, given, config), None) or suggest_key(key, config)
    if match := INVALID_VALUE.match(message):
        return explain_value(match[2], match[1])
    return None


def explain_value(key: str, problem: str) -> str:
    """Returns OmegaConf's message about a value of the wrong type as one line, with the closest of its choices."""
    if match := INVALID_CHOICE.fullmatch(problem):
        value, choices = match.groups()
        return f"{key}: invalid value {value!r}; {did_you_mean(value, choices.split(', '))}"
    return explain_type(f"{key}: {problem}")


def explain_type(line: str) -> str:
    """Returns a line, in which OmegaConf says that a value has the wrong type, as all other checks of values say it."""
    match = INVALID_TYPE.match(line)
    if not match or match[3] not in EXPECTED_TYPES:
        return line
    return f"{match[1]} must be {EXPECTED_TYPES[match[3]]}, got {match[2]}"


def split_option(path: str, overrides: Sequence[str]) -> tuple[str, str]:
    """Returns the group and the option of a path such as `model/adapter/lora`, by the override that selects it."""
    keys = [override.partition("=")[0].lstrip("+~").partition("@")[0] for override in overrides]
    group = max((key for key in keys if path.startswith(f"{key}/")), key=len, default=path.partition("/")[0])
    return group, path.removeprefix(f"{group}/")


def group_options(group: str, folders: Sequence[str]) -> list[str]:
    """Returns the names of a group's options in some config folders; options of nested groups include their folder."""
    files = [(file, Path(folder, group)) for folder in folders for file in Path(folder, group).rglob("*.yaml")]
    return sorted({str(file.relative_to(parent).with_suffix("")) for file, parent in files})


def options_with_group(group: str, nested: str) -> list[str]:
    """Returns the built-in options of a group with a nested group, such as `model=llama3_8b` with an adapter."""
    files = sorted((home() / "conf" / group).glob("*.yaml"))
    defaults = {file.stem: list(OmegaConf.select(OmegaConf.load(file), "defaults", default=[])) for file in files}
    direct = [
        name for name, entries in defaults.items() if any(nested in entry for entry in entries if entry not in defaults)
    ]
    names = [name for name, entries in defaults.items() if name in direct or any(entry in direct for entry in entries)]
    return [f"{group}={name}" for name in names]


def options_with_key(key: str) -> list[str]:
    """Returns the built-in options of a group that have a key, such as llm=openai for `llm.model`."""
    group, _, name = key.partition(".")
    files = sorted((home() / "conf" / group).glob("*.yaml")) if name else []
    return [f"{group}={file.stem}" for file in files if name in OmegaConf.load(file)]


def choose_option(options: Sequence[str]) -> str:
    return f"choose {'one of ' * (len(options) > 1)}{', '.join(options)}" if options else ""


def unknown_inside(key: str, overrides: Sequence[str], config: DictConfig | None) -> Iterator[str]:
    """Yields a line for each unknown key in the mapping, or the list of mappings, that overrides give to a key."""
    node = OmegaConf.select(config, key) if config is not None else None
    known = [field.name for field in fields(Need)] if key == "needs" else known_keys(node)
    for override in OverridesParser.create().parse_overrides(list(overrides)) if known else ():
        value: Any = override.value()
        entries = {f"{key}[{index}]": part for index, part in enumerate(value)} if key == "needs" else {key: value}
        for path, entry in entries.items():
            unknown = [str(name) for name in entry if str(name) not in known] if isinstance(entry, dict) else []
            yield from (f"{path}.{name}: unknown; {did_you_mean(name, known)}" for name in unknown)


def suggest_key(key: str, config: DictConfig | None) -> str:
    """Returns a line about a key that a composed config does not have, with the closest names at that level."""
    node: Any = config
    known: list[str] = [field.name for field in fields(Root)]
    owner = parent = ""
    for name in key.split("."):
        if name not in known:
            hint = choose_option(options_with_key(key)) or did_you_mean(name, known)
            return f"{key}: unknown{f' to {parent}' if parent else ''}; {hint}"
        owner, parent = parent, name
        node = node.get(name) if isinstance(node, DictConfig) and not OmegaConf.is_missing(node, name) else None
        if isinstance(node, DictConfig) and node.get("_target_"):
            parent = str(node["_target_"]).rpartition(".")[2]
        known = known_keys(node)
    return f"{key}: {owner} takes it, but the chosen option does not set it; write +{key}=VALUE"


def known_keys(node: Any) -> list[str]:
    """Returns the keys that a node has or that its target takes."""
    if not isinstance(node, DictConfig):
        return []
    names = [str(name) for name in node if name not in HYDRA_KEYS]
    if node.get("_target_"):
        with suppress(ConfigError):
            names += inspect_target(resolve_target(node["_target_"])).annotations
    return list(dict.fromkeys(names))


def raise_if_problems(problems: Sequence[str]) -> None:
    if problems:
        lines = dict.fromkeys(map(explain_type, problems))
        raise ConfigError("\n".join([HEADING, *(f"{BULLET}{line}" for line in lines)]))


def listed_problems(error: ConfigError) -> list[str]:
    """Returns the problems that an error lists."""
    return [line.removeprefix(BULLET) for line in str(error).splitlines() if line != HEADING]


def collect_problems(check: Callable[..., Any], *arguments: Any) -> list[str]:
    """Returns the message of the EntigraphError that a check raises, as a list; empty where it raises none."""
    try:
        check(*arguments)
    except EntigraphError as error:
        return [str(error)]
    return []
