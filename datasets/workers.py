"""Processes that load images: a dead one is one line, and so is too little shared memory for them."""

import re
import shutil
from collections.abc import Iterable
from functools import cache
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
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
    text = str(error)
    if not _DEAD.search(text) and "out of shared memory" not in text:
        return None
    signal = _SIGNAL.search(text)
    if "shared memory" in text or (signal and signal[1].startswith("Bus")):
        return (
            f"a loader's worker ran out of shared memory ({_free()}): give --num_workers 0, which needs none, fewer "
            "workers, or the machine a larger /dev/shm (docker run --shm-size=8g)"
        )
    how = f" by signal {signal[1].strip()}" if signal else ""
    return (
        f"a loader's worker was killed{how}, most often because the machine has no memory left: give --num_workers 0, "
        "which loads in the run itself, or fewer workers; --resume auto goes on from what was saved last"
    )


def warn_of_shared_memory(batch_bytes: int, *, num_workers: int, folder: Path = SHARED_MEMORY) -> str | None:
    """Return a line where the batches of the workers do not fit in shared memory; None where they do."""
    needed = AHEAD * num_workers * batch_bytes
    if not folder.is_dir() or needed <= (free := shutil.disk_usage(folder).free):
        return None
    return (
        f"warning: {folder} has {free / 2**20:.0f} MiB free, and {num_workers} workers may need {needed / 2**20:.0f}: "
        "give --num_workers 0 or fewer, or make it larger (docker run --shm-size=8g)"
    )


@cache
def end_workers_at_exit() -> None:
    """Have the workers that are left at the program's end ended; once a process is enough.

    A loader that was not read to its end leaves some. `multiprocessing` sends each one SIGTERM and then waits for it
    without end, and the first SIGTERM is one that they leave to the run.
    """
    # A priority of 0 or more comes before multiprocessing's own goodbye, in forked processes, too.
    Finalize(None, _end_left_workers, exitpriority=1)


def _end_left_workers() -> None:
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
