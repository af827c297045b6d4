"""The place of each moment of a host thread: section, module, direction, operator."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

from .places import NODE, PYTHON, STEP, Place, enter, enter_operator
from .trace_events import ANNOTATION, LAUNCH, Columns, Trace


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
    threads = sorted(trace.threads.values(), key=lambda thread: (steps not in thread.name, -len(thread.name)))
    for number, thread in enumerate(threads):
        _Thread(trace.names, frozenset(counted), owners, result, main=number == 0).run(thread)
    return result


class _Thread:
    """One thread's events, in order, on a stack of those that are open."""

    def __init__(
        self, names: list[str], counted: frozenset[str], owners: dict[int, str], result: Walk, *, main: bool
    ) -> None:
        self.names, self.counted, self.owners, self.result, self.main = names, counted, owners, result, main
        self.last_owner = ""
        self.whole = main and STEP not in names  # a trace of another program: all of it is the step

    def run(self, events: Columns) -> None:
        """Book each moment to the innermost event."""
        open_: list[tuple[float, Place]] = []
        now = 0.0
        book = self._book if self.main else _nothing
        for i in events.in_order():
            begin, end = events.begin[i], events.end[i]
            while open_ and open_[-1][0] <= begin:
                until, place = open_.pop()
                book(place, until - now)
                now = max(now, until)
            around = open_[-1][1] if open_ else Place(in_step=self._in_step(begin))
            book(around, begin - now)
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
            book(place, until - now)
            now = max(now, until)

    def _in_step(self, moment: float) -> bool:
        """Say whether a moment outside all ranges is in a step: autograd's own thread has none."""
        if self.main:
            return self.whole
        return any(begin <= moment < end for begin, end in self.result.steps)

    def _book(self, place: Place, microseconds: float) -> None:
        if place.in_step and microseconds > 0:
            self.result.time[place] = self.result.time.get(place, 0.0) + microseconds

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


def _nothing(place: Place, microseconds: float) -> None:
    """Other threads than the one with the steps have no time of their own in it."""
