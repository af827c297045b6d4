"""The command, or a function, in processes of its own, with the variables that a launcher sets.

Starting Python and importing torch takes seconds each time. Here it is done once: one server process has imported
everything, and forks itself into the processes that tests ask for.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

import torch

import main
from tests import small_runs
from tests.fork_server import find_server
from tests.garbage import look_less_often

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "main",
        "tests.small_runs",
        # What runs import when they need it, or each process would import it again.
        "matplotlib.backends.backend_agg",
        "matplotlib.figure",
        "nvtx",
        "pycocotools.cocoeval",
        "scipy.optimize",
        "torch._dynamo",
    ]
)

#: Variables of rank `rank` of two, as the launchers set them; the port is rank 0's.
LAUNCHERS: dict[str, Callable[[int, str], dict[str, str]]] = {
    "torchrun": lambda rank, port: dict(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port
    ),
    "srun": lambda rank, port: dict(
        SLURM_PROCID=str(rank),
        SLURM_LOCALID=str(rank),
        SLURM_NTASKS="2",
        SLURM_STEP_NUM_TASKS="2",
        SLURM_JOB_ID="7",
        SLURM_STEP_ID="0",
        SLURM_STEP_NODELIST="localhost",
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=port,
    ),
}


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a process on one thread: no launcher's variables, but the given ones."""
    launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launcher)}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(main.__file__).parent)} | more


def free_port() -> str:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Started:
    """A process that runs a function; its output and errors go to files."""

    def __init__(self, function: Callable, *args: object, **variables: str) -> None:
        """Start `function(*args)`, which a module defines at its top, in an environment with the given variables."""
        self._files = [tempfile.NamedTemporaryFile("r") for _ in range(2)]
        names = [file.name for file in self._files]
        self._process = _FORKS.Process(
            target=_run, args=(function, args, environment(**variables), names, small_runs.in_force())
        )
        find_server()
        self._process.start()

    def end(self, timeout: float = 200) -> tuple[int, str, str]:
        """Wait for the process; return its exit code (minus the signal that killed it), output and errors."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        out, err = (file.read() for file in self._files)
        for file in self._files:
            file.close()
        return self._process.exitcode, out, err


def _run(function: Callable, args: tuple, environ: dict[str, str], names: list[str], smaller: list[str]) -> None:
    for descriptor, name in enumerate(names, start=1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    os.environ.clear()
    os.environ.update(environ)
    torch.set_num_threads(1)
    look_less_often()
    # Or the workers of its loaders would come from a fork server too, which first imports all that is named above.
    multiprocessing.set_start_method(None, force=True)
    small_runs.repeat(smaller)
    sys.exit(function(*args))


def start_two(function: Callable, *args: object, launcher: str = "torchrun") -> list[tuple[int, str, str]]:
    """Run `function(*args)` in two processes of one launch; return exit code, output and errors of each."""
    port = free_port()
    started = [Started(function, *args, **LAUNCHERS[launcher](rank, port)) for rank in (0, 1)]
    return [process.end() for process in started]


def command(flags: str) -> int:
    """Run the command with the flags, in a process that is its own."""
    return main.cli(flags.split())


def python(words: list[str], folder: str, stdin: Connection | None = None, stdout: Connection | None = None) -> None:
    """Do what `python WORDS` does in a folder: run a file or, after -m, a module; its pipes are those given."""
    for descriptor, pipe in enumerate((stdin, stdout)):
        if pipe is not None:
            os.dup2(pipe.fileno(), descriptor)
            pipe.close()
    sys.stdin = open(0, closefd=False)  # multiprocessing has closed it
    os.chdir(folder)
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        runpy.run_path(words[0], run_name="__main__")


def run_python(
    command: list[str], *, cwd: str | os.PathLike = ".", env: Mapping[str, str] | None = None, **_pipes: object
) -> subprocess.CompletedProcess[str]:
    """Stand in for `subprocess.run([sys.executable, ...])`; output and errors are captured as text."""
    return subprocess.CompletedProcess(command, *Started(python, command[1:], os.path.abspath(cwd), **env or {}).end())


class PythonProcess:
    """Stands in for `subprocess.Popen([sys.executable, ...])` with a pipe to write to and one to read from."""

    def __init__(self, command: list[str], *, cwd: Path, env: Mapping[str, str], **_pipes: object) -> None:
        """Start the file or module in `cwd`."""
        (theirs_in, ours_in), (ours_out, theirs_out) = _FORKS.Pipe(duplex=False), _FORKS.Pipe(duplex=False)
        self._started = Started(python, command[1:], str(cwd), theirs_in, theirs_out, **env)
        for pipe in (theirs_in, theirs_out):  # or neither side would see that the other has ended
            pipe.close()
        self.stdin, self.stdout = os.fdopen(os.dup(ours_in.fileno()), "w"), os.fdopen(os.dup(ours_out.fileno()))
        ours_in.close()
        ours_out.close()

    def wait(self) -> int:
        """Wait for the process; return its exit code, and show its errors."""
        code, _, err = self._started.end()
        sys.stderr.write(err)
        self.stdout.close()
        return code
