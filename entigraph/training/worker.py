"""Runs one rank of a training run: python -m entigraph.training.worker JOB.json, in torchrun's environment."""

import sys
from pathlib import Path

from entigraph.errors import EntigraphError
from entigraph.runtime.processes import INTERRUPTED, Preempted, process_group, stop_with_parent
from entigraph.runtime.progress import SilentProgress
from entigraph.storage.artifact import write_json
from entigraph.training.launch import COUNTS, ERROR
from entigraph.training.training_job import read_training_job


def main(file: Path) -> int:
    from entigraph.training.train import train

    stop_with_parent()
    rank = process_group().rank
    try:
        counts = train(read_training_job(file), SilentProgress(), lambda values: None)
    except EntigraphError as error:
        message = {"kind": type(error).__name__, "message": str(error)}
        write_json(file.with_name(f"rank-{rank:04}-{ERROR}"), message)
        return 1
    except Preempted:
        leave_process_group()
        raise
    except KeyboardInterrupt:
        return INTERRUPTED
    if rank == 0:
        write_json(file.with_name(COUNTS), counts)
    leave_process_group()
    return 0


def leave_process_group() -> None:
    """Destroys the process group: its threads would otherwise abort the process at interpreter exit."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
