"""The profiles that one file holds one after the other, as `ncu ... >> file` leaves them, told apart."""

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass
class _Stretch:
    """The rows of one process until its launch IDs begin anew: number of the first and last, headers before them."""

    process: Hashable
    first: int
    last: int
    headers: int
    last_id: int = -1
    headers_at_last: int = 0


class Parts:
    """Follows the rows of a file and says which run each belongs to.

    A process whose IDs go back, or that counts the same metric of a launch again below another header, has begun
    another stretch. A stretch below a later header is another run, unless its rows mix with those of the run before:
    then the two are processes of one run that print at the same time.
    """

    def __init__(self) -> None:
        self.headers = 0
        self._rows = 0
        self._stretches: list[_Stretch] = []
        self._now: dict[Hashable, int] = {}  # process -> its stretch

    def stretch(self, process: Hashable) -> int:
        """Return the number of the stretch that a process is in."""
        if process not in self._now:
            self._begin(process)
        return self._now[process]

    def _begin(self, process: Hashable) -> None:
        self._now[process] = len(self._stretches)
        self._stretches.append(_Stretch(process, self._rows, self._rows, self.headers))

    def note(self, process: Hashable, launch_id: int, *, again: bool) -> int:
        """Note a row and return its stretch. again: the row's metric is known already for a launch with this ID."""
        self._rows += 1
        now = self._stretches[self.stretch(process)]
        if launch_id < now.last_id or again and now.headers_at_last < self.headers:
            self._begin(process)
            now = self._stretches[self._now[process]]
        now.last, now.last_id, now.headers_at_last = self._rows, launch_id, self.headers
        return self._now[process]

    def runs(self) -> list[int]:
        """Return the run of each stretch, counted from 0."""
        runs: list[int] = []
        run, headers, last = 0, 0, -1
        processes: set[Hashable] = set()
        for stretch in self._stretches:
            # Begun below a later header, and after the last row of the run before.
            later = stretch.headers > headers and stretch.first >= last
            if runs and (later or stretch.process in processes):
                run, last, processes = run + 1, -1, set()
            if not processes:
                headers = stretch.headers
            processes.add(stretch.process)
            last = max(last, stretch.last)
            runs.append(run)
        return runs
