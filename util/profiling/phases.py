"""The phases of a training step, and their watchers: a capture window, a stopwatch, a trace.

The engine says where a phase begins and ends; without watchers that is an NVTX range and nothing else.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from . import Section, annotate, process_range

Batch = TypeVar("Batch")


class Watcher(Protocol):
    """Something that follows the training steps of a run, counted from 0 over all epochs of this process."""

    def begin_wait(self) -> None:
        """The next batch is asked for."""

    def begin_step(self, step: int) -> None:
        """A batch is at hand, the step begins."""

    def begin(self, section: Section) -> None:
        """Begin a phase; called outside its NVTX range. It may come several times a step, once per part of a batch."""

    def end(self, section: Section) -> None:
        """A phase ended, also when it failed."""

    def end_step(self) -> None:
        """The step is over."""

    @property
    def done(self) -> bool:
        """True once it needs no further step; always True for one that takes what comes."""


class StepPhases:
    """Marks the phases of training steps for profilers and tells the watchers.

    With `stop_when_done` a run was started for its watchers alone: `finished` is True once all have what they wanted.
    """

    def __init__(self, watchers: Sequence[Watcher] = (), *, stop_when_done: bool = False) -> None:
        self.watchers = list(watchers)
        self.stop_when_done = stop_when_done
        self.steps = 0
        #: Epoch and pixels of each step so far, the latter with padding; empty without watchers.
        self.seen: list[tuple[int, int]] = []

    def batches(self, loader: Iterable[Batch], *, epoch: int = 0) -> Iterator[Batch]:
        """The loader's batches of an epoch; watchers learn when the wait for each begins."""
        batches = iter(loader)
        while True:
            for watcher in self.watchers:
                watcher.begin_wait()
            try:
                batch = next(batches)
            except StopIteration:  # must not leave a generator: Python makes a RuntimeError of it
                return
            if self.watchers:
                self.seen.append((epoch, pixels_of(batch)))
            yield batch

    @contextmanager
    def step(self) -> Iterator[None]:
        """A whole step: the range `iteration`."""
        for watcher in self.watchers:
            # Over all epochs of this process: --profile_warmup may be longer than an epoch.
            watcher.begin_step(self.steps)
        with annotate("iteration"):
            yield
        # In reverse: a timer at the end of the list, the last told of a beginning, does not time the others' own work.
        for watcher in reversed(self.watchers):
            watcher.end_step()
        self.steps += 1

    @contextmanager
    def phase(self, section: Section) -> Iterator[None]:
        """A phase of the step, in a range of its name; for backward one of the whole process, see `process_range`."""
        for watcher in self.watchers:
            watcher.begin(section)
        try:
            with process_range(section) if section is Section.BACKWARD else annotate(section):
                yield
        finally:  # a failed phase ends too: a window or a mode left open would outlive the step
            for watcher in reversed(self.watchers):
                watcher.end(section)

    @property
    def finished(self) -> bool:
        """True once the run may end, because all it was started for is done."""
        return self.stop_when_done and all(watcher.done for watcher in self.watchers)


def pixels_of(batches: Any) -> int:
    """Return the pixels of a step's images (B, 3, H, W), padding included; 0 for what is no list of batches."""
    if not isinstance(batches, list) or not all(isinstance(batch, tuple) for batch in batches):
        return 0
    images = [getattr(batch[0], "tensors", batch[0]) for batch in batches]
    return sum(len(tensor) * tensor.shape[-2] * tensor.shape[-1] for tensor in images)
