"""A study: many configurations as a Hydra multirun, shown by the parent process, with one curve at the end.

Every job writes what it is doing to a status file; the parent renders them as a table.
"""

import shutil
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from entigraph.config.instantiate import BuiltComponent
from entigraph.config.schema import Command, Stage, selected_command
from entigraph.config.validation import raise_if_problems, resolve_root
from entigraph.errors import ConfigError, EntigraphError
from entigraph.llm.response_cache import merge_files, response_cache_path
from entigraph.pipeline import execution
from entigraph.pipeline.analysis_step import analyze
from entigraph.pipeline.dry_run import render_sweep
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.run import Run
from entigraph.storage import artifact, cleanup, locks
from entigraph.sweep import early_stopping
from entigraph.sweep.expansion import compose_jobs, expand_jobs, first_job, has_known_jobs
from entigraph.sweep.job_table import Sweep, watching
from entigraph.sweep.recovery import SweepState
from entigraph.text.normalization import normalize_text

UNFINISHED = "not finished (lost, or still running on the cluster); run the same command to continue it"
CLUSTER_ERRORS = ("UncompletedJobError", "FailedJobError")  # submitit's: canceled, out of memory or of time
SWEEPER_RESULTS = "optimization_results.yaml"  # the best job, as Hydra's Optuna, Ax and Nevergrad sweepers write it


def execute_multirun(config: DictConfig, start: Callable[[], Any]) -> Any:
    """Executes the selected command for all jobs of a sweep. `start` runs the configured sweeper.

    Returns what the sweeper returned. Raises EntigraphError if jobs failed, after all others have ended.
    """
    resolve_root(config)
    command = selected_command(config)
    if command in (Command.list, Command.clean):
        print_artifacts(config)
    elif command is Command.analyze:
        analyze(load_run(without_hydra(config)))
    elif command is Command.preview:
        raise ConfigError("preview: a preview shows one configuration; leave out -m and choose one value of each key")
    elif command is Command.plan:
        plan_sweep(config)
    else:
        return run_sweep(config, start)
    return None


def print_artifacts(config: DictConfig) -> None:
    """Prints the artifacts under paths.root for `entigraph list`, the unneeded ones for `entigraph clean`.

    Raises ConfigError if that folder does not exist.
    """
    resolve_root(config)
    root = Path(config.paths.root)
    if not root.is_dir():
        raise ConfigError(f"paths.root: {root} is not a folder; set it to the outputs of your runs")
    if selected_command(config) is Command.list:
        lines = cleanup.render_inventory(cleanup.take_inventory(root))
    else:
        merged = merge_files(response_cache_path(root), config.clean)
        lines = chain(cleanup.clean(root, config.clean, keep_runs=not config.unfinished), merged)
    for line in lines:
        print(line)


def plan_sweep(config: DictConfig) -> None:
    early_stopping.vary_seed_slowest(config)
    if has_known_jobs(config):
        jobs = expand_jobs(config)
    else:
        jobs = [first_job(config)]
        print(f"{sweeper_name(config)} selects its jobs at run time; this is the plan of its first job")
    components: dict[str, BuiltComponent] = {}
    runs = [load_run(config, components) for config in compose_jobs(jobs)]
    half_width = early_stopping.target_half_width(config)
    print("\n".join(render_sweep(config.study.name, config.paths.root, runs, half_width)))


def run_sweep(config: DictConfig, start: Callable[[], Any]) -> Any:
    """Runs the jobs, without those that crash their worker process, and analyzes every study of the sweep."""
    if config.hydra.launcher._target_.endswith("SlurmLauncher") and not shutil.which("sbatch"):
        raise ConfigError("launcher=slurm: sbatch not found; run this on a cluster node, or set launcher=parallel")
    early_stopping.vary_seed_slowest(config)
    jobs = expand_jobs(config) if has_known_jobs(config) else None
    for note in validate_jobs(jobs or [first_job(config)], config.stage).notes:
        print(f"note: {note}")
    print(f"{config.study.name}: {describe_jobs(config, jobs)}, under {config.paths.root}")
    sweep = Sweep(without_hydra(config), jobs, Path(config.hydra.sweep.dir))
    state = SweepState()
    with artifact.translate_disk_errors(Path(config.paths.root)):
        sweep.folder.mkdir(parents=True, exist_ok=True)
        early_stopping.run_in_rounds(config, jobs, sweep.folder)
    # The job whose process died is reported by name.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
    while True:
        state.save(sweep.folder)
        try:
            with watching(sweep), locks.running_command(Path(config.paths.root)):
                returned = start()
            break
        except BrokenProcessPool:
            if not state.record_crash(sweep.statuses()):
                raise
        except Exception as error:
            if not is_explained_by_jobs(error, sweep):
                raise
            returned = None
            break
    report(sweep)
    return returned


