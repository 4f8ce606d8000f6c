"""A study: many configurations as a Hydra multirun, watched from the parent, and the curve when the last has ended.

Every job writes what it is doing to a status file; the parent shows them as a table. A job that fails returns: its
failure is a result, because an exception that leaves a Hydra job ends the whole sweep.
"""

import os
import shutil
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from entigraph.config.schema import Command, Stage, refuse, selected_command, settle_root
from entigraph.errors import ConfigError, EntigraphError
from entigraph.pipeline import execution
from entigraph.pipeline.analysis_step import analyze
from entigraph.pipeline.dry_run import print_sweep
from entigraph.pipeline.run import Run
from entigraph.pipeline.study import Study
from entigraph.runtime.processes import save_before_requeue, stop_with_parent
from entigraph.runtime.progress import StatusFileProgress
from entigraph.storage import artifact, cleanup, locks
from entigraph.sweep import early_stopping
from entigraph.sweep.job_table import Sweep, job_file, watch

if TYPE_CHECKING:
    pass

HOUSEKEEPING = (Command.list, Command.clean)
SECONDS_FOR_THE_POOL_TO_NOTICE = 5.0
UNFINISHED = "not finished (lost, or still running on the cluster: the same command takes up what is there)"
# Job numbers, handed to workers through the environment: whose process died, and who ran when some process died.
DIED, SUSPECTED = "ENTIGRAPH_DIED", "ENTIGRAPH_SUSPECTED"


class Leave(BaseException):
    """Ends a command from inside a Hydra callback, where Hydra turns an Exception into a warning and goes on."""

    def __init__(self, status: int = 0, error: Exception | None = None) -> None:
        self.status, self.error = status, error


CURRENT: list[Sweep] = []


# --- in a job ---


def is_job() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def run_job(config: DictConfig) -> None:
    """One job of a sweep, in whatever process the launcher gave it."""
    hydra = HydraConfig.get()
    if not CURRENT:
        stop_with_parent()
    number, folder = hydra.job.num, Path(hydra.sweep.dir)
    status = StatusFileProgress(job_file(folder, number), " ".join(hydra.overrides.task))
    try:
        run = Run(config)
        status.job = run.readable_name
        if why := early_stopping.enough(folder, number):
            status.write(early_stopping.NEEDLESS, reason=why)
            return
        if str(number) in words(DIED):
            status.write("failed", reason="its process died (out of memory?); see the output above")
            return
        turn = alone(folder, status) if str(number) in words(SUSPECTED) else nullcontext()
        with turn, save_before_requeue():
            status.say("starting")
            complete = execution.is_complete(run)
            if config.stage is None:
                execution.pipeline(run, status)
            else:
                execution.one_stage(run, config.stage, status)
        study = str(Study(run).folder) if run.asks else None
        status.write("done", skipped=complete, study=study, **Study(run).result())
    except EntigraphError as error:
        status.write("failed", reason=str(error))
    except Exception as error:
        traceback.print_exc()
        status.write("failed", reason=f"unexpected {type(error).__name__}: {error}")


def words(variable: str) -> list[str]:
    return os.environ.get(variable, "").split()


@contextmanager
def alone(folder: Path, status: StatusFileProgress) -> Iterator[None]:
    """Suspects run one at a time: if a process dies again, it is clear whose it was."""
    status.write("waiting", doing="for its turn")
    with locks.lock(folder / "suspects", folder):
        # Whoever had the turn may have just died: then the pool ends this process too, which is not to look guilty.
        time.sleep(SECONDS_FOR_THE_POOL_TO_NOTICE)
        yield


# --- in the parent ---


