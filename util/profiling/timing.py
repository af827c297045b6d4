"""Milliseconds of each phase of a training step: by CUDA events on a GPU, by the clock on the CPU."""

import argparse
import json
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..dist.accelerator import accelerator
from ..runs.atomic import atomic_file
from ..runs.run_info import run_info
from . import Section

#: A moment: seconds of the clock, or an event in the GPU's queue.
Mark = float | torch.cuda.Event
#: The step, and the moments when something in it began and ended.
Span = tuple[int, Mark, Mark]

DATA_WAIT, STEP = "data_wait", "step"


class PhaseTimer:
    """Times every training step after the first `warmup`.

    On a GPU the marks are events in its queue, read once at the end, so timing makes no step wait. `data_wait` is how
    long the host waited for the loader; what else happens between two steps (log, evaluation, saving) is not counted.
    A phase that a step repeats counts once, with the sum.

    Args:
        warmup: steps that are not counted.
        steps: how many to count, None for all that come.
        device: where the work is done.
    """

    def __init__(self, *, warmup: int, steps: int | None, device: torch.device) -> None:
        self.warmup = warmup
        # The first steps compile, choose kernels and fill caches.
        self.end_at = None if steps is None else warmup + steps
        self.device = device
        self._mark = marker(device)
        self.spans: dict[str, list[Span]] = {name: [] for name in (DATA_WAIT, *map(str, Section), STEP)}
        self.begun: dict[str, Mark] = {}
        self.waits_since = time.perf_counter()
        self.current = -1

    @property
    def counting(self) -> bool:
        """True while the step under way is one that counts."""
        return self.current >= self.warmup and (self.end_at is None or self.current < self.end_at)

    def begin_wait(self) -> None:
        """Note that from here on it is waiting for data."""
        self.waits_since = time.perf_counter()

    def begin_step(self, step: int) -> None:
        """Note that the data is here, and mark the beginning of the step."""
        self.current = step
        if self.counting:
            # By the clock on a GPU too: it is the host that waits, and the GPU's queue knows nothing of it.
            self.spans[DATA_WAIT].append((step, self.waits_since, time.perf_counter()))
            self.begun[STEP] = self._mark()

    def begin(self, section: Section) -> None:
        """Mark the beginning."""
        if self.counting:
            self.begun[str(section)] = self._mark()

    def end(self, section: Section) -> None:
        """Mark the end."""
        self._close(str(section))

    def end_step(self) -> None:
        """Mark the end of the step."""
        self._close(STEP)

    @property
    def done(self) -> bool:
        """True once all steps asked for are timed; a timer without an end takes all that come."""
        return self.end_at is None or self.current >= self.end_at - 1

    def milliseconds(self) -> dict[str, list[float]]:
        """Return the milliseconds of each step measured so far, by name, in the order of a step. Waits for the GPU."""
        return {name: list(steps.values()) for name, steps in self.by_step().items()}

    def by_step(self) -> dict[str, dict[int, float]]:
        """Return the milliseconds measured so far, by name and the number of the step. Waits for the GPU."""
        if self.spans[STEP]:
            accelerator(self.device).synchronise(self.device)
        return {name: _per_step(spans) for name, spans in self.spans.items()}

    def _close(self, name: str) -> None:
        # Not begun where the step does not count, or the phase began before the first that does.
        if name in self.begun:
            self.spans[name].append((self.current, self.begun.pop(name), self._mark()))


def summarise(milliseconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return median, quartiles and number of steps of each span that was measured."""
    return {name: _quartiles(values) for name, values in milliseconds.items() if values}


def summarise_epochs(by_step: dict[str, dict[int, float]], seen: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return for each epoch its number, the mean pixels of a step and `summarise` of its steps.

    Args:
        by_step: milliseconds, as `PhaseTimer.by_step` returns them.
        seen: epoch and pixels of each step, from the first on.
    """
    timed = sorted(by_step.get(STEP, {}))
    epochs = []
    # dict.fromkeys: each epoch once, in their order.
    for epoch in dict.fromkeys(seen[step][0] for step in timed):
        steps = [step for step in timed if seen[step][0] == epoch]
        pixels = statistics.fmean(seen[step][1] for step in steps)
        values = {name: [row[step] for step in steps if step in row] for name, row in by_step.items()}
        epochs.append({"epoch": epoch, "pixels": pixels, "phases": summarise(values)})
    return epochs


def timing_table(summary: dict[str, dict[str, float]]) -> str:
    """Return the summary as lines: milliseconds, and each phase's share of the step."""
    # Medians of phases need not add up to the median of the step: slow phases may lie in different steps.
    whole = summary[STEP]["median_ms"]
    lines = [f"{'phase':15}{'median ms':>11}{'quartiles':>21}{'of the step':>13}"]
    for name, row in summary.items():
        quartiles = f"{row['q1_ms']:.2f} - {row['q3_ms']:.2f}"
        # The wait lies between two steps and is no part of one.
        share = "beside it" if name == DATA_WAIT else f"{row['median_ms'] / whole:.0%}"
        lines.append(f"{name:15}{row['median_ms']:11.2f}{quartiles:>21}{share:>13}")
    return "\n".join([*lines, f"{summary[STEP]['steps']} steps"])


def write_timing(
    output_dir: str,
    args: argparse.Namespace,
    summary: dict[str, dict[str, float]],
    *,
    warmup: int,
    epochs: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write `timing.json`: the summary, that of each epoch, the run's flags, commit, machine and driver."""
    path = Path(output_dir) / "timing.json"
    clock = "CUDA events" if accelerator(torch.device(args.device)).cuda else "the host's clock"
    content: dict[str, Any] = {
        "phases": summary,
        "epochs": list(epochs),
        "clock": clock,
        "warmup_steps": warmup,
        "driver": gpu_driver(),
    }
    with atomic_file(path) as file:
        file.write(json.dumps(content | run_info(args), indent=2).encode() + b"\n")
    return path


def gpu_driver() -> str | None:
    """Return the version of NVIDIA's driver, None without one."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split()[0] if done.returncode == 0 and done.stdout.split() else None


def marker(device: torch.device) -> Callable[[], Mark]:
    """Return a function that marks a moment: by an event in a GPU's queue, by the clock on the CPU."""
    return partial(_event, device) if accelerator(device).cuda else time.perf_counter


def milliseconds_between(begin: Mark, end: Mark) -> float:
    """Return the time between two marks of one kind; the GPU must have reached both."""
    if isinstance(begin, torch.cuda.Event):
        assert isinstance(end, torch.cuda.Event)
        return begin.elapsed_time(end)
    assert not isinstance(end, torch.cuda.Event)
    return 1000 * (end - begin)


def _event(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))  # of this GPU, which with --device cuda:1 is not the current one
    return event


def _per_step(spans: Sequence[Span]) -> dict[int, float]:
    """Milliseconds by the number of the step, the spans of one step added up."""
    sums: dict[int, float] = {}
    for step, begin, end in spans:
        # With --accumulate a step has several forwards.
        sums[step] = sums.get(step, 0.0) + milliseconds_between(begin, end)
    return sums


def _quartiles(values: Sequence[float]) -> dict[str, float]:
    # "inclusive": the values are all there are, not a sample of more.
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median_ms": middle, "q1_ms": low, "q3_ms": high, "steps": len(values)}
