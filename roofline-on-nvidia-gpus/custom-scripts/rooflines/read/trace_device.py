"""A GPU's time, moment by moment: computing, copying, exchanging, waiting for the host, waiting for something else."""

from bisect import bisect_left
from dataclasses import dataclass

from .trace_events import Trace
from .trace_places import Place, Walk, is_communication

COMPUTE, COPY, COMMUNICATION, HOST_BOUND, IDLE = "compute", "copy", "communication", "host bound", "idle"

Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Booked:
    """Microseconds of one kind, at a place."""

    place: Place
    kind: str
    kernel: str
    microseconds: float
    calls: int
    begin: float


def device_time(trace: Trace, found: Walk) -> list[Booked]:
    """Book every moment between the first step's begin and the end of all work to exactly one thing.

    What runs at the same time counts once: computing before copies, these before communication, which then is what no
    computing hides. A gap is "host bound" if the kernel after it was launched within it, else "idle".
    """
    device = trace.device
    order = [i for i in device.in_order() if found.launches.get(device.first[i], (Place(), 0.0))[0].in_step]
    if not order:
        return []
    begin = found.steps[0][0]
    free: Spans = [(begin, max(found.steps[-1][1], *(device.end[i] for i in order)))]
    result = []
    for kind in (COMPUTE, COPY, COMMUNICATION):
        chosen = [i for i in order if _kind(trace, i) == kind]
        amounts, free = _fill(free, [(device.begin[i], device.end[i]) for i in chosen])
        for i, amount in zip(chosen, amounts):
            place = found.launches[device.first[i]][0]
            result.append(Booked(place, kind, trace.names[device.name[i]], amount, 1, device.begin[i]))
    starts = [device.begin[i] for i in order]
    for start, end in free:
        n = bisect_left(starts, end - 1e-6)
        if n == len(order):
            result.append(Booked(Place(in_step=True), IDLE, "(after the last kernel)", end - start, 0, start))
            continue
        place, launched = found.launches[device.first[order[n]]]
        kind = HOST_BOUND if launched >= start else IDLE
        result.append(Booked(place, kind, f"({kind} before {place.operator or 'a kernel'})", end - start, 0, start))
    return result


def _kind(trace: Trace, i: int) -> str:
    if is_communication(trace.names[trace.device.name[i]]):
        return COMMUNICATION
    return COPY if trace.device.kind[i] else COMPUTE


def _fill(free: Spans, events: Spans) -> tuple[list[float], Spans]:
    """Return how much free time each event (by begin) takes, and what stays free."""
    amounts, left, n, at = [], Spans(), 0, 0.0
    for begin, end in events:
        amount = 0.0
        while n < len(free) and max(free[n][0], at) < end:
            start, stop = max(free[n][0], at), free[n][1]
            if start < begin:  # free time before the event stays free
                left.append((start, min(begin, stop)))
            taken = min(end, stop) - max(start, begin)
            amount += max(0.0, taken)
            at = min(end, stop)
            if stop > end:
                break
            n += 1
        amounts.append(amount)
    left += [(max(start, at), stop) for start, stop in free[n:] if stop > max(start, at)]
    return amounts, left