class StudyCallback(Callback):
    """Hydra calls this in the process that the command started."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            begin(config)
        except Exception as error:
            raise Leave(error=error) from error

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            raise Leave(finish())
        except Exception as error:
            raise Leave(error=error) from error


def begin(config: DictConfig) -> None:
    settle_root(config)
    command = selected_command(config)
    if command in HOUSEKEEPING:
        keep_house(config)
        raise Leave
    early_stopping.seeds_slowest(config)
    jobs = expanded(config)
    if command is Command.plan:
        runs = [Run(compose("config", overrides=list(overrides))) for overrides in jobs]
        print_sweep(config.study, config.paths.root, runs, early_stopping.target(config))
        raise Leave
    if command is Command.analyze:
        analyze(Run(without_hydra(config)))
        raise Leave
    launcher = config.hydra.launcher
    if launcher._target_.endswith("SlurmLauncher") and not shutil.which("sbatch"):
        raise ConfigError("launcher=slurm: there is no sbatch here; use a machine of the cluster, or launcher=parallel")
    refuse_hopeless(jobs, config.stage)
    workers = launcher.get("n_jobs") or launcher.get("array_parallelism") or (len(jobs) if on_cluster(config) else 1)
    print(f"{config.study}: {len(jobs)} jobs, {workers} at a time, below {config.paths.root}")
    sweep = Sweep(without_hydra(config), jobs, Path(config.hydra.sweep.dir))
    with artifact.translate_disk_errors(Path(config.paths.root)):
        sweep.folder.mkdir(parents=True, exist_ok=True)
        early_stopping.in_batches(config, jobs, sweep.folder)
    CURRENT.append(sweep)
    # A worker that died is told by the name of its job, not by the pool.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    sweep.watcher = threading.Thread(target=watch, args=(sweep,), daemon=True)
    sweep.watcher.start()


def keep_house(config: DictConfig) -> None:
    """What lies below paths.root, whatever the rest of the configuration says."""
    settle_root(config)
    root = Path(config.paths.root)
    listed = selected_command(config) is Command.list
    for line in cleanup.render_inventory(cleanup.take_inventory(root)) if listed else cleanup.clean(root, config.clean):
        print(line)


def refuse_hopeless(jobs: Sequence[Sequence[str]], stage: Stage | None) -> None:
    """A sweep none of whose jobs can begin ends before the first, with what is wrong with it."""
    errors: list[EntigraphError] = []
    for overrides in jobs:
        try:
            run = Run(compose("config", overrides=list(overrides)))
            refuse(execution.not_ready(run) if stage is None else [])
            return
        except EntigraphError as error:
            errors.append(error)
    raise errors[0]


def expanded(config: DictConfig) -> list[list[str]]:
    """The overrides of each job, in the order in which the sweeper makes them."""
    given = (
        [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()] if config.hydra.sweeper.params else []
    )
    parsed = OverridesParser.create().parse_overrides([*given, *config.hydra.overrides.task])
    return [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]


def without_hydra(config: DictConfig) -> DictConfig:
    plain = config.copy()
    OmegaConf.set_struct(plain, False)
    plain.pop("hydra", None)
    return plain


def stop_watching() -> None:
    for sweep in CURRENT:
        sweep.over.set()
        if sweep.watcher:
            sweep.watcher.join()


def survivors() -> bool:
    """After the pool broke, which ends all its workers: True where another start makes sense.

    Whoever was running is suspected; a suspect that was running again, alone among them, is the one that died.
    """
    stop_watching()
    running = [str(status["number"]) for status in CURRENT[-1].statuses() if status["state"] == "running"]
    os.environ[DIED] = " ".join([*words(DIED), *(number for number in running if number in words(SUSPECTED))])
    os.environ[SUSPECTED] = " ".join({*words(SUSPECTED), *running})
    GlobalHydra.instance().clear()
    CURRENT.clear()
    return bool(running)


def on_cluster(config: DictConfig) -> bool:
    """By submitit, whose jobs outlive the command that sent them."""
    return "submitit" in config.hydra.launcher._target_


def lost_a_job(error: Exception) -> bool:
    """Whether one of a cluster's jobs ended without a word: canceled, out of memory, out of time too often."""
    return bool(CURRENT) and type(error).__name__ in ("UncompletedJobError", "FailedJobError")


def finish() -> int:
    """The curve of what finished, the table, and the jobs that failed by name; the exit status."""
    stop_watching()
    sweep = CURRENT.pop()
    statuses = sweep.statuses()
    done = [status for status in statuses if status["state"] == "done"]
    failed = [status for status in statuses if status["state"] not in ("done", early_stopping.NEEDLESS)]
    wanted = len(done) + len(failed)
    skipped = sum(bool(status["skipped"]) for status in done)
    minutes, seconds = divmod(round(time.monotonic() - sweep.started), 60)
    if skipped == wanted:
        print(f"nothing to do: all {skipped} runs are complete ({minutes} min {seconds} s)")
    else:
        before = f", {skipped} of them from before" if skipped else ""
        print(f"{len(done)} of {wanted} runs are complete{before} ({minutes} min {seconds} s)")
    for line in early_stopping.told(statuses, sweep.jobs):
        print(line)
    for status in failed:
        print(f"failed: {status['job']}: {status.get('reason', UNFINISHED)}", file=sys.stderr)
    # A sweep over other keys than augmenter, budget and seed has several studies: one of each draws it.
    studies = {status["study"]: status["number"] for status in done if status.get("study")}
    for number in studies.values():
        analyze(Run(compose("config", overrides=list(sweep.jobs[number]))))
    if failed:
        print(f"error: {len(failed)} of {wanted} jobs failed; the same command tries those again", file=sys.stderr)
        return 1
    shutil.rmtree(sweep.folder, ignore_errors=True)
    return 0
