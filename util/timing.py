"""Milliseconds of each phase of a training step: by CUDA events on a GPU, by the clock on the CPU."""

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from util.atomic import atomic_file
from util.profiling import Section
from util.run_info import run_info

#: A moment: seconds of the clock, or an event in the GPU's queue.
Mark = float | torch.cuda.Event

DATA_WAIT, STEP = "data_wait", "step"


class PhaseTimer:
    """Times every training step after the first `warmup`.

    On a GPU the marks are events in its queue, read once at the end, so timing makes no step wait. `data_wait` is the
    host's time between two steps: waiting for the loader, and writing the log.

    Args:
        warmup: steps that are not counted.
        steps: how many to count, None for all that come.
        device: where the work is done.
    """

    def __init__(self, *, warmup: int, steps: int | None, device: torch.device) -> None:
        self.warmup = warmup
        self.end_at = None if steps is None else warmup + steps
        self._mark: Callable[[], Mark] = _event if device.type == "cuda" else time.perf_counter
        self.spans: dict[str, list[tuple[Mark, Mark]]] = {name: [] for name in (STEP, DATA_WAIT, *map(str, Section))}
        self.begun: dict[str, Mark] = {}
        self.left = time.perf_counter()
        self.current = -1

    @property
    def counting(self) -> bool:
        """Whether the step under way is one that counts."""
        return self.current >= self.warmup and (self.end_at is None or self.current < self.end_at)

    def begin_step(self, step: int) -> None:
        """The data is here."""
        self.current = step
        if self.counting:
            self.spans[DATA_WAIT].append((self.left, time.perf_counter()))
            self.begun[STEP] = self._mark()

    def begin(self, section: Section) -> None:
        """Mark the beginning."""
        if self.counting:
            self.begun[str(section)] = self._mark()

    def end(self, section: Section) -> None:
        """Mark the end."""
        self._close(str(section))

    def end_step(self) -> None:
        """Mark the end of the step; from here on it is waiting for data."""
        self._close(STEP)
        self.left = time.perf_counter()

    @property
    def done(self) -> bool:
        """Whether all steps asked for are timed; a timer without an end takes what comes."""
        return self.end_at is None or self.current >= self.end_at - 1

    def milliseconds(self) -> dict[str, list[float]]:
        """All spans measured so far, by name, in the order of a step. Waits for the GPU."""
        if self.spans[STEP] and not isinstance(self.spans[STEP][0][0], float):
            torch.cuda.synchronize()
        names = (DATA_WAIT, *map(str, Section), STEP)
        return {name: [_between(*span) for span in self.spans[name]] for name in names}

    def _close(self, name: str) -> None:
        if name in self.begun:
            self.spans[name].append((self.begun.pop(name), self._mark()))


def summarise(milliseconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, quartiles and number of steps of each span that was measured."""
    return {name: _quartiles(values) for name, values in milliseconds.items() if values}


def timing_table(summary: dict[str, dict[str, float]]) -> str:
    """The summary as lines: milliseconds, and each phase's share of the step."""
    whole = summary[STEP]["median_ms"]
    lines = [f"{'phase':15}{'median ms':>11}{'quartiles':>21}{'of the step':>13}"]
    for name, row in summary.items():
        quartiles = f"{row['q1_ms']:.2f} - {row['q3_ms']:.2f}"
        share = "beside it" if name == DATA_WAIT else f"{row['median_ms'] / whole:.0%}"
        lines.append(f"{name:15}{row['median_ms']:11.2f}{quartiles:>21}{share:>13}")
    return "\n".join([*lines, f"{summary[STEP]['steps']} steps"])


def write_timing(
    output_dir: str, args: argparse.Namespace, summary: dict[str, dict[str, float]], *, warmup: int
) -> Path:
    """Write `timing.json`: the summary beside the run's flags, commit, machine and driver."""
    path = Path(output_dir) / "timing.json"
    clock = "CUDA events" if torch.device(args.device).type == "cuda" else "the host's clock"
    content: dict[str, Any] = {"phases": summary, "clock": clock, "warmup_steps": warmup, "driver": gpu_driver()}
    with atomic_file(path) as file:
        file.write(json.dumps(content | run_info(args), indent=2).encode() + b"\n")
    return path


def gpu_driver() -> str | None:
    """Version of NVIDIA's driver, None where there is none."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.split() else None


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(begin: Mark, end: Mark) -> float:
    """Milliseconds between two marks of one kind."""
    return 1000 * (end - begin) if isinstance(begin, float) else begin.elapsed_time(end)


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median_ms": middle, "q1_ms": low, "q3_ms": high, "steps": len(values)}
