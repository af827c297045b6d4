"""Progress through the bytes of one file."""

import time

from tqdm import tqdm


class ByteProgress:
    """Bytes of one file: a bar with the time left on a terminal, elsewhere a line for every tenth and at the end.

    Lines for tenths are at least `interval` seconds apart, so that what is quick takes one line.
    """

    interval = 5.0

    def __init__(self, label: str, *, total: int | None, done: int = 0) -> None:
        self.label = label
        self.total = total
        self.initial = self.done = done
        self.start = self.shown = time.monotonic()
        self.bar = tqdm(total=total, initial=done, desc=label, unit="B", unit_scale=True, disable=None)

    def advance(self, count: int) -> None:
        """Count so many bytes more."""
        before = self._tenths()
        self.done += count
        self.bar.update(count)
        if self.bar.disable and self.total and self._tenths() > before:
            now = time.monotonic()
            if now - self.shown >= self.interval or self.done == self.total:
                self.shown = now
                left = self._time_for(self.total - self.done)
                print(f"{self.label}: {in_units(self.done)} of {in_units(self.total)}, {left} left", flush=True)

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        self.bar.close()

    def _tenths(self) -> int:
        return 10 * self.done // self.total if self.total else 0

    def _time_for(self, count: int) -> str:
        """Return the time that so many bytes take at the average pace so far, as h:mm:ss."""
        seconds = int((time.monotonic() - self.start) / max(1, self.done - self.initial) * count)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def in_units(count: float) -> str:
    """Return a number of bytes for people, in powers of 1000 as on download pages: `18.4 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
