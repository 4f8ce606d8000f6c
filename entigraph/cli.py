"""The command line: entigraph [COMMAND] [experiments=<name>] [stage=<stage>] [key=value ...]

`entigraph ask|chat|ui|publish|export` use finished runs. They have no configuration, but their own options.
"""

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from uuid import uuid4

import hydra
from omegaconf import DictConfig

from entigraph import __version__
from entigraph.config.composition import compose_config, home
from entigraph.config.overrides import normalize_overrides
from entigraph.config.schema import Command, Stage, selected_command
from entigraph.config.suggestions import did_you_mean
from entigraph.config.validation import explain_composition_error
from entigraph.errors import ConfigError, EntigraphError
from entigraph.llm.cost import COMMAND_VARIABLE
from entigraph.pipeline import dry_run, execution, preview
from entigraph.pipeline.analysis_step import analyze
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.registration import register_config
from entigraph.runtime.devices import use_expandable_segments
from entigraph.runtime.progress import TerminalProgress
from entigraph.sweep.multirun import print_artifacts
from entigraph.sweep.sweep_job import is_sweep_job, run_sweep_job
from entigraph.text.normalization import normalize_text

USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 70, 130
TOOLS = {  # imported on use
    "ask": "entigraph.chat.chat_command:ask_main",
    "chat": "entigraph.chat.chat_command:chat_main",
    "ui": "entigraph.ui.ui_command:ui_main",
    "publish": "entigraph.publish.publish_command:publish_main",
    "export": "entigraph.publish.export_command:export_main",
}


PLUGIN_COMMANDS = {"optuna": "pip install hydra-optuna-sweeper 'optuna<3'"}

register_config()  # at import, because a launcher's worker processes only import this module


class HydraTask:
    """The function that Hydra calls with each composed configuration.

    Keeps the exception of a single run for `main`, because Hydra would print it in its own form.
    """

    error: Exception | None = None

    def __call__(self, config: DictConfig) -> float | None:
        if is_sweep_job():
            make_working_directory_importable()  # a launcher may have started this process
            return run_sweep_job(config)
        try:
            execute(config)
        except Exception as error:
            self.error = error
        return None


def execute(config: DictConfig) -> None:
    """Executes the selected command for one configuration."""
    command = selected_command(config)
    if command in (Command.list, Command.clean):
        print_artifacts(config)
        return
    run = load_run(config)
    if command is Command.plan:
        arguments = [word for word in sys.argv[1:] if word not in ("command=plan", "why=true")]
        print(normalize_text("\n".join(dry_run.render_plan(run, arguments))))
    elif command is Command.preview:
        for text in preview.render_preview(run, TerminalProgress()):
            print(normalize_text(text))
    elif command is Command.analyze:
        analyze(run)
    elif config.stage is None:
        check_launcher()
        complete = execution.is_complete(run)
        execution.run_pipeline(run, TerminalProgress())
        execution.print_result(run, complete)
    else:
        execution.run_stage(run, config.stage, TerminalProgress())
        if config.stage is Stage.baselines:
            execution.print_baselines(run)


def check_launcher() -> None:
    """Raises ConfigError for a cluster without a sweep: training would run here, on the submitting machine."""
    from hydra.core.hydra_config import HydraConfig

    if "submitit" in HydraConfig.get().launcher._target_:
        raise ConfigError("launcher: a cluster launcher runs the jobs of a sweep, and this is a single run; add -m")


