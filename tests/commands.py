"""Runs `entigraph ...` in new processes.

They are forked from a server process that has imported the large libraries, which saves each of them seven seconds.
Nothing of entigraph is imported before the fork. Where variables matter that Python or a library reads at its
start, such as `HF_HOME`, use `python -m entigraph` in a subprocess.
"""

import atexit
import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

FORKED = multiprocessing.get_context("forkserver")
LIBRARIES = ["torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.fsdp", "lightning.pytorch.loggers"]
LIBRARIES += ["transformers.models.llama.modeling_llama", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.optimize"]
LIBRARIES += ["matplotlib.figure", "hydra", "openai", "bm25s"]  # not wandb: the first process that ends removes the
# temporary folder that it makes when it is imported
FORKED.set_forkserver_preload(LIBRARIES)
TESTS = Path(__file__).parent


class ForkedProcess:
    """A function of a module in a process of its own, with the methods of `subprocess.Popen`.

    Its environment is that of the server process, not the current one.
    """

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function = function
        self.process = FORKED.Process(target=start, args=(function, *arguments))
        self.process.start()
        self.pid = self.process.pid or 0

    @property
    def returncode(self) -> int | None:
        """The status: negative if a signal ended the process."""
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def wait(self, timeout: float = 600) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired(self.function.__name__, timeout)
        return self.process.exitcode


def start(function: Callable[..., object], *arguments: object) -> None:
    gc.freeze()  # garbage collections need not visit the libraries
    function(*arguments)


class RunningCommand(ForkedProcess):
    """An `entigraph` command, or another module with a command line; its output goes to two files."""

    def __init__(
        self,
        *arguments: str,
        cwd: Path,
        start_new_session: bool = False,
        environment: Mapping[str, str] | None = None,
        module: str = "entigraph",
    ) -> None:
        self.output = Path(tempfile.mkdtemp(prefix="entigraph-command-"))
        variables = {**os.environ, **(environment or {})}
        variables.pop("WANDB_SERVICE", None)  # W&B's process of this one, which would outlive a killed command
        files = [str(self.output / name) for name in ("stdout", "stderr")]
        for file in files:
            Path(file).touch()
        super().__init__(execute, module, arguments, str(cwd), variables, *files, start_new_session)

    def communicate(self, timeout: float = 600) -> tuple[str, str]:
        self.wait(timeout)
        return (self.output / "stdout").read_text(), (self.output / "stderr").read_text()


def run_command(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Runs `entigraph ...` in that folder. Kills it and raises TimeoutExpired after `timeout` seconds."""
    running = RunningCommand(*arguments, cwd=cwd, environment=environment)
    try:
        printed, errors = running.communicate(timeout)
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    return subprocess.CompletedProcess(arguments, running.wait(), printed, errors)


def execute(
    module: str,
    arguments: tuple[str, ...],
    cwd: str,
    environment: dict[str, str],
    output: str,
    errors: str,
    new_session: bool,
) -> None:
    """Becomes `python -m MODULE ...`, with its working directory, environment, search path and exit handlers."""
    if new_session:
        os.setsid()
    # A shell without job control starts background jobs deaf to Ctrl-C, and their children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for file, descriptor in ((output, 1), (errors, 2)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    installed = [path for path in sys.path if path and not Path(path).is_relative_to(TESTS)]
    sys.path[:] = [cwd, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *installed]
    sys.argv[1:] = arguments
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # As at the end of an interpreter; multiprocessing would first wait for the workers of a process pool.
        threading._shutdown()
        atexit._run_exitfuncs()
