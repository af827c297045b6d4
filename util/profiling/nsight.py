"""The profiler's capture window: `ncu` and `nsys` record only what lies between cudaProfilerStart and cudaProfilerStop.

For `ncu --profile-from-start off` and `nsys profile --capture-range=cudaProfilerApi --capture-range-end=repeat`.
"""

from collections.abc import Callable
from functools import partial

import torch

from ..dist.accelerator import accelerator
from ..dist.distributed import print_once
from . import WHOLE_STEP, Section


class CaptureWindow:
    """Opens the window around one phase, or around all four, in each of `steps` training steps after `warmup` others.

    Args:
        section: one of `util.profiling.SECTIONS`.
        warmup: steps before the first window: caches warm, algorithms chosen, memory allocated.
        steps: how many steps have a window; one per occurrence of the phase, should a step repeat it.
        device: where the work is done. On a CPU nothing is opened, and one line says so.
        start, stop: what opens and closes it; by default CUDA's, each after waiting for the device, so that
            exactly the phase's kernels lie in the window.
    """

    def __init__(
        self,
        *,
        section: str,
        warmup: int,
        steps: int,
        device: torch.device,
        start: Callable[[], None] | None = None,
        stop: Callable[[], None] | None = None,
    ) -> None:
        self.first = Section.FORWARD if section == WHOLE_STEP else Section(section)
        self.last = Section.OPTIMIZER_STEP if section == WHOLE_STEP else self.first
        self.begin_at, self.end_at = warmup, warmup + steps
        self.current = -1
        self.open = False
        if start is None and not accelerator(device).cuda:
            print_once(
                f"--section {section}: no CUDA device, so no profiler's window opens; the run ends where it would have"
            )
        self._start = start or partial(_cuda_start, device)
        self._stop = stop or partial(_cuda_stop, device)

    def begin_wait(self) -> None:
        """The window is about steps."""

    def begin_step(self, step: int) -> None:
        """Note where the run is."""
        self.current = step

    def begin(self, section: Section) -> None:
        """Open the window before its phase."""
        # Open already: with accumulated batches the forward comes again before the step's last phase.
        if section is self.first and not self.open and self.begin_at <= self.current < self.end_at:
            self._start()
            self.open = True

    def end(self, section: Section) -> None:
        """Close the window after its phase."""
        if section is self.last and self.open:
            self._stop()
            self.open = False

    def end_step(self) -> None:
        """Nothing more: the window closed with its phase."""

    @property
    def done(self) -> bool:
        """True once the last window was closed."""
        # Steps count from 0: the last one of the window is end_at - 1.
        return self.current >= self.end_at - 1 and not self.open


def _cuda_start(device: torch.device) -> None:
    if accelerator(device).cuda:
        torch.cuda.synchronize(device)  # kernels that were queued before the phase are not the phase's
        torch.cuda.profiler.start()


def _cuda_stop(device: torch.device) -> None:
    if accelerator(device).cuda:
        torch.cuda.synchronize(device)  # and the phase's own have run
        torch.cuda.profiler.stop()