def describe_jobs(config: DictConfig, jobs: Sequence[Sequence[str]] | None) -> str:
    launcher = config.hydra.launcher
    if jobs is None:
        return f"jobs chosen by {sweeper_name(config)}"
    on_cluster = "submitit" in launcher._target_
    workers = launcher.get("n_jobs") or launcher.get("array_parallelism") or (len(jobs) if on_cluster else 1)
    return f"{len(jobs)} jobs, {workers} at a time"


def sweeper_name(config: DictConfig) -> str:
    return str(config.hydra.sweeper._target_).rpartition(".")[-1]


def validate_jobs(jobs: Sequence[Sequence[str]], stage: Stage | None) -> Run:
    """Returns the first run of the sweep that can start. Raises the first job's error if none can."""
    errors: list[EntigraphError] = []
    for overrides in jobs:
        try:
            run = load_run(compose("config", overrides=list(overrides)))
            if stage is None:
                raise_if_problems(execution.find_problems(run))
            else:
                execution.check_inputs(run, stage)
            return run
        except EntigraphError as error:
            errors.append(error)
    raise errors[0]


def without_hydra(config: DictConfig) -> DictConfig:
    plain = config.copy()
    OmegaConf.set_struct(plain, False)
    plain.pop("hydra", None)
    return plain


def is_explained_by_jobs(error: Exception, sweep: Sweep) -> bool:
    """Returns whether a sweeper ended because of a lost or failed job, which the report names."""
    if type(error).__name__ in CLUSTER_ERRORS:
        return True
    if any(status["state"] == "failed" for status in sweep.statuses()):
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return True
    return False


def report(sweep: Sweep) -> None:
    """Prints the outcome and analyzes what finished. Raises EntigraphError if jobs failed, after naming each."""
    statuses = sweep.statuses()
    done = [status for status in statuses if status["state"] == "done"]
    failed = [status for status in statuses if status["state"] not in ("done", early_stopping.SKIPPED)]
    print(summarize(sweep, done, len(done) + len(failed)))
    for line in early_stopping.render_outcome(statuses):
        print(line)
    for status in failed:
        print(normalize_text(f"failed: {status['job']}: {status.get('reason', UNFINISHED)}"), file=sys.stderr)
    # A sweep over keys other than augmenter, budget and seed has several studies: one run of each analyzes it.
    studies = {status["study"]: status["overrides"] for status in done if status.get("study")}
    for overrides in studies.values():
        analyze(load_run(compose("config", overrides=overrides)))
    if failed:
        raise EntigraphError(
            f"{len(failed)} of {len(done) + len(failed)} jobs failed; the same command tries those again"
        )
    results = sweep.folder / SWEEPER_RESULTS
    if results.exists():
        print(f"results of the sweeper: {results}")
    else:
        shutil.rmtree(sweep.folder, ignore_errors=True)


def summarize(sweep: Sweep, done: Sequence[dict[str, Any]], expected: int) -> str:
    skipped = sum(bool(status["skipped"]) for status in done)
    minutes, seconds = divmod(round(time.monotonic() - sweep.started), 60)
    if skipped == expected:
        return f"nothing to do: all {skipped} runs are complete ({minutes} min {seconds} s)"
    earlier = f", {skipped} of them already complete" if skipped else ""
    return f"{len(done)} of {expected} runs are complete{earlier} ({minutes} min {seconds} s)"