NO_OVERRIDE = re.compile(rf"(?<=\s)(?:{'|'.join(Command)}|--why|-m|--multirun)\s+")
RERUN = "--experimental-rerun"
OTHER_CONFIG_OPTIONS = ("--config-path", "-cp", "--config-name", "-cn")
HYDRA_OPTIONS_WITH_VALUE = (
    ("--config-dir", "-cd", "--package", "-p")
    + ("--cfg", "-c", "--info", "-i", RERUN)
)  # fmt: skip
HYDRA_OPTIONS = HYDRA_OPTIONS_WITH_VALUE + (
    ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m")
    + ("--shell-completion", "-sc")
)  # fmt: skip


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments for Hydra: a subcommand becomes `command=...`, `--why` becomes `why=true`.

    Options come first, because argparse does not accept overrides on both sides of one. Raises ConfigError for an
    unknown option or subcommand, or more than one subcommand.
    """
    options: list[str] = []
    overrides: list[str] = []
    commands: list[str] = []
    for word, previous in zip(arguments, ["", *arguments], strict=False):
        if word == "--why":
            overrides.append("why=true")
        elif previous in HYDRA_OPTIONS_WITH_VALUE:
            options.append(word)
        elif word.startswith("-"):
            check_option(word)
            options.append(word)
        elif "=" in word or word.startswith(("~", "+")):
            overrides.append(word)
        else:
            commands.append(word)
    check_commands(commands)
    return [*options, *normalize_overrides(overrides), *(f"command={word}" for word in commands)]


def check_option(word: str) -> None:
    """Raises ConfigError for an option that does not exist. As in argparse, a long name may be shortened (except to
    --experiment, which is a mistyped override), and a value may follow a short one directly.
    """
    name = word.partition("=")[0]
    if name in OTHER_CONFIG_OPTIONS:
        raise ConfigError(
            f"{name}: not supported, because every job and every needed experiment extends conf/config.yaml; write "
            "FOLDER/experiments/NAME.yaml and give --config-dir FOLDER experiments=NAME"
        )
    matches = (lambda option: option.startswith(name)) if name.startswith("--") else name.startswith
    if name.startswith("--experiment") and name != RERUN or not any(map(matches, HYDRA_OPTIONS)):
        names = [option for option in (*HYDRA_OPTIONS, "--why") if option.startswith("--")]
        raise ConfigError(f"{word}: unknown option; {did_you_mean(name, names)}")


def check_commands(words: Sequence[str]) -> None:
    """Raises ConfigError unless the words that are no overrides are one subcommand, or none."""
    known = [word for word in words if word in list(Command)]
    for word in words:
        if word in TOOLS:
            raise ConfigError(f"{word}: must be the first argument; see entigraph {word} --help")
        if word not in known and known:
            raise ConfigError(f"{word}: {known[0]} takes only options and key=value, such as paths.root=outputs")
        if word not in known:
            raise ConfigError(f"{word}: unknown command; {did_you_mean(word, [*Command, *TOOLS])}")
    if len(words) > 1:
        raise ConfigError(f"give one command, got {' and '.join(words)}")


def main() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints exceptions itself, in its own form
    os.environ[COMMAND_VARIABLE] = uuid4().hex
    use_expandable_segments()
    make_working_directory_importable()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    raise SystemExit(run_command_line())


def make_working_directory_importable() -> None:
    """Lets `_target_` name code of the user. Installed packages come first."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def run_command_line() -> int:
    """Returns the exit status: 0, USER_ERROR, INTERNAL_ERROR or INTERRUPTED."""
    task = HydraTask()
    try:
        if sys.argv[1:] and sys.argv[1] in TOOLS:
            tool: Callable[[Sequence[str]], None] = resolve_name(TOOLS[sys.argv[1]])
            tool(sys.argv[2:])
            return 0
        if "--version" in sys.argv[1:]:
            print(f"entigraph {__version__}")
            return 0
        if line := os.environ.get("COMP_LINE"):  # of tab completion, for which Hydra reads only overrides
            os.environ["COMP_LINE"] = NO_OVERRIDE.sub("", line)
        # Processes started from here, such as the ranks of a training run, receive the same arguments.
        sys.argv[1:] = hydra_arguments(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(home() / "conf"), config_name="config")(task)()
        return report_error(task.error) if task.error else 0
    except KeyboardInterrupt:
        print("interrupted; run the same command to continue", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return report_error(error)
    except SystemExit as exit:  # argparse exits with 2
        return USER_ERROR if exit.code == 2 else int(exit.code or 0)


def report_error(error: Exception) -> int:
    """Prints the error and returns the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader, for example `| head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    message = user_error_message(error)
    if message is not None:
        print(f"error: {normalize_text(message)}", file=sys.stderr)  # documents and endpoints may be quoted
        return USER_ERROR
    traceback.print_exception(error)
    if location := raised_in_user_code(error):
        print(normalize_text(f"error: {type(error).__name__} in your code, {location}: {error}"), file=sys.stderr)
        return USER_ERROR
    print(
        f"error: an unexpected {type(error).__name__}, an internal error of entigraph: please report the lines above",
        file=sys.stderr,
    )
    return INTERNAL_ERROR


def raised_in_user_code(error: BaseException) -> str | None:
    """Returns file and line of the user's code that the error comes from, directly or in a library that it called."""
    standard_library = Path(sysconfig.get_path("stdlib"))
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(Path(__file__).parent):  # first, because it may be installed in site-packages
            return None
        in_library = file.is_relative_to(standard_library) or {"site-packages", "dist-packages"}.intersection(
            file.parts
        )
        if not in_library and not frame.filename.startswith("<"):
            return f"{frame.filename}:{frame.lineno}"
    return None


def explain_hydra_error(message: str) -> str | None:
    """Returns Hydra's message about an override, with what to write instead; None for other messages."""
    if plugin := re.search(r"Could not find 'hydra/(sweeper|launcher)/(\w+)'", message):
        kind, name = plugin.groups()
        command = PLUGIN_COMMANDS.get(name, f"pip install hydra-{name}-{kind}")
        return f"hydra/{kind}={name}: not installed; {command}"
    overrides = [argument for argument in sys.argv[1:] if "=" in argument and not argument.startswith("-")]
    return explain_composition_error(message, overrides, lambda others: compose_config(others, config_dir(sys.argv)))


def config_dir(arguments: Sequence[str]) -> str | None:
    """Returns the value of Hydra's --config-dir."""
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        name, given, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            return value if given else following
    return None


def user_error_message(error: BaseException) -> str | None:
    """Returns the message of an EntiGraph, Hydra or OmegaConf error; None for an internal error."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    messages: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, EntigraphError):
            return str(cause)
        if isinstance(cause, (HydraException, OmegaConfBaseException)):
            if "$" not in str(cause):  # a template of the message that follows it
                messages.append(str(cause).strip())
            cause = cause.__cause__ or cause.__context__
        else:  # an internal error remains one
            cause = cause.__cause__
    if not isinstance(error, (HydraException, OmegaConfBaseException)):
        return None
    return next(filter(None, map(explain_hydra_error, messages)), None) or "\n".join(dict.fromkeys(messages))
