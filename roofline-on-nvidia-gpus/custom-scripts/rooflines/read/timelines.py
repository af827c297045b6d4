"""Timelines of any origin: torch.profiler's traces, Nsight Systems' SQLite and CSVs; each with its counted costs."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from .nsys_csv import GPU_TRACE, KERNELS, PROJECTION, projection_beside, read_nsys_csv, report_of
from .nsys_modules import read_nsys
from .odd_files import naming_file
from .trace_modules import Modules, read_modules

#: Beside a timeline: what --count_costs counted of the same model, which is no run of its own.
COSTS_NAME = "costs.csv"
TIMELINES = ("trace_rank*.json*", "*.pt.trace.json*", "*.sqlite")
_SQLITE = "SQLite format 3"


def read_timelines(path: Path) -> list[Modules] | None:
    """Read a timeline, known by what is in it: a result for each process; None for a file that is none.

    Raises RoofError for one that cannot be read.
    """
    costs = path.with_name(COSTS_NAME)
    counted = costs if costs.is_file() else None
    with naming_file(path):
        return _read_timelines(path, counted)


def _read_timelines(path: Path, counted: Path | None) -> list[Modules] | None:
    if is_trace(path):
        return [read_modules(path, counted)]
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        first = file.readline(4096)
    if first.startswith(_SQLITE) and path.suffix != ".ncu-rep":
        return read_nsys(path, counted)
    report = report_of(first) if path.suffix == ".csv" else None
    return read_nsys_csv(path, report) if report else None


def is_trace(path: Path) -> bool:
    """Say whether a file is named like a trace of torch.profiler."""
    # By its name: a trace may be gigabytes, packed.
    return path.suffix == ".json" or path.suffixes[-2:] == [".json", ".gz"]


def all_rows(found: Sequence[Modules]) -> pd.DataFrame:
    """Return the rows of all processes, those of steps before those of anything else."""
    tables = [
        table for modules in found for table in (modules.rows, modules.beside) if table is not None and len(table)
    ]
    plain = [table.astype({name: object for name in table.select_dtypes("category")}) for table in tables]
    return pd.concat(plain, ignore_index=True).astype(
        {name: "category" for name in tables[0].select_dtypes("category")}
    )


def superseded(files: Iterable[Path]) -> set[Path]:
    """Return files that another one says more about: sums and ranges beside kernels, all of them beside the SQLite."""
    given = set(files)
    result = set()
    for path in given:
        if path.suffix == ".sqlite":
            result |= {other for other in given if other.suffix == ".csv" and other.name.startswith(f"{path.stem}_")}
        elif GPU_TRACE in path.name and projection_beside(path) != path:
            sums = path.with_name(path.name.replace(GPU_TRACE, KERNELS))
            result |= {projection_beside(path), sums} & given
    return result


def nsys_summary(start: Sequence[str]) -> str | None:
    """Return the reason why a CSV of nsys stats cannot be used, by its first lines; None for any other file."""
    if any("NVTX Range," in line or "Total Proj Time" in line for line in start):
        return (
            "a summary of Nsight Systems that counts a kernel in every range around it: give its .sqlite file, or "
            f"{GPU_TRACE} with {PROJECTION} (nsys stats --report)"
        )
    if any("Time (%)" in line or "Total Time (ns)" in line for line in start):
        return "a summary of Nsight Systems (nsys stats) without kernels: give its .sqlite file"
    return None
