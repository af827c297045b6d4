"""Named ranges around the parts of a training step, for Nsight Systems and Nsight Compute.

Without a profiler attached a range costs about a microsecond. Only the kernels of one part, for instance:
`ncu --nvtx --nvtx-include "forward/" python main.py ...` (`annotate`; the slash belongs to it) and
`ncu --nvtx --nvtx-include "backward" python main.py ...` (`process_range`; no slash).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from functools import cache
from types import ModuleType


class Section(StrEnum):
    """The parts of a training step, in their order."""

    FORWARD = "forward"
    LOSS = "loss"
    BACKWARD = "backward"
    OPTIMIZER_STEP = "optimizer_step"


#: What --section takes: one phase, or the whole step.
WHOLE_STEP = "all"
SECTIONS = (*map(str, Section), WHOLE_STEP)

#: Whether ranges also go to torch.profiler; see `record_ranges`.
_recording = False


def record_ranges(on: bool) -> None:
    """Give all ranges to torch.profiler too, while it records (`util/profiling/torch_trace.py`), or no longer."""
    global _recording
    _recording = on


#: Told of every range of `annotate`; see `follow_ranges`.
_follower: Callable[[str], AbstractContextManager] | None = None


def follow_ranges(follower: Callable[[str], AbstractContextManager] | None) -> None:
    """Have a context of `follower` around each range of `annotate` from now on; None ends that."""
    global _follower
    _follower = follower


#: True while a pass runs that is no part of the training; see `without_ranges`.
_silent = False


@contextmanager
def without_ranges() -> Iterator[None]:
    """A context in which `annotate` opens no range, for a pass over shapes that no profiler should see."""
    global _silent
    _silent, before = True, _silent
    try:
        yield
    finally:
        _silent = before


def annotate(name: Section | str) -> AbstractContextManager:
    """Return a context in which what the calling thread does is in the NVTX range `name`."""
    if _silent:
        return nullcontext()
    if _recording or _follower:
        return _recorded(str(name))
    return nvtx_range(str(name))


@contextmanager
def process_range(name: Section | str) -> Iterator[None]:
    """A context in which what any thread of the process does is in the NVTX range `name`.

    For backward: autograd launches its kernels from a thread of its own, which `annotate` does not see.
    """
    nvtx = _nvtx()
    trace = _trace(str(name)) if _recording else nullcontext()
    started = nvtx.start_range(str(name)) if nvtx else None
    try:
        with trace:
            yield
    finally:
        if nvtx:
            nvtx.end_range(started)


@contextmanager
def _recorded(name: str) -> Iterator[None]:
    """A range in NVTX, in torch.profiler's trace if one is being recorded, and of the follower if there is one."""
    with (
        nvtx_range(name),
        _trace(name) if _recording else nullcontext(),
        _follower(name) if _follower else nullcontext(),
    ):
        yield


def nvtx_range(name: str) -> AbstractContextManager:
    """Return a context in which what the calling thread does is in the NVTX range `name`, and in nothing else."""
    nvtx = _nvtx()
    return nvtx.annotate(name) if nvtx else nullcontext()


def _trace(name: str) -> AbstractContextManager:
    from torch.autograd.profiler import record_function  # flags.py imports this file and must not wait for torch

    return record_function(name)


@cache
def _nvtx() -> ModuleType | None:
    """The package nvtx, or None with one printed line; asked once a process."""
    try:
        import nvtx
    except ImportError:
        from ..dist.distributed import print_once

        print_once("the package nvtx is not installed: profilers will see no named ranges")
        return None
    return nvtx
