"""The exchange of gradients in a trace: each bucket's bytes and time, the bus, and how much computing hides.

A bucket is an all-reduce of at least LEAST_BYTES. On a CPU it is gloo's range in a thread of its own; on a GPU NCCL's
kernel, whose arguments Kineto notes. What runs beside it is the backward pass's nodes, on a GPU other kernels.
"""

import gzip
import re
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..bus import bus_bytes
from ..read.places import NODE
from ..read.trace_events import read_events

#: Smaller all-reduces are of losses and counts.
LEAST_BYTES = 1024
#: Bytes of a number by its type, as gloo's ranges and NCCL's kernels name it.
_WIDTHS = {"double": 8, "float": 4, "half": 2, "bfloat16": 2, "long": 8, "int": 4}
_REDUCE = ("gloo:all_reduce", "gloo:allreduce")
Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Bucket:
    """An all-reduce: its bytes, when it began (seconds from the trace's first event), seconds, and hidden seconds."""

    size: int
    begin: float
    seconds: float
    hidden: float

    def bus_rate(self, ranks: int) -> float:
        """Return byte/s of the bus."""
        return bus_bytes(self.size, ranks) / self.seconds


@dataclass(frozen=True)
class Exchange:
    """The buckets of a trace, in their order, of how many processes and steps."""

    buckets: list[Bucket]
    ranks: int
    steps: int

    @property
    def hidden_share(self) -> float:
        """The part of the time (0..1) in which computing goes on beside it."""
        whole = sum(bucket.seconds for bucket in self.buckets)
        return sum(bucket.hidden for bucket in self.buckets) / whole if whole else 0.0


def read_exchange(path: Path) -> Exchange | None:
    """Read the exchange of a trace; None where there is none. Raises RoofError for a file that is no trace."""
    if (ranks := _world_size(path)) < 2:
        return None
    found: list[tuple[float, float, int]] = []
    nodes: Spans = []
    kernels: Spans = []
    steps = 0
    origin: float | None = None
    for event in read_events(path):
        if event.get("ph") != "X":
            continue
        name, arguments = str(event["name"]), event.get("args", {})
        # Kineto's times are microseconds since a moment of its own.
        origin = event["ts"] if origin is None else origin
        span = (event["ts"], event["ts"] + event.get("dur", 0.0))
        # The range around a step, which the engine opens; on a GPU it comes a second time, of another category.
        steps += name == "iteration" and event.get("cat") == "user_annotation"
        size = _size(event.get("cat"), name, arguments)
        if size >= LEAST_BYTES:
            found.append((*span, size))
        elif name.startswith(NODE):
            nodes.append(span)
        elif event.get("cat") == "kernel" and "nccl" not in name:
            kernels.append(span)
    if not found:
        return None
    # On a GPU the kernels are what computes; a trace of a CPU has none.
    beside = _joined(kernels or nodes)
    buckets = [
        Bucket(size, (begin - (origin or 0.0)) / 1e6, max(end - begin, 1e-3) / 1e6, _common(beside, begin, end) / 1e6)
        for begin, end, size in sorted(found)
    ]
    return Exchange(buckets, ranks, max(1, steps))


def _size(category: Any, name: str, arguments: dict[str, Any]) -> int:
    """Return the bytes of an all-reduce, 0 for any other event."""
    if category == "user_annotation" and name in _REDUCE:
        kinds, sizes = arguments.get("Input type", []), arguments.get("Input Dims", [])
        return sum(_width(kind) * prod(size) for kind, size in zip(kinds, sizes))
    if category == "kernel" and "nccl" in name and "allreduce" in str(arguments.get("Collective name", "")):
        return int(arguments.get("In msg nelems", 0)) * _width(str(arguments.get("dtype", "float")))
    return 0


def _width(kind: str) -> int:
    return _WIDTHS.get(kind.lower().rpartition("::")[2], 4)


def _joined(spans: Spans) -> Spans:
    """Return the spans in order, those that meet as one."""
    result: Spans = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return result


def _common(spans: Spans, begin: float, end: float) -> float:
    """Return how much of begin..end lies within the spans, which are apart and in order."""
    # The first span that ends at or after `begin`: all before it have nothing in common.
    first = bisect_left(spans, begin, key=lambda span: span[1])
    return sum(_within(spans[first:], begin, end))


def _within(spans: Spans, begin: float, end: float) -> Iterable[float]:
    for start, stop in spans:
        if start >= end:
            return
        yield max(0.0, min(stop, end) - max(start, begin))


def _world_size(path: Path) -> int:
    """Return the number of processes that the trace's head names; without one, that of the traces beside it."""
    with open(path, "rb") as file:
        # gzip's first two bytes.
        packed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt", encoding="utf-8") if packed else open(path, encoding="utf-8") as text:
        # The head alone: the events behind it may be gigabytes.
        head = text.read(1 << 16).partition('"traceEvents"')[0]
    match = re.search(r'"world_size":\s*(\d+)', head)
    return int(match[1]) if match else max(1, len(list(path.parent.glob("trace_rank*.json*"))))
