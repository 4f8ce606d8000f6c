"""One job of a sweep, in the process that the launcher gave it."""

import traceback
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from entigraph.errors import EntigraphError
from entigraph.pipeline import execution
from entigraph.pipeline.loading import load_run
from entigraph.pipeline.study import result, study_folder
from entigraph.runtime.processes import save_before_requeue, stop_with_parent
from entigraph.runtime.progress import StatusFileProgress
from entigraph.sweep import early_stopping
from entigraph.sweep.job_table import job_file
from entigraph.sweep.recovery import SweepState, process_name, wait_for_turn


def is_sweep_job() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN


def run_sweep_job(config: DictConfig) -> float | None:
    """Runs one configuration of a sweep. Returns its accuracy, which a sweeper may maximize; None without one.

    A failure is a result, written to the status file: an exception that leaves a Hydra job ends the whole sweep.
    """
    hydra = HydraConfig.get()
    number, folder = hydra.job.num, Path(hydra.sweep.dir)
    state = SweepState.load(folder)
    if state.parent != process_name():
        stop_with_parent()
    overrides = list(hydra.overrides.task)
    job = " ".join(overrides)
    status = StatusFileProgress(job_file(folder, number), job, overrides, config.study.name)
    try:
        run = load_run(config)
        status.job = run.readable_name
        if reason := early_stopping.reason_to_skip(folder, number):
            status.write(early_stopping.SKIPPED, reason=reason)
            return None
        if job in state.culprits:
            status.write("failed", reason="its process died (out of memory?); see the output above")
            return None
        with wait_for_turn(job, state, folder, status), save_before_requeue():
            status.notify("starting")
            complete = execution.is_complete(run)
            if config.stage is None:
                execution.run_pipeline(run, status)
            else:
                execution.run_stage(run, config.stage, status)
        metrics = result(run)
        study = str(study_folder(run)) if run.asks_questions else None
        status.write("done", skipped=complete, study=study, **metrics)
        return metrics.get("accuracy")
    except EntigraphError as error:
        status.write("failed", reason=str(error))
    except Exception as error:
        traceback.print_exc()
        status.write("failed", reason=f"unexpected {type(error).__name__}: {error}")
    return None
