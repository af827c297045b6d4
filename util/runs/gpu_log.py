"""A GPU's utilisation, memory and power over a run, as a CSV: a row a second, from a thread of its own."""

import csv
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from ..errors import UserError
from ..nvml import Gpu, open_gpu

HEAD = ("seconds", "utilisation_percent", "memory_used_mib", "memory_total_mib", "power_watts")


@contextmanager
def gpu_logged(path: Path, *, index: int = 0, every: float = 1.0) -> Iterator[None]:
    """Add a row to `path` now and every `every` seconds until the end of the block.

    A run that goes on adds to the file. Raises UserError without NVML.

    Args:
        path: the CSV file.
        index: the GPU's number in CUDA.
        every: seconds from one row to the next.
    """
    with open_gpu(index, needed_by="--log_gpu") as gpu:
        ended = Event()
        # A daemon: a run that ends with an error must not wait for it.
        thread = Thread(target=_write_rows, args=(path, gpu, ended, every), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _write_rows(path: Path, gpu: Gpu, ended: Event, every: float) -> None:
    began, new = time.monotonic(), not path.exists()
    with path.open("a", newline="") as file:
        rows = csv.writer(file)
        if new:
            rows.writerow(HEAD)
        while True:
            try:
                now = gpu.sample()
            except UserError:  # a GPU that does not tell for a moment
                pass
            else:
                memory = [round(size / 2**20) for size in (now.memory_used, now.memory_total)]
                rows.writerow([f"{time.monotonic() - began:.1f}", now.utilisation, *memory, f"{now.power:.1f}"])
                file.flush()
            if ended.wait(every):
                return
