"""The place of each moment of a host thread: section, module, direction, operator."""

from array import array
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace

from .places import EXCHANGE, NODE, PYTHON, STEP, Place, enter, enter_operator, is_communication
from .trace_events import ANNOTATION, LAUNCH, Columns, Trace

Spans = tuple[array, array]  # begins and ends


@dataclass
class Walk:
    """The result: microseconds and calls by place, when steps began and ended, and the place of each launch."""

    time: dict[Place, float] = field(default_factory=dict)
    calls: dict[Place, int] = field(default_factory=dict)
    steps: list[tuple[float, float]] = field(default_factory=list)
    launches: dict[int, tuple[Place, float]] = field(default_factory=dict)
    first_seen: dict[Place, float] = field(default_factory=dict)


def walk(trace: Trace, counted: Collection[str] = ()) -> Walk:
    """Walk through all threads, the one with the steps first: its forward gives autograd's numbers their modules.

    counted: names of operators that a count of costs knows (aten::convolution); of nested operators one of these is
    taken, else the outermost.
    """
    result, owners = Walk(), dict[int, str]()
    steps = trace.names.index(STEP) if STEP in trace.names else -1
    # False sorts before True: the thread with the steps is first.
    threads = sorted(trace.threads.values(), key=lambda thread: (steps not in thread.name, -len(thread.name)))
    exchanges = _exchanges(trace, threads[1:])
    for number, thread in enumerate(threads):
        _Thread(trace.names, frozenset(counted), owners, result, exchanges if number == 0 else None).run(thread)
    return result


def _exchanges(trace: Trace, threads: Iterable[Columns]) -> Spans:
    """Return when gloo's threads exchanged data, in order and without overlaps: begins and ends."""
    names = {number for number, name in enumerate(trace.names) if is_communication(name)}
    found = sorted((t.begin[i], t.end[i]) for t in threads for i, name in enumerate(t.name) if name in names)
    begins, ends = array("d"), array("d")
    for begin, end in found:
        if ends and begin <= ends[-1]:
            ends[-1] = max(ends[-1], end)
        else:
            begins.append(begin)
            ends.append(end)
    return begins, ends


class _Thread:
    """One thread's events, in order, on a stack of those that are open.

    exchanges: of the thread with the steps, when other threads exchanged data with other processes.
    """

    def __init__(
        self, names: list[str], counted: frozenset[str], owners: dict[int, str], result: Walk, exchanges: Spans | None
    ) -> None:
        self.names, self.counted, self.owners, self.result = names, counted, owners, result
        self.exchanges, self.main = exchanges, exchanges is not None
        self.last_owner = ""
        self.whole = self.main and STEP not in names  # a trace of another program: all of it is the step

    def run(self, events: Columns) -> None:
        """Book each moment to the innermost event."""
        open_: list[tuple[float, Place]] = []
        now = 0.0
        book = self._book if self.main else _nothing
        for i in events.in_order():
            begin, end = events.begin[i], events.end[i]
            # Close what ended before this event begins, innermost first, and book its rest.
            while open_ and open_[-1][0] <= begin:
                until, place = open_.pop()
                book(place, now, until)
                now = max(now, until)
            around = open_[-1][1] if open_ else Place(in_step=self._in_step(begin))
            book(around, now, begin)
            now = begin
            place = self._place(around, self.names[events.name[i]], events.kind[i], events.first[i])
            if place.in_step and not around.in_step or (self.whole and not open_):
                self.result.steps.append((begin, end))
            if events.kind[i] == LAUNCH:
                self.result.launches[events.first[i]] = (place, begin)
            elif self.main:
                self.result.calls[place] = self.result.calls.get(place, 0) + 1
                self.result.first_seen.setdefault(place, begin)
            # A child that outlasts its parent by rounding ends with it.
            open_.append((min(end, open_[-1][0]) if open_ else end, place))
        while open_:
            until, place = open_.pop()
            book(place, now, until)
            now = max(now, until)

    def _in_step(self, moment: float) -> bool:
        """Say whether a moment outside all ranges is in a step: autograd's own thread has none."""
        if self.main:
            return self.whole
        return any(begin <= moment < end for begin, end in self.result.steps)

    def _book(self, place: Place, begin: float, end: float) -> None:
        if not place.in_step or end <= begin:
            return
        exchanged = 0.0
        # Python in no module while data is exchanged waits for it: backward's end, a count of all processes' objects.
        if place.kernel == PYTHON and not place.module:
            exchanged = self._exchanged(begin, end)
            waiting = replace(place, operator=EXCHANGE, kernel=EXCHANGE)
            self._add(waiting, exchanged, begin)
        self._add(place, end - begin - exchanged, begin)

    def _add(self, place: Place, microseconds: float, begin: float) -> None:
        if microseconds > 0:
            self.result.time[place] = self.result.time.get(place, 0.0) + microseconds
            self.result.first_seen.setdefault(place, begin)

    def _exchanged(self, begin: float, end: float) -> float:
        begins, ends = self.exchanges or ((), ())
        n, total = bisect_right(ends, begin), 0.0
        while n < len(begins) and begins[n] < end:
            total += min(end, ends[n]) - max(begin, begins[n])
            n += 1
        return total

    def _place(self, around: Place, name: str, kind: int, number: int) -> Place:
        if kind == LAUNCH:
            return replace(around, kernel=name)
        if kind == ANNOTATION:
            return enter(around, name)
        if name.startswith(NODE):
            if number >= 0:
                self.last_owner = self.owners.get(number, "")
            # A node without a number adds to a weight's gradient, at once after the node that made it.
            return replace(around, section="backward", module=self.last_owner, direction="backward", kernel=PYTHON)
        if number >= 0 and self.main and around.direction != "backward":
            self.owners[number] = around.module  # of several with one number the last makes the node
        if "::" not in name:  # the node's own function: its operators are inside
            return replace(around, kernel=name)
        return enter_operator(around, name, self.counted)


def _nothing(place: Place, begin: float, end: float) -> None:
    """Other threads than the one with the steps have no time of their own in it."""
