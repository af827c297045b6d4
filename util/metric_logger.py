"""Running means of a caller's own loop, printed in DETR's lines. Our own loop logs with `util/metrics.py`."""

import datetime
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from .dist.accelerator import TABLE
from .dist.distributed import all_gather
from .dist.memory import peak_memory

T = TypeVar("T")


class SmoothedValue:
    """A series of numbers: its last `window_size` ones, and count and total of all.

    `fmt` is how `str` shows it, with any of median, avg, max, value (of the window) and global_avg (of all).
    """

    def __init__(self, window_size: int = 20, fmt: str | None = None) -> None:
        self.deque: deque[float] = deque(maxlen=window_size)
        self.count = 0
        self.total = 0.0
        self.fmt = fmt or "{median:.4f} ({global_avg:.4f})"

    def update(self, value: float, n: int = 1) -> None:
        """Add a number that is the mean of `n`."""
        self.deque.append(value)
        self.count += n
        # The mean of n numbers counts n times: batches of other sizes weigh as they should.
        self.total += n * value

    def synchronize_between_processes(self) -> None:
        """Add up count and total over the processes; the window stays this one's."""
        # As in DETR: sharing the windows would cost an exchange of all their numbers.
        counts, totals = zip(*all_gather((self.count, self.total)))
        self.count, self.total = sum(counts), sum(totals)

    @property
    def median(self) -> float:
        """The median of the window; of an even number, the lower of the two in the middle, as torch's."""
        return statistics.median_low(self.deque) if self.deque else float("nan")

    @property
    def avg(self) -> float:
        """The mean of the window."""
        return sum(self.deque) / len(self.deque) if self.deque else float("nan")

    @property
    def global_avg(self) -> float:
        """The mean of all."""
        return self.total / self.count if self.count else float("nan")

    @property
    def max(self) -> float:
        """The largest of the window."""
        return max(self.deque, default=float("nan"))

    @property
    def value(self) -> float:
        """The latest."""
        return self.deque[-1] if self.deque else float("nan")

    def __str__(self) -> str:
        names = ("median", "avg", "global_avg", "max", "value")
        return self.fmt.format(**{name: getattr(self, name) for name in names})


class MetricLogger:
    """Series by name; each can be read as an attribute, and `str` shows all, with `delimiter` between them."""

    def __init__(self, delimiter: str = "\t") -> None:
        self.meters: defaultdict[str, SmoothedValue] = defaultdict(SmoothedValue)
        self.delimiter = delimiter

    def update(self, **kwargs: float | Tensor) -> None:
        """Add a number to each series that is named; a tensor of one number is read from its device."""
        for name, value in kwargs.items():
            self.meters[name].update(value.item() if isinstance(value, Tensor) else value)

    def add_meter(self, name: str, meter: SmoothedValue) -> None:
        """Use a series of another window or format under this name."""
        self.meters[name] = meter

    def synchronize_between_processes(self) -> None:
        """Take every series over all processes, which must have the same names in the same order."""
        for meter in self.meters.values():
            meter.synchronize_between_processes()

    def __getattr__(self, name: str) -> SmoothedValue:
        # Called for names that are no attributes. Through __dict__, because a copy is asked before it has any.
        meters = self.__dict__.get("meters", {})
        if name not in meters:
            raise AttributeError(f"{type(self).__name__} has neither an attribute nor a series {name!r}")
        return meters[name]

    def __str__(self) -> str:
        return self.delimiter.join(f"{name}: {meter}" for name, meter in self.meters.items())

    def log_every(self, iterable: Collection[T], print_freq: int, header: str | None = None) -> Iterator[T]:
        """Yield the items; print a line at the first, every `print_freq` and the last, and the time at the end.

        A line holds position, time left, the series, seconds an item, of which the wait for data, and on a GPU the
        peak of its memory in MiB.
        """
        total = len(iterable)
        step_time, data_time = SmoothedValue(fmt="{avg:.4f}"), SmoothedValue(fmt="{avg:.4f}")
        began = last = time.perf_counter()
        for i, item in enumerate(iterable):
            # Between two items the loader alone works: this is the wait for data.
            data_time.update(time.perf_counter() - last)
            # The caller's step runs here, until it asks for the next item.
            yield item
            step_time.update(time.perf_counter() - last)
            if i % print_freq == 0 or i == total - 1:
                parts = [header or "", f"[{i:{len(str(total))}d}/{total}]"]
                # The mean of all items, not of the window: a slow one should not make the estimate jump.
                parts += [f"eta: {_clock(step_time.global_avg * (total - i))}", str(self)]
                parts += [f"time: {step_time}", f"data: {data_time}", *_gpu_memory()]
                print(self.delimiter.join(parts), flush=True)
            last = time.perf_counter()
        seconds = time.perf_counter() - began
        print(f"{header or ''} Total time: {_clock(seconds)} ({seconds / max(1, total):.4f} s / it)", flush=True)


def _clock(seconds: float) -> str:
    """Return a time as h:mm:ss."""
    return str(datetime.timedelta(seconds=int(seconds)))


def _gpu_memory() -> list[str]:
    return [f"max mem: {peak_memory(torch.device('cuda')):.0f}"] if TABLE["cuda"].available() else []
