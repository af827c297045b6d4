"""Profiles to runs: which of them are one and the same, which belong together, and what each run is called."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..gpus import row_of_device
from .counters import name_of, rank_of
from .forms import complete
from .kernel_names import capability_in
from .launches import TEXT, Report

_ROUNDING = 1e-4  # a CSV has two decimals of what a report has in full


def settle(reports: Iterable[Report]) -> tuple[list[Report], list[str]]:
    """Return the reports to sum into runs, and a line for each that was joined, dropped or named by its folder.

    Two profiles of a run and section are one if their values are the same, and belong together if the second counts
    other metrics of the same launches (times first, then FLOPs). Else those of different folders are different runs.
    """
    notes: list[str] = []
    kept: list[Report] = []
    for report in reports:
        # In the order of the files: the first profile stays, and a later one joins it.
        place = next((n for n, other in enumerate(kept) if _belong(other, report)), None)
        if place is None:
            kept.append(report)
        elif _are_twins(kept[place], report):
            notes.append(f"{report.path}: the same profile as {kept[place].path}, counted once")
        else:
            kept[place] = _join(kept[place], report)
            notes.append(f"{report.path.name}: other metrics of the launches before it, joined with them")
    return _name_by_folder(kept, notes), notes


def _belong(first: Report, second: Report) -> bool:
    """Say whether the second report is the first one again, or the rest of it."""
    if first.path == second.path:  # parts of one file: appending it to itself is a run that was done twice
        return _complement(first, second)
    if name_of(first) != name_of(second) or rank_of(first.path) != rank_of(second.path):
        return False
    return _are_twins(first, second) or _complement(first, second)


def _metrics(report: Report) -> set[str]:
    return {name for name in report.launches if name not in TEXT and report.launches[name].notna().any()}


def _are_twins(first: Report, second: Report) -> bool:
    a, b = first.launches, second.launches
    shared = sorted(_metrics(first) & _metrics(second))
    if first.path == second.path or len(a) != len(b) or not shared:
        return False
    # Relative, for a column may hold 1e-6 seconds or 1e12 operations.
    return bool(np.allclose(a[shared], b[shared], rtol=_ROUNDING, atol=0, equal_nan=True))


def _complement(first: Report, second: Report) -> bool:
    a, b = first.launches, second.launches
    if len(a) != len(b) or not all((a[name].astype(str) == b[name].astype(str)).all() for name in ("kernel", "grid")):
        return False
    mine, other = _metrics(first), _metrics(second)
    # Each has what the other lacks: two passes over one program.
    return bool(mine - other) and bool(other - mine)


def _join(first: Report, second: Report) -> Report:
    missing = {name: second.launches[name] for name in sorted(_metrics(second) - _metrics(first))}
    launches = complete(first.launches.assign(**missing))
    return replace(first, launches=launches, notes=[*first.notes, *second.notes])


def _name_by_folder(reports: list[Report], notes: list[str]) -> list[Report]:
    """Give runs of the same name and section in different folders the part of the path that tells them apart."""
    folders: dict[tuple[str, str], dict[Path, None]] = {}
    for report in reports:
        folders.setdefault(name_of(report), {})[report.path.resolve().parent] = None
    # By the run alone: all its sections move to the new name together, or a run would be torn apart.
    mixed = {run for (run, _), found in folders.items() if len(found) > 1}
    result = []
    for report in reports:
        run, _ = name_of(report)
        if run in mixed:
            places = list(
                dict.fromkeys(folder for (name, _), found in folders.items() if name == run for folder in found)
            )
            label = telling_part(report.path.resolve().parent, places)
            report = replace(report, run=label if len(mixed) == 1 else f"{label} {run}")
        result.append(report)
    for run in sorted(mixed):
        notes.append(f"{run} is in several folders: each is a run of its own, named by its folder")
    return result


def telling_part(folder: Path, folders: list[Path]) -> str:
    """Return the part of a folder's path that tells it from the others."""
    paths = [place.parts for place in folders]
    # Common folders at the beginning and at the end of all paths tell nothing.
    # `commonprefix` works on any sequences: here on tuples of folder names.
    start = len(os.path.commonprefix(paths))
    end = len(os.path.commonprefix([path[start:][::-1] for path in paths]))
    middle = folder.parts[start : len(folder.parts) - end]
    return "/".join(middle) or folder.name


def fill_capability(report: Report, gpu: dict | None) -> None:
    """Fill in a compute capability that the report lacks, and note where it comes from: its FLOPs may hang on it."""
    launches = report.launches
    empty = launches["compute_capability"].astype(str) == ""
    if not empty.any():
        return
    names = launches["device"].astype(str).unique()
    row = gpu or next((found for name in names if (found := row_of_device(name))), None)
    # Names such as sm80_xmma say what a kernel was built for, which may be an older GPU than it runs on: the newest is
    # nearest.
    built = sorted(filter(None, map(capability_in, launches["kernel"].cat.categories)), key=float)
    if row is not None:
        capability, origin = row["compute_capability"], "--gpu" if gpu else "the GPU's name"
    elif built:
        capability, origin = built[-1], "the kernels' names"
    else:
        report.notes.append("no compute capability: some FLOPs of tensor cores hang on it; --gpu gives it")
        return
    report.launches = launches.assign(
        compute_capability=pd.Categorical(launches["compute_capability"].astype(str).mask(empty, capability))
    )
    report.notes.append(f"the report has no compute capability: {capability} is taken, from {origin}")
