"""Steps that take much longer than the others, and loaders that the model waits for: a line each, with the cause."""

from collections import deque
from collections.abc import Mapping
from statistics import median

#: A step is slow from so many times the running median on, and so many seconds above it.
SLOW_TIMES, SLOW_SECONDS = 5.0, 1.0
#: Steps that the running median is of, and how many it needs.
LAST, FEWEST = 50, 10
#: Lines about slow steps in one epoch.
MOST_LINES = 5
#: Part of an epoch from which on waiting for data is worth a line, and steps that such an epoch has.
STARVED, STARVED_STEPS = 0.2, 20


class Pace:
    """The seconds of the last steps of an epoch."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=LAST)
        self.lines = 0

    def look(self, step: int, *, data: float, computing: float, after: float) -> str | None:
        """Return a line for a step that was slow; None for others.

        Args:
            step: its number in the epoch, from 0.
            data: seconds of waiting for its images.
            computing: seconds of the step itself.
            after: seconds after it, in which checkpoints are written.
        """
        total, usual = data + computing + after, median(self._last) if len(self._last) >= FEWEST else None
        # After the median was taken: a slow step is measured by the others.
        self._last.append(total)
        if usual is None or total < SLOW_TIMES * usual or total < usual + SLOW_SECONDS or self.lines == MOST_LINES:
            return None
        self.lines += 1
        parts = {"waiting for the loader": data, "writing a checkpoint": after}
        # More than half of what was too much.
        cause = next((name for name, seconds in parts.items() if seconds > (total - usual) / 2), None)
        why = f"{parts[cause]:.1f} s of it {cause}" if cause else "in the step itself: another program, or new shapes"
        return f"step {step} took {total:.1f} s, {total / max(usual, 1e-9):.0f} times the median: {why}"


def describe_starving(stats: Mapping[str, float], *, steps: int, num_workers: int) -> str | None:
    """Return a line where an epoch waited for its images for more than a fifth of the time; None elsewhere.

    Args:
        stats: means of the epoch, among them `step_time` and `data_time` in seconds.
        steps: of the epoch.
        num_workers: of the loader.
    """
    seconds, waited = stats.get("step_time", 0.0), stats.get("data_time", 0.0)
    if steps < STARVED_STEPS or not seconds or waited <= STARVED * seconds:
        return None
    more = f"--num_workers {num_workers + 2 if num_workers else 2} (now {num_workers}) loads more beside the steps"
    return (
        f"the model waited for images in {100 * waited / seconds:.0f} % of the epoch: {more}, as far as there are "
        "cores; then --fast_resize, or a smaller --image_size"
    )
