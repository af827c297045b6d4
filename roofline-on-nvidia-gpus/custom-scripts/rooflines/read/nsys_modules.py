"""From a timeline of Nsight Systems to the tidy table: kernels, copies, communication and gaps by module and rank."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pandas as pd

from .. import RoofError
from ..table import read_table, tidy
from .counters import rank_of, run_and_section
from .nsys_file import DeviceRow, NsysFile
from .nsys_places import Places
from .record import gpu_state
from .trace_device import COMMUNICATION, Work, book, device_rows, kind_of
from .trace_modules import Modules, join_costs, per_operator

_PREFIX = "timeline_"  # of collect.py's files


def read_nsys(path: Path, costs_path: Path | None = None) -> list[Modules]:
    """Read an exported timeline: a result for each device that a process used, which is a rank of its own.

    The rows' times add up to `seconds`, from the first step's begin to the end of the last kernel of a step; what ran
    outside of steps, such as an evaluation and what is waited for it, is in `beside`. Raises RoofError.
    """
    file = NsysFile(path)
    try:
        places = Places(file)
        found = []
        # groupby joins neighbours alone: device_rows are sorted by process and device.
        for (pid, device), rows in groupby(file.device_rows(), key=lambda row: (row[0], row[1])):
            steps = places.steps.get(pid, [])
            found.append(_device(path, _Works(places, rows, whole=not steps), steps, file.gpu(device)))
    finally:
        file.close()
    if not found:
        raise RoofError(f"{path}: a timeline without kernels; did the capture window open?")
    if len(found) > 1 or not rank_of(path):
        found = [_ranked(modules, str(n) if len(found) > 1 else "") for n, modules in enumerate(found)]
    costs = None if costs_path is None else per_operator(read_table(costs_path))
    if costs is not None:
        for modules in found:
            joined, unmatched = join_costs(modules.rows, costs, modules.steps)
            modules.rows = tidy(joined)
            modules.notes += [f"{unmatched:.1%} of the counted FLOPs and bytes found no kernel"] * (unmatched > 0.001)
    return found


class _Works:
    """The work of a device, read once in order; then `microseconds` has the sums by kind, hidden time included."""

    def __init__(self, places: Places, rows: Iterable[DeviceRow], *, whole: bool) -> None:
        self.places, self.rows, self.whole = places, iter(rows), whole
        self.microseconds: dict[str, float] = defaultdict(float)
        self.first = next(self.rows)
        self.origin = self.first[2]

    def __iter__(self) -> Iterator[Work]:
        yield self._work(self.first)
        yield from map(self._work, self.rows)

    def _work(self, row: DeviceRow) -> Work:
        _, _, begin, end, number, name, grid, block, place, moment = row
        where = self.places.places[place or 0]
        if self.whole and not where.in_step:
            where = replace(where, in_step=True)
        kind = kind_of(name, number)
        self.microseconds[kind] += (end - begin) / 1e3
        # Of a launch before the recording nobody knows when it was: no gap before it is the host's.
        start, launched = self.at(begin), float("-inf") if moment is None else self.at(moment)
        return Work(where, kind, name, start, start + (end - begin) / 1e3, launched, (grid, block))

    def at(self, moment: int) -> float:
        """Return a moment in microseconds after the first work's begin: whole ones would have no digits left."""
        return (moment - self.origin) / 1e3


def _device(path: Path, works: _Works, steps: list[tuple[int, int]], gpu: tuple[str, str]) -> Modules:
    begins = [works.at(begin) for begin, _ in steps]
    # A step begins on the host before its first kernel: that gap is part of it.
    begin, end = min([0.0, *begins[:1]]), max([works.at(end) for _, end in steps], default=0.0)
    rows = device_rows(book(works, begin=begin, end=end, steps=begins))
    rows = rows.assign(device=gpu[0] or "GPU", compute_capability=gpu[1])
    inside = rows.pop("in_step").astype(bool)
    # Computing has been booked first: what is left of communication is what nothing hides.
    exposed = rows.loc[rows["family"] == COMMUNICATION, "time_s"].sum()
    count = max(1, len(steps))
    seconds = float(rows.loc[inside, "time_s"].sum())
    notes = [f"{count} steps in {seconds:.4g} s"] if steps else ["no ranges named iteration: all is one step"]
    if works.microseconds[COMMUNICATION]:
        total = works.microseconds[COMMUNICATION] / 1e6
        notes.append(f"communication {total:.4g} s, of which {exposed / total:.0%} is not hidden by computing")
    return Modules(named(rows[inside], path), count, seconds, notes, named(rows[~inside], path))


def named(rows: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Return tidy rows with run, rank and, where the ranges do not have it, section from the file's name."""
    run, section = run_and_section(path.with_name(path.name.removeprefix(_PREFIX)))
    sections = rows["section"].astype(object).where(rows["section"].notna(), "").replace("", section)
    common = {"run": run, "rank": rank_of(path), "source": "nsys", "flop_source": "missing"}
    return tidy(rows.assign(section=sections, **common, **gpu_state(path)), origin=str(path))


def _ranked(modules: Modules, rank: str) -> Modules:
    for name in ("rows", "beside"):
        table = getattr(modules, name)
        setattr(modules, name, tidy(table.assign(rank=rank)) if table is not None else None)
    return modules
