"""The events of a torch.profiler trace (Kineto's JSON), one after the other: the file is never in memory as a whole."""

import gzip
import json
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .. import RoofError
from .odd_files import naming_file

_CHUNK = 1 << 20
_HOST = {"cpu_op", "user_annotation", "cuda_runtime", "cuda_driver"}
_DEVICE = {"kernel", "gpu_memcpy", "gpu_memset"}
#: Kinds of host events, in the column `kind`.
OPERATOR, ANNOTATION, LAUNCH = range(3)
_KINDS = {"cpu_op": OPERATOR, "user_annotation": ANNOTATION, "cuda_runtime": LAUNCH, "cuda_driver": LAUNCH}


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a trace, packed by gzip or not. Raises RoofError for a file that is none or was cut off."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if packed else open(path, encoding="utf-8") as text:
            yield from _objects(text, path)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise RoofError(f"{path}: no readable trace ({error}); was the run stopped while it wrote?") from error


def _objects(text: TextIO, path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of the list `traceEvents`, decoding no more than a chunk and one object at a time."""
    decoder = json.JSONDecoder()
    buffer = text.read(_CHUNK)
    while (place := buffer.find('"traceEvents"')) < 0:
        more = text.read(_CHUNK)
        if not more:
            raise RoofError(f"{path}: no trace of torch.profiler (it has no traceEvents)")
        # The word may lie across two chunks.
        buffer = buffer[-20:] + more
    place = buffer.find("[", place) + 1
    while True:
        while place < len(buffer) and buffer[place] in " \t\r\n,":
            place += 1
        if place < len(buffer) and buffer[place] == "]":
            return
        try:
            event, place = decoder.raw_decode(buffer, place)
        except json.JSONDecodeError:  # the object goes on in the next chunk
            more = text.read(_CHUNK)
            if not more:
                raise RoofError(f"{path}: the trace ends in the middle; was the run stopped while it wrote?") from None
            buffer, place = buffer[place:] + more, 0
            continue
        yield event


@dataclass
class Columns:
    """Events as columns of numbers: begin and end in microseconds, a name's number, and two numbers by kind.

    Of operators `first` is autograd's number and `second` is 1 in a backward pass's node; of launches and of events on
    the device `first` is the correlation of the two.
    """

    begin: array = field(default_factory=lambda: array("d"))
    end: array = field(default_factory=lambda: array("d"))
    name: array = field(default_factory=lambda: array("q"))
    kind: array = field(default_factory=lambda: array("b"))
    first: array = field(default_factory=lambda: array("q"))

    def add(self, begin: float, end: float, name: int, kind: int, first: int) -> None:
        """Add an event."""
        self.begin.append(begin)
        self.end.append(end)
        self.name.append(name)
        self.kind.append(kind)
        self.first.append(first)

    def in_order(self) -> list[int]:
        """Return the places of the events by their begin, those that enclose others before these."""
        # The last key sorts first: by begin, then the later end before the earlier.
        return np.lexsort((-np.asarray(self.end), np.asarray(self.begin))).tolist()


@dataclass
class Trace:
    """A trace's events: `threads` of the host by process and thread, `device` what ran on GPUs; `names` by number."""

    path: Path
    names: list[str] = field(default_factory=list)
    threads: dict[tuple[Any, Any], Columns] = field(default_factory=dict)
    device: Columns = field(default_factory=Columns)
    gpu: str = ""


def read_trace(path: Path) -> Trace:
    """Read the events that tell where time went. Raises RoofError."""
    trace = Trace(path)
    with naming_file(path):
        _take_events(trace, read_events(path))
    if not trace.threads:
        raise RoofError(f"{path}: the trace has no operators")
    return trace


def _take_events(trace: Trace, events: Iterator[dict[str, Any]]) -> None:
    """Add events to a trace; those that tell nothing about time are passed over."""
    numbers: dict[str, int] = {}
    origin: float | None = None
    for event in events:
        category = event.get("cat")
        if event.get("ph") != "X" or (category not in _HOST and category not in _DEVICE):
            continue
        arguments = event.get("args", {})
        # From the first event on: large numbers would leave no digits for nanoseconds.
        origin = event["ts"] if origin is None else origin
        begin = event["ts"] - origin
        name = numbers.setdefault(sys.intern(event["name"]), len(numbers))
        if category in _DEVICE:
            kind = ("kernel", "gpu_memcpy", "gpu_memset").index(category)
            trace.device.add(begin, begin + event.get("dur", 0), name, kind, arguments.get("correlation", -1))
            continue
        kind = _KINDS[category]
        first = arguments.get("correlation" if kind == LAUNCH else "Sequence number", -1)
        columns = trace.threads.setdefault((event.get("pid"), event.get("tid")), Columns())
        # The largest number says "none"; it does not fit 64 bits with a sign.
        columns.add(begin, begin + event.get("dur", 0), name, kind, first if 0 <= first < 2**62 else -1)
    trace.names = list(numbers)
