"""Progress through many small things: a bar with the time left on a terminal, now and then a line elsewhere."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

#: Without a terminal: how many things there are from one line to the next.
EVERY = 5000


def counted(things: Iterable[T], *, total: int, label: str, unit: str) -> Iterator[T]:
    """Yield `things`, of which there are `total`, and show on stderr how far it is; few things pass in silence."""
    with tqdm(total=total, desc=label, unit=unit, disable=None) as bar:
        for done, thing in enumerate(things, start=1):
            yield thing
            bar.update()
            if bar.disable and done % EVERY == 0:
                print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)
