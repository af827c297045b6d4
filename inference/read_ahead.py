"""Reading the next images while the model works on the last."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

#: Threads that read; decoding and resizing run outside of Python's lock.
READERS = 2


def read_ahead(read: Callable[[S], T], sources: Iterable[S], *, count: int) -> Iterator[Future[T]]:
    """Yield `read` of each source, in order, as a future that is done or under way; up to `count` more are begun.

    Errors of `read` come from the future's `result`.
    """
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for source in sources:
                waiting.append(pool.submit(read, source))
                # Bounded: a folder of a million images must not be read into memory.
                if len(waiting) > count:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:  # stopped early: what has not begun is not read
            for future in waiting:
                future.cancel()
