"""Progress through many small things: a bar with the time left on a terminal, now and then a line elsewhere."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

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
