"""Lines of a prediction: one for every input, and at the end counts, speed, and what could not be read."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .detections import Detections

#: The parts of the work whose times are told apart.
PARTS = ("reading", "model", "drawing", "writing")


class Clock:
    """Seconds spent in each of the `PARTS`."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block for a part."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    @property
    def total(self) -> float:
        """Return the seconds of all parts."""
        return sum(self.seconds.values())

    def shares(self) -> str:
        """Return the share of each part in words."""
        return ", ".join(f"{name} {100 * value / max(self.total, 1e-9):.0f} %" for name, value in self.seconds.items())


class Summary:
    """Counts of a prediction."""

    def __init__(self) -> None:
        self.images = 0
        self.frames = 0
        self.objects: Counter[str] = Counter()
        self.failures: list[str] = []
        self.notes: list[str] = []

    def add(self, found: Detections, *, is_frame: bool) -> None:
        """Count an image, or a frame of a video, and what was found in it."""
        self.objects.update(found.names)
        if is_frame:
            self.frames += 1
        else:
            self.images += 1

    def lines(self, clock: Clock) -> list[str]:
        """Return the lines at the end."""
        things = [in_words(self.images, "image")] if self.images or not self.frames else []
        things += [in_words(self.frames, "frame")] if self.frames else []
        lines = [f"{' and '.join(things)}, {describe_counts(self.objects)}"]
        if self.images + self.frames:
            # By the time of the parts, without the loading of the model.
            rate = (self.images + self.frames) / max(clock.total, 1e-9)
            lines.append(f"{rate:.3g} {'frames' if self.frames else 'images'} a second: {clock.shares()}")
        lines += self.notes
        if self.failures:
            lines.append(f"could not be read: {len(self.failures)}")
            lines += [f"  {failure}" for failure in self.failures]
        return lines


def describe_counts(counts: Counter[str]) -> str:
    """Return `3 objects: 2 dog, 1 cat`, the most frequent class first."""
    words = in_words(counts.total(), "object")
    return words + (": " + ", ".join(f"{count} {name}" for name, count in counts.most_common()) if counts else "")


def in_words(count: int, thing: str) -> str:
    """Return `1 image`, `2 images`."""
    return f"{count} {thing}{'' if count == 1 else 's'}"
