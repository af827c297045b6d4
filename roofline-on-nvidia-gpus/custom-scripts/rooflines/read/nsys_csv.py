"""Reports of Nsight Systems as CSV (`nsys stats --format csv`): kernels in order of time with their ranges, or sums.

cuda_gpu_trace has a row for everything that ran; nvtx_gpu_proj_trace beside it says from when to when the work of each
range ran. A kernel belongs to the ranges within whose time it began: true for work in one stream, which is all that
these reports tell. cuda_gpu_kern_sum has sums by kernel and no ranges.
"""

import csv
import heapq
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd

from .. import RoofError
from ..table import tidy
from .kernel_names import family
from .nsys_modules import named
from .places import STEP, Place, enter_all
from .trace_device import Work, book, device_rows, kind_of, label
from .trace_modules import Modules

GPU_TRACE, PROJECTION, KERNELS = "cuda_gpu_trace", "nvtx_gpu_proj_trace", "cuda_gpu_kern_sum"
#: Columns that only this report has; units stand in parentheses behind a name.
_COLUMNS = {
    GPU_TRACE: {"Start", "Duration", "CorrId", "Strm", "Name"},
    PROJECTION: {"Projected Start", "Projected Duration", "Name"},
    KERNELS: {"Time", "Total Time", "Instances", "Name"},
}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}
_UNIT = re.compile(r"\s*\((.+)\)$")
Row = dict[str, str]
Span = tuple[float, float, str]


def report_of(header: str) -> str | None:
    """Return the report that a CSV's first line belongs to, None for any other."""
    names = {_UNIT.sub("", name) for name in next(csv.reader([header.strip().lstrip("\ufeff")]), [])}
    return next((report for report, columns in _COLUMNS.items() if columns <= names), None)


def projection_beside(path: Path) -> Path:
    """Return where the ranges of a report of kernels are written by the same call of nsys stats."""
    return path.with_name(path.name.replace(GPU_TRACE, PROJECTION))


def read_nsys_csv(path: Path, report: str) -> list[Modules]:
    """Read a report, with the ranges beside it. Raises RoofError for a report that has no kernels."""
    if report == PROJECTION:
        kernels = path.name.replace(PROJECTION, GPU_TRACE)
        raise RoofError(
            f"{path}: ranges without kernels: {kernels} belongs beside it (nsys stats --report {GPU_TRACE})"
        )
    modules = _kernel_sums(path) if report == KERNELS else _timeline(path)
    place = path.with_name(path.name.replace(f"_{report}", ""))
    modules.rows = named(modules.rows, place)
    modules.beside = None if modules.beside is None else named(modules.beside, place)
    return [modules]


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows, with times in seconds whatever unit the header names."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = csv.reader(file)
        header = next(lines, [])
        names = [_UNIT.sub("", name) for name in header]
        units = [match[1] if (match := _UNIT.search(name)) else "" for name in header]
        for cells in lines:
            if len(cells) < len(names):
                continue  # the last line of a file that was cut
            yield {
                name: str(float(cell) * _SECONDS[unit]) if unit in _SECONDS and cell else cell
                for name, unit, cell in zip(names, units, cells)
            }


def _kernel_sums(path: Path) -> Modules:
    rows = [
        {
            "kernel": row["Name"],
            "name": label(row["Name"]),
            "family": family(row["Name"]),
            "launches": float(row["Instances"]),
            "time_s": float(row["Total Time"]),
        }
        for row in _rows(path)
    ]
    if not rows:
        raise RoofError(f"{path}: a report without kernels; did the capture window open?")
    table = tidy(pd.DataFrame(rows), origin=str(path))
    notes = [f"sums by kernel have no modules: {GPU_TRACE} with {PROJECTION}, or the .sqlite file, has them"]
    return Modules(table, 1, float(table["time_s"].sum()), notes)


def _timeline(path: Path) -> Modules:
    beside = projection_beside(path)
    ranges = sorted(_spans(beside), key=lambda span: (span[0], -span[1])) if beside.is_file() else []
    works = sorted(_works(path), key=lambda work: work.begin)  # the report has copies after kernels in some versions
    if not works:
        raise RoofError(f"{path}: a report without kernels; did the capture window open?")
    origin = works[0].begin
    begins = [begin - origin for begin, _, name in ranges if name == STEP]
    placed = _placed(works, ranges, origin, whole=not begins)
    rows = device_rows(book(placed, begin=0.0, end=0.0))
    inside = rows.pop("in_step").astype(bool)
    notes = [] if ranges else [f"no modules: {beside.name} is not beside {path.name}"]
    count, seconds = max(1, len(begins)), float(rows.loc[inside, "time_s"].sum())
    notes.append(f"{count} steps in {seconds:.4g} s" if begins else "no ranges named iteration: all is one step")
    device = next((row["Device"] for row in _rows(path) if row.get("Device")), "GPU")
    table = tidy(rows.assign(device=re.sub(r" \(\d+\)$", "", device)), origin=str(path))
    modules = Modules(table[inside].reset_index(drop=True), count, seconds, notes)
    modules.beside = table[~inside].reset_index(drop=True)
    return modules


def _spans(path: Path) -> Iterator[Span]:
    for row in _rows(path):
        begin = float(row["Projected Start"]) * 1e6
        # A domain's name, empty for the default one, stands before the range's.
        yield begin, begin + float(row["Projected Duration"]) * 1e6, row["Name"].removeprefix(":")


def _works(path: Path) -> Iterator[Work]:
    for row in _rows(path):
        begin, name = float(row["Start"]) * 1e6, row["Name"]
        copy = name.startswith("[CUDA mem")
        grid, block = (
            "" if copy else f"({', '.join(row.get(f'{kind}{axis}', '') for axis in 'XYZ')})" for kind in ("Grd", "Blk")
        )
        end = begin + float(row["Duration"]) * 1e6
        # When the host asked for it is not in the report: no gap can be called host bound.
        yield Work(Place(), kind_of(name, int(copy)), name, begin, end, float("-inf"), (grid, block))


def _placed(works: Iterable[Work], ranges: list[Span], origin: float, *, whole: bool) -> Iterator[Work]:
    """Yield the works, from the first one's begin on, in the ranges that are open when each begins."""
    waiting = iter(ranges)
    following = next(waiting, None)
    around: list[tuple[float, int, Span]] = []  # by their end
    for work in works:
        while following is not None and following[0] <= work.begin:
            heapq.heappush(around, (following[1], len(around), following))
            following = next(waiting, None)
        while around and around[0][0] <= work.begin:
            heapq.heappop(around)
        # Outermost first: earlier begin, and of equal begins the later end.
        names = [span[2] for _, _, span in sorted(around, key=lambda item: (item[2][0], -item[2][1]))]
        place = enter_all(Place(in_step=whole), names)
        # Microseconds since the first work.
        yield replace(work, place=place, begin=work.begin - origin, end=work.end - origin)
