"""A CPU's rates by size of the data, by number type and by threads, as torch's operators reach them.

Copy (2 arrays) and triad c = a + s b (3 arrays, McCalpin's STREAM) over data that fits a level of cache or none. A call
of an operator takes about a microsecond: of data for the first level it is most of the time, so that row says what an
operator on such data gets, not what the cache could do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: Bytes of all arrays of a copy or triad together: within most cores' L1, L2, shared cache, and beyond.
SIZES = (24 << 10, 512 << 10, 8 << 20, 768 << 20)


@dataclass(frozen=True)
class Rate:
    """A rate in `unit` of `what` in a number type with some threads; `size`: bytes of the arrays, 0 for FLOPs."""

    what: str
    type: str
    threads: int
    size: int
    value: float
    unit: str

    def toml(self) -> str:
        """Return an entry of the roofs file's list `rate`."""
        texts = f'what = "{self.what}"\ntype = "{self.type}"\nunit = "{self.unit}"'
        return f"[[rate]]\n{texts}\nthreads = {self.threads}\nbytes = {self.size}\nvalue = {self.value:.6g}\n"


def measure_rates(torch: Any, *, side: int, sizes: tuple[int, ...] = SIZES, repeats: int = 5) -> list[Rate]:
    """Return the rates with one thread and with all that torch uses; `side`: of the matrices of a product."""
    all_threads = torch.get_num_threads()
    rates = []
    try:
        for threads in sorted({1, all_threads}):
            torch.set_num_threads(threads)
            rates += [rate for size in sizes for rate in _memory(torch, size, threads, repeats)]
            for kind in (torch.float64, torch.float32, torch.bfloat16):
                rates += _arithmetic(torch, side, kind, threads, repeats)
    finally:
        torch.set_num_threads(all_threads)
    return rates


def _memory(torch: Any, size: int, threads: int, repeats: int) -> list[Rate]:
    two, three = size // 8, size // 12  # float32 numbers in each of two or three arrays
    a, b = torch.zeros(two), torch.empty(two)
    # A number of 4 bytes is read, and one is written.
    copy = 8 * two / best_seconds(lambda: b.copy_(a), size, repeats)
    a, b, c = (torch.zeros(three) for _ in range(3))
    # Two are read, one is written; STREAM counts so, and leaves out that a cache first reads what is to be written.
    triad = 12 * three / best_seconds(lambda: torch.add(a, b, alpha=3.0, out=c), size, repeats)
    return [Rate(name, "float32", threads, size, value, "B/s") for name, value in (("copy", copy), ("triad", triad))]


def _arithmetic(torch: Any, side: int, kind: Any, threads: int, repeats: int) -> list[Rate]:
    name = str(kind).removeprefix("torch.")
    a, b = (torch.rand(side, side).to(kind) for _ in range(2))
    product = 2 * side**3 / best_seconds(lambda: a @ b, 1 << 30, repeats)
    channels = max(1, side // 8)
    image, weight = (torch.rand(shape).to(kind) for shape in ((1, channels, 64, 64), (channels, channels, 3, 3)))
    seconds = best_seconds(lambda: torch.conv2d(image, weight, padding=1), 1 << 30, repeats)
    # 2 operations for each of 3 x 3 weights of every pair of channels, at every place: padding keeps 64 x 64.
    convolution = 2 * 9 * channels**2 * 64**2 / seconds
    found = (("matrix product", product), ("convolution 3x3", convolution))
    return [Rate(what, name, threads, 0, value, "FLOP/s") for what, value in found]


def best_seconds(call: Callable[[], Any], size: int, repeats: int) -> float:
    """Return the best time of a call; short ones are timed in groups, for the clock's own sake."""
    # About 8 MB of traffic between two looks at the clock.
    group = max(1, (8 << 20) // size)
    times = []
    for _ in range(repeats + 1):  # the first warms caches up, and is never the best
        start = time.perf_counter()
        for _ in range(group):
            call()
        times.append((time.perf_counter() - start) / group)
    return min(times)
