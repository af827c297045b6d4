"""From Nsight Compute's metrics to the tidy table: FLOPs, bytes, time and clock of every launch, then their sums."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ..columns import DIRECTIONS, SECTIONS
from ..table import refuse, sum_rows, tidy
from .flops import count_flops
from .kernel_names import family, readable
from .launches import Report
from .metrics import (
    CLOCK,
    DRAM,
    L1,
    L1_TMA,
    L2,
    L2_SM_SECTORS,
    TIME,
)
from .places import Place, enter_all
from .record import gpu_state

_SECTOR_BYTES = 32
_RANK = re.compile(r"(?:^|_)rank_?(\d+)")


def tabulate(report: Report, *, per_launch: bool = False) -> pd.DataFrame:
    """Return a report as tidy table: a row per kernel and launch shape, or per launch.

    Launches of a kernel with the same grid are summed, so that a layer's convolution and the next one's stay apart.
    """
    launches = report.launches
    run, section = name_of(report)
    rows = launches[["kernel", "grid", "block", "device", "compute_capability"]].copy()
    rows["run"] = _constant(run, len(rows))
    rows["rank"] = _constant(rank_of(report.path), len(rows))
    for name, places in _places(launches["ranges"], section).items():
        rows[name] = places
    rows["name"] = _by_category(rows["kernel"], readable)
    rows["family"] = _by_category(rows["kernel"], family)
    rows["source"] = _constant("ncu", len(rows))
    # The order of launches, which the file keeps.
    rows["first"] = np.arange(len(rows))
    rows["launches"] = 1
    for name, value in gpu_state(report.path).items():
        rows[name] = value
    rows["time_s"], rows["clock_hz"] = _get(launches, TIME), _get(launches, CLOCK)
    rows["bytes_l1"], rows["bytes_l2"], rows["bytes_hbm"] = _bytes(launches)
    rows = tidy(pd.concat([rows, count_flops(launches)], axis=1), origin=str(report.path))
    rows, refused = refuse(rows)
    report.notes += refused
    return rows if per_launch else sum_rows(rows)


def name_of(report: Report) -> tuple[str, str]:
    """Return run and section of a report: its own names, else those in its file's name; later parts are numbered."""
    run, section = run_and_section(report.path)
    run = report.run or (f"{run} ({report.part + 1})" if report.part else run)
    return run, report.section or section


def run_and_section(path: Path) -> tuple[str, str]:
    """Return run and section from a file's name: output_bs8_optimized_loss.csv -> ("bs8_optimized", "loss").

    A file named by its section alone (runs/7/loss.csv) belongs to the run of its folder; a rank is no part of the run.
    """
    stem = _RANK.sub("", path.name.partition(".")[0])
    # optimizer_step has an underscore itself, so the name is not split at those.
    for section in (*SECTIONS, "all"):
        match = re.search(rf"(^|_){section}(?=_|$)", stem)
        if match:
            run = (stem[: match.start()] + stem[match.end() :]).removeprefix("output")
            return run.strip("_") or path.resolve().parent.name, "" if section == "all" else section
    return stem.removeprefix("output").strip("_") or stem, ""


def rank_of(path: Path) -> str:
    """Return the rank in a file's name, output_r50_backward_rank3.csv -> "3"; empty if it has none."""
    match = _RANK.search(path.name)
    return match[1] if match else ""


def _constant(text: str, length: int) -> pd.Categorical:
    return pd.Categorical.from_codes(np.zeros(length, np.int8), [text])


def _by_category(column: pd.Series, function) -> pd.Categorical:
    """Apply a function of text to a categorical column, once per category."""
    places: dict[str, int] = {}
    # By category: 200,000 launches have some hundred names.
    codes = [places.setdefault(function(text), len(places)) for text in column.cat.categories]
    return pd.Categorical.from_codes(np.array(codes, dtype=np.int32)[column.cat.codes.to_numpy()], list(places))


def _places(ranges: pd.Series, default: str) -> dict[str, pd.Categorical]:
    """Return section, module and direction from the NVTX ranges around each launch.

    The section is the range with a section's name, else the outermost one that is not the loop itself, else the file's.
    """

    def place(text: str) -> Place:
        names = [name for name in text.split(" > ") if name]
        found = enter_all(Place(), names)
        if not found.section and found.module:
            outer = next(filter(None, (enter_all(Place(), [name]).module for name in names)))
            # A program with ranges of its own names: the outermost is taken for the section.
            found = replace(found, section=outer, module="" if found.module == outer else found.module)
        section = found.section or default
        return replace(found, section=section, direction=found.direction or DIRECTIONS.get(section, ""))

    # Once for each distinct text: 200,000 launches share some hundred.
    known = {text: place(text) for text in ranges.cat.categories}

    def column(name: str) -> pd.Categorical:
        return _by_category(ranges, lambda text: getattr(known[text], name))

    return {name: column(name) for name in ("section", "module", "direction", "operator")}


def _get(launches: pd.DataFrame, name: str) -> pd.Series:
    return launches[name] if name in launches else pd.Series(np.nan, index=launches.index)


def _bytes(launches: pd.DataFrame) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return the bytes through L1, L2 and HBM per launch.

    L1: all of L1's tag stage, plus the TMA's bytes that bypass it (Hopper and later). L2: the requests of the SMs,
    where they were counted; else everything at L2, other clients included. HBM: reads and writes.
    """
    l1 = _get(launches, L1)
    for name in L1_TMA:
        # Only Hopper and later have these counters; elsewhere nothing is to be added.
        l1 = l1 + _get(launches, name).fillna(0)
    # Sectors have 32 bytes; lts__t_bytes counts other clients of L2 as well.
    l2 = (_get(launches, L2_SM_SECTORS) * _SECTOR_BYTES).fillna(_get(launches, L2))
    return l1, l2, _get(launches, DRAM)
