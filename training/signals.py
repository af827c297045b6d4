"""Signals that ask a run to end: it saves after the step under way. A second SIGTERM or Ctrl-C ends it at once.

SIGTERM comes from a scheduler that takes the machine back, SIGINT from Ctrl-C, SIGUSR1 from Slurm shortly before the
time of a job is up (`sbatch --signal=USR1@120`): that job is put back into the queue. It may come twice, from Slurm and
from the launcher.
"""

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from util.dist.distributed import barrier, is_main_process, print_once
from util.errors import RunStopped

from .stop import Stop

#: What asks a run to end, where the system knows it.
NAMES = [name for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Turn signals into wishes to end while the context lasts; afterwards they do what they did before."""

    def ask(number: int, _frame: FrameType | None) -> None:
        if stop.reason is None:
            stop.ask(signal.Signals(number).name)
            if is_main_process():  # written, not printed: the signal may come in the middle of a print
                os.write(2, b"\nthe run saves and ends after this step; a second signal ends it at once\n")
            return
        # Slurm and the launcher may both send it: the second is no wish to end at once.
        if signal.Signals(number).name == "SIGUSR1":
            return
        # The default action instead of an exit here: the parent then sees that a signal ended the process.
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.kill(os.getpid(), number)

    before = {}
    try:
        for name in NAMES:
            number = getattr(signal, name)
            before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread, as in some notebooks: signals do what they did
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_after_signal(stop: Stop, ended_early: bool) -> None:
    """Raise RunStopped on every rank where a signal ended the run before its plan; requeue a Slurm job on SIGUSR1."""
    if not ended_early or stop.reason not in NAMES:
        return
    barrier()  # a launcher ends all processes when the first has ended, and rank 0 may be writing yet
    if stop.reason == "SIGUSR1" and is_main_process():
        requeue_job(os.environ)
    raise RunStopped(stop.reason)


def requeue_job(environ: Mapping[str, str]) -> None:
    """Put the Slurm job of this process, if it is one, back into its queue; say so, or why not."""
    job = environ.get("SLURM_JOB_ID")
    if job is None:
        return
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        problem = done.stderr.strip() if done.returncode else None
    except (OSError, subprocess.SubprocessError) as error:
        problem = str(error)
    print_once(f"job {job}: " + ("put back into the queue" if problem is None else f"cannot be requeued: {problem}"))
