"""Processes that load images: a dead one is one line, and so is too little shared memory for them."""

import errno
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Iterable
from functools import cache
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from multiprocessing.util import Finalize
from pathlib import Path

#: Where Linux keeps shared memory, through which batches come from the workers.
SHARED_MEMORY = Path("/dev/shm")
#: Batches that a worker makes ahead, PyTorch's default.
AHEAD = 2

_DEAD = re.compile(r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\)")
_SIGNAL = re.compile(r"killed by signal: ([\w ]+)")


def describe_dead_worker(error: BaseException) -> str | None:
    """Return a line about a loader's worker that ended; None for other errors."""
    # Of two errors for one worker, the signal is in the first, which the second was raised from.
    text = " ".join(map(str, filter(None, (error, error.__cause__))))
    if not _DEAD.search(text) and "out of shared memory" not in text:
        return None
    by = _SIGNAL.search(text)
    if "shared memory" in text or (by and by[1].startswith("Bus")):
        return (
            f"a loader's worker ran out of shared memory ({_free()}): give --num_workers 0, which needs none, fewer "
            "workers, or the machine a larger /dev/shm (docker run --shm-size=8g)"
        )
    how = f" by signal {by[1].strip()}" if by else ""
    return (
        f"a loader's worker was killed{how}, most often because the machine has no memory left: give --num_workers 0, "
        "which loads in the run itself, or fewer workers; --resume auto goes on from what was saved last"
    )


def warn_of_shared_memory(batch_bytes: int, *, num_workers: int, folder: Path = SHARED_MEMORY) -> str | None:
    """Return a line where the batches of the workers do not fit in shared memory; None where they do."""
    # Batches that are made and not yet taken all lie in shared memory.
    needed = AHEAD * num_workers * batch_bytes
    if not folder.is_dir() or needed <= (free := shutil.disk_usage(folder).free):
        return None
    return (
        f"warning: {folder} has {free / 2**20:.0f} MiB free, and {num_workers} workers may need {needed / 2**20:.0f}: "
        "give --num_workers 0 or fewer, or make it larger (docker run --shm-size=8g)"
    )


def end_on_lost_batches() -> None:
    """Have this worker end where a batch cannot be sent to the run, as without room in shared memory; call it in one.

    Batches are packed in a thread of `multiprocessing`'s, which prints such an error and goes on: the run would wait
    for that batch without end.
    """
    if hasattr(signal, "SIGBUS"):
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # PyTorch's own prints a line beside that of the run
    # Private, for `multiprocessing` tells nobody of such an error in public; in all Pythons from 3.7 on. In one without
    # it the run waits, until somebody stops it, instead of ending in one line.
    if hasattr(Queue, "_on_queue_feeder_error"):
        Queue._on_queue_feeder_error = staticmethod(_end_lost)


def _end_lost(error: Exception, _batch: object) -> None:
    """End this process: for want of shared memory by the signal that the system sends where it notices that late."""
    if "shared memory" in str(error) or getattr(error, "errno", None) == errno.ENOSPC:
        signal.raise_signal(getattr(signal, "SIGBUS", signal.SIGTERM))  # to this thread, which goes no further
    print(f"a loader's worker cannot send a batch: {error}", file=sys.stderr, flush=True)
    os._exit(1)


@cache
def end_workers_at_exit() -> None:
    """Have the workers that are left at the program's end ended; once a process is enough.

    A loader that was not read to its end leaves some. `multiprocessing` sends each one SIGTERM and then waits for it
    without end, and the first SIGTERM is one that they leave to the run.
    """
    # A priority of 0 or more comes before multiprocessing's own goodbye. Not `atexit`, which is the documented way: a
    # process that `multiprocessing` started, and that loads in workers of its own, leaves without it.
    Finalize(None, _end_left_workers, exitpriority=1)


def _end_left_workers() -> None:
    if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
        # PyTorch's handler raises where a worker ends by a signal, as those here are about to.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_workers(process for process in active_children() if process.daemon)


def end_workers(workers: Iterable[BaseProcess], seconds: float = 5.0) -> None:
    """End processes that may ignore the first SIGTERM: asked again and again, and killed after so many seconds each."""
    for worker in workers:
        for _ in range(max(1, round(seconds / 0.1))):
            worker.terminate()
            worker.join(0.1)
            if not worker.is_alive():
                break
        else:
            worker.kill()


def _free(folder: Path = SHARED_MEMORY) -> str:
    if not folder.is_dir():
        return "its place is not known"
    return f"{folder} has {shutil.disk_usage(folder).free / 2**20:.0f} MiB free"
