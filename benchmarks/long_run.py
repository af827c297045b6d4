"""Memory, open files and processes of a long run, looked at after every epoch: for benchmarks/reliability.py."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from util.runs.run_folder import RunFolder

#: Epochs at the beginning that do not count: caches, pools of memory and the first evaluation fill up.
WARM_UP = 0.25


@contextmanager
def watched(file: Path) -> Iterator[None]:
    """Add a line to a file for each row that this process logs; it is between two epochs then, its workers gone."""
    log = RunFolder.log

    def log_and_look(self: RunFolder, row: dict[str, Any]) -> None:
        log(self, row)
        with file.open("a") as lines:
            lines.write(json.dumps({"step": row["global_step"], **look()}) + "\n")

    RunFolder.log = log_and_look  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunFolder.log = log  # type: ignore[method-assign]


def look() -> dict[str, int]:
    """Return what this process holds now: bytes of memory, open files, threads, and processes that it started."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        # Linux gives kB, of 1024 bytes.
        "memory": 1024 * int(status["VmRSS"].split()[0]),
        # One too many, for listing opens the folder itself; it is in every row and cancels.
        "files": len(os.listdir("/proc/self/fd")),
        "threads": int(status["Threads"]),
        "processes": len(children),
    }


def summarize(file: Path) -> dict[str, Any]:
    """Compare the second half of the epochs after the warm-up with the first."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    settled = rows[int(WARM_UP * len(rows)) :]
    first, second = settled[: len(settled) // 2], settled[len(settled) // 2 :]
    # Means of halves: a single row jumps with the allocator.
    before, after = (mean(row["memory"] for row in part) for part in (first, second))
    counts = ("files", "threads", "processes")
    return {
        "steps": rows[-1]["step"],
        "evaluations": len(rows),
        "memory_mib": [round(before / 2**20, 1), round(after / 2**20, 1)],
        "memory_growth_percent": round(100 * (after / before - 1), 2),
        **{name: sorted({row[name] for row in settled}) for name in counts},
    }


def faults_of(figures: dict[str, Any], *, most_growth: float = 2.0) -> list[str]:
    """Return what grew."""
    faults = [f"{name}: {figures[name]}" for name in ("files", "threads", "processes") if len(figures[name]) > 1]
    if figures["memory_growth_percent"] >= most_growth:
        faults.append(f"memory grew by {figures['memory_growth_percent']} %")
    return faults
