"""A GPU's time, moment by moment: computing, copying, exchanging, waiting for the host, waiting for something else."""

import math
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from .kernel_names import family, readable
from .places import Place, is_communication
from .trace_events import Trace
from .trace_places import Walk

COMPUTE, COPY, COMMUNICATION, HOST_BOUND, IDLE = "compute", "copy", "communication", "host bound", "idle"
#: Of what runs at the same time the first of these has the time.
_RANKS = {COMPUTE: 0, COPY: 1, COMMUNICATION: 2}
_BETWEEN = "(host bound between steps)"
PLACE_KEYS = ["section", "module", "direction", "operator"]


@dataclass(frozen=True, slots=True)
class Work:
    """Something that ran on a GPU; microseconds. launched: when the host asked for it. shape: grid and block."""

    place: Place
    kind: str
    kernel: str
    begin: float
    end: float
    launched: float
    shape: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Booked:
    """Microseconds of one kind, at a place."""

    place: Place
    kind: str
    kernel: str
    microseconds: float
    calls: int
    begin: float
    shape: tuple[str, str] = ("", "")


def book(works: Iterable[Work], *, begin: float, end: float, steps: Sequence[float] = ()) -> Iterator[Booked]:
    """Book every moment from `begin` to the later of `end` and the end of all work to exactly one thing.

    What runs at the same time counts once: computing before copies, these before communication, which then is what no
    computing hides. A gap is "host bound" if the work after it was launched within it, else "idle".

    Args:
        works: what ran, in order of its begin; it is read once, and only what runs at a moment is kept.
        begin: the moment at which the first gap begins.
        end: the end of the last step.
        steps: moments at which the host began a step: a gap before such a moment belongs to no module.
    """
    active: list[Work] = []
    now = begin
    for work in works:
        now = yield from _run(active, now, work.begin)
        if work.begin > now:
            yield from _gap(now, work, steps)
            now = work.begin
        # The call counts once here; its time comes piece by piece as it is booked.
        yield Booked(work.place, work.kind, work.kernel, 0.0, 1, work.begin, work.shape)
        active.append(work)
    now = yield from _run(active, now, math.inf)
    if end > now:
        yield Booked(Place(in_step=True), IDLE, "(after the last kernel)", end - now, 0, now)


def _run(active: list[Work], now: float, until: float) -> Generator[Booked, None, float]:
    """Book what is active, until a moment or until nothing is; return the moment that was reached."""
    while active and now < until:
        chosen = min(active, key=lambda work: _RANKS[work.kind])  # of equals the one that began first
        # Up to the next change: until then the same things run.
        stop = min(until, *(work.end for work in active))
        if stop > now:
            yield Booked(chosen.place, chosen.kind, chosen.kernel, stop - now, 0, now, chosen.shape)
            now = stop
        active[:] = [work for work in active if work.end > now]
    return now


def _gap(now: float, work: Work, steps: Sequence[float]) -> Iterator[Booked]:
    # The first step that begins after `now`.
    n = bisect_right(steps, now)
    if n < len(steps) and steps[n] < work.begin:  # the host began this step while the device had nothing to do
        yield Booked(Place(in_step=work.place.in_step), HOST_BOUND, _BETWEEN, steps[n] - now, 0, now)
        now = steps[n]
    kind = HOST_BOUND if work.launched >= now else IDLE
    label = f"({kind} before {work.place.operator or 'a kernel'})"
    yield Booked(work.place, kind, label, work.begin - now, 0, now)


def device_time(trace: Trace, found: Walk) -> Iterator[Booked]:
    """Yield the bookings of a trace's device, between its first step's begin and the end of all work."""
    begins = [begin for begin, _ in found.steps]
    return book(_works(trace, found), begin=begins[0], end=found.steps[-1][1], steps=begins)


def _works(trace: Trace, found: Walk) -> Iterator[Work]:
    device = trace.device
    for i in device.in_order():
        place, launched = found.launches.get(device.first[i], (Place(), 0.0))
        if place.in_step:
            name = trace.names[device.name[i]]
            yield Work(place, kind_of(name, device.kind[i]), name, device.begin[i], device.end[i], launched)


def kind_of(name: str, number: int) -> str:
    """Return the kind of what ran on a device: a kernel if `number` is 0, else a copy."""
    if is_communication(name):
        return COMMUNICATION
    return COPY if number else COMPUTE


def device_rows(booked: Iterable[Booked]) -> pd.DataFrame:
    """Return a row by place, kernel and shape, in order of the first, with a column in_step; times in seconds."""
    sums: dict[tuple, list[float]] = {}  # microseconds, calls, begin of the first
    for item in booked:
        # What exchanges gradients is apart, whatever module's backward it was launched in.
        module = "" if item.kind == COMMUNICATION else item.place.module
        kind = family(item.kernel) if item.kind == COMPUTE else item.kind
        place = item.place
        key = (place.section, module, place.direction, place.operator, place.in_step, item.kernel, kind, *item.shape)
        found = sums.setdefault(key, [0.0, 0, item.begin])
        found[0] += item.microseconds
        found[1] += item.calls
    names = [*PLACE_KEYS, "in_step", "kernel", "family", "grid", "block"]
    table = pd.DataFrame([(*key, *values) for key, values in sums.items()], columns=[*names, "us", "launches", "first"])
    # Kernels that others hid entirely have no time of their own.
    table = table[table["us"] > 0].sort_values("first", kind="stable", ignore_index=True)
    return table.assign(
        name=table["kernel"].map(label),
        time_s=table.pop("us") / 1e6,
        first=table.index,
        launches=table["launches"].clip(lower=1),
    )


def label(kernel: str) -> str:
    """Return a readable name; what is in parentheses is no kernel, and has one."""
    return kernel if kernel.startswith("(") else readable(kernel)
