"""The place of each launch in a timeline: the ranges that were open on its thread, and those of its whole process.

A kernel of the backward pass is in the range that --module_ranges opens around its node. Where emit_nvtx wrote
autograd's numbers instead, it belongs to the module whose forward had its node's number.
"""

from array import array
from collections.abc import Iterable, Iterator

from .nsys_file import NsysFile
from .places import AGAIN, NODE, STEP, Place, enter_all, enter_operator, numbered

_EVALUATION = "evaluation"
_MOST_NODES = 1 << 28
ProcessRange = tuple[int, int, int, str]  # thread, begin, end, text


class Places:
    """Places by number, and steps by process (begin and end in nanoseconds), of one timeline."""

    def __init__(self, file: NsysFile) -> None:
        self.file = file
        self.places: list[Place] = [Place()]
        self.steps: dict[int, list[tuple[int, int]]] = {}
        self._numbers: dict[Place, int] = {Place(): 0}
        self._processes: dict[int, list[ProcessRange]] = {}
        main: set[tuple[int, int]] = set()
        for pid, thread, begin, end, text in file.process_ranges((STEP, _EVALUATION)):
            self._processes.setdefault(pid, []).append((thread, begin, end, text))
            if text == STEP:
                self.steps.setdefault(pid, []).append((begin, end))
                main.add((pid, thread))
        # Forward first: it gives autograd's numbers their modules.
        file.note_launches(self._launches(file.host_rows(sorted(main))))

    def _number(self, place: Place) -> int:
        if place not in self._numbers:
            self._numbers[place] = len(self.places)
            self.places.append(place)
        return self._numbers[place]

    def _launches(self, rows: Iterable) -> Iterator[tuple[int, int, int, int]]:
        """Yield pid, correlation, number of the place and moment of every launch."""
        owners: dict[int, _Owners] = {}
        thread: _Thread | None = None
        here = None
        for pid, tid, begin, end, text, correlation in rows:
            if (pid, tid) != here or thread is None:
                here = (pid, tid)
                others = [item for item in self._processes.get(pid, []) if item[0] != tid]
                thread = _Thread(others, owners.setdefault(pid, _Owners()))
            if correlation is None:
                thread.enter(begin, end, text or "")
            else:
                yield pid, correlation, self._number(thread.at(begin)), begin


class _Owners:
    """Modules by autograd's numbers, 4 bytes each."""

    def __init__(self) -> None:
        self._modules: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}
        self._by_number = array("i")

    def note(self, number: int, module: str) -> None:
        """Note the module in whose forward a node was made."""
        if number >= _MOST_NODES:
            return
        if module not in self._codes:
            self._codes[module] = len(self._modules)
            self._modules.append(module)
        missing = number + 1 - len(self._by_number)
        if missing > 0:
            # Zeros, code 0, are "no module": numbers that no module's forward made.
            self._by_number.frombytes(bytes(missing * self._by_number.itemsize))
        self._by_number[number] = self._codes[module]

    def get(self, number: int) -> str:
        """Return the module of a node, "" for one that nobody noted."""
        return self._modules[self._by_number[number]] if number < len(self._by_number) else ""


class _Thread:
    """The ranges that are open on one thread, the outermost first, and those of its process on other threads."""

    def __init__(self, others: list[ProcessRange], owners: _Owners) -> None:
        self._owners = owners
        self._open: list[tuple[int, Place]] = []
        self._last_owner = ""
        self._others = iter(others)  # by their begin
        self._next = next(self._others, None)
        self._around: list[ProcessRange] = []
        self._base = Place()

    def enter(self, begin: int, end: int, text: str) -> None:
        """Open a range."""
        around = self.at(begin)
        # Ranges that cross end with the outer one.
        self._open.append((min(end, self._open[-1][0]) if self._open else end, self._inside(around, text)))

    def at(self, moment: int) -> Place:
        """Return the place at a moment; moments come in order."""
        while self._open and self._open[-1][0] <= moment:
            self._open.pop()
        return self._open[-1][1] if self._open else self._outside(moment)

    def _outside(self, moment: int) -> Place:
        changed = False
        while self._next is not None and self._next[1] <= moment:
            self._around.append(self._next)
            self._next = next(self._others, None)
            changed = True
        if changed or any(item[2] <= moment for item in self._around):
            self._around = [item for item in self._around if item[2] > moment]
            self._base = enter_all(Place(), (item[3] for item in self._around))
        return self._base

    def _inside(self, around: Place, text: str) -> Place:
        name, number = numbered(text)
        # Modules and phases; operators have `aten::` and the like in their names.
        if "::" not in name or name.startswith(AGAIN):
            return enter_all(around, [text])
        if name.startswith(NODE):
            if number >= 0:
                self._last_owner = self._owners.get(number)
            # Without a number it adds to a weight's gradient, at once after the node that made it.
            inside = enter_all(around, ["backward"])
            return enter_operator(Place("backward", self._last_owner, "backward", in_step=inside.in_step), name)
        if number >= 0 and around.direction != "backward":
            self._owners.note(number, around.module)
        return enter_operator(around, name)
