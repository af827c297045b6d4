"""Progress: a bar with the time left on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

from .dist.distributed import is_main_process

T = TypeVar("T")

#: Without a terminal: a line for every tenth of the things, but for no fewer than this.
FEWEST = 1000


def with_progress(items: Iterable[T], label: str, *, unit: str = "it", total: int | None = None) -> Iterator[T]:
    """Yield the items and show on stderr how many are done; few items pass in silence.

    Args:
        items: anything to iterate over; without a length it needs `total`.
        label: what a line or the bar begins with.
        unit: what one item is called beside the bar.
        total: how many items there are.
    """
    if total is None:
        assert isinstance(items, Sized), "items without a length need `total`"
        total = len(items)
    every = max(FEWEST, total // 10)
    with tqdm(total=total, desc=label, unit=unit, disable=None) as bar:
        for done, item in enumerate(items, start=1):
            yield item
            bar.update()
            if bar.disable and done % every == 0:
                print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)


class Progress:
    """Steps of the whole run: a bar with the time left on a terminal, plain lines elsewhere, nothing on other ranks."""

    def __init__(self, *, total: int, done: int = 0, label: str = "train") -> None:
        self.total = total
        self.initial = self.done = done
        self.start = time.monotonic()
        # smoothing=0: the bar's time left is by the mean pace of the run; by default it swings with every pause.
        self.bar = tqdm(total=total, initial=done, desc=label, smoothing=0, disable=None if is_main_process() else True)

    def advance(self) -> None:
        """Count one step more."""
        self.done += 1
        self.bar.update()

    def eta(self) -> str:
        """Return the time left at the average pace so far, evaluations included, as h:mm:ss."""
        # Steps of this process: those before a resumption took none of its time.
        steps = self.done - self.initial
        left = (time.monotonic() - self.start) / max(1, steps) * (self.total - self.done)
        return f"{int(left) // 3600}:{int(left) // 60 % 60:02d}:{int(left) % 60:02d}"

    def show(self, line: str, *, short: str) -> None:
        """Show the short form beside the bar on a terminal, else the whole line as a line of its own."""
        if not self.bar.disable:
            self.bar.set_postfix_str(short)
        elif is_main_process():
            print(line, flush=True)

    def note(self, line: str) -> None:
        """Print a line that stays, above the bar on a terminal; rank 0 only."""
        if not self.bar.disable:
            self.bar.write(line)
        elif is_main_process():
            print(line, flush=True)

    def close(self) -> None:
        """Leave the bar as it is and end its line."""
        self.bar.close()
