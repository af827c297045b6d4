"""Measured FLOPs and bytes over those that the algorithm needs, by section: `postprocess.py RUN --algorithmic COSTS`.

FLOPs above 1: work done twice, padding of tiles, an algorithm with more operations; below 1: fused or Winograd kernels.
Bytes above 1: data fetched again; below 1: data that stayed in a cache, or operators that were fused.
"""

from pathlib import Path

import pandas as pd

from . import RoofError
from .charts.sections import section_order
from .charts.style import si
from .table import read_table, total_flop

COLUMNS = (
    "run",
    "section",
    "measured_flop",
    "algorithmic_flop",
    "flop_ratio",
    "measured_bytes",
    "algorithmic_bytes",
    "bytes_ratio",
)
_TOGETHER = "together"


def read_costs(path: Path) -> pd.DataFrame:
    """Read the table of `main.py --count_costs`. Raises RoofError for one that holds anything but counted operators."""
    if not path.is_file():
        raise RoofError(f"--algorithmic {path}: no such file; main.py --count_costs FILE writes one")
    costs = read_table(path)
    if costs.empty or (costs["source"] != "analytic").any():
        raise RoofError(
            f"--algorithmic {path}: not a table of main.py --count_costs (its rows have the source analytic)"
        )
    return costs


def ratios(measured: pd.DataFrame, costs: pd.DataFrame, *, steps: int = 1) -> pd.DataFrame:
    """Return COLUMNS for each run and each section that both tables have, and for those sections together.

    measured: tidy rows of counters over `steps` training steps; costs: those of one counted step. A measurement without
    bytes of HBM has no ratio of bytes. Raises RoofError where no section is in both.
    """
    # The counted costs are of one step, the counters' of all that were profiled.
    needed = steps * _by_section(costs)
    parts = []
    for run in dict.fromkeys(map(str, measured["run"])):
        # A row for each section, columns flop and bytes.
        mine = _by_section(measured[measured["run"] == run])
        common = [section for section in section_order(costs) if section in mine.index]
        if common:
            both = mine.loc[common].add_suffix("_m").join(needed.loc[common].add_suffix("_a"))
            if len(common) > 1:
                # One section without bytes makes the sum of bytes unknown.
                both.loc[_TOGETHER] = both.sum(min_count=len(common))
            parts.append(both.reset_index(names="section").assign(run=run))
    if not parts:
        theirs, ours = (", ".join(section_order(rows)) or "none" for rows in (measured, costs))
        raise RoofError(f"--algorithmic: no section is in both tables (measured: {theirs}; counted: {ours})")
    table = pd.concat(parts, ignore_index=True).rename(
        columns={f"{kind}_{side}": f"{name}_{kind}" for kind in ("flop", "bytes") for side, name in _SIDES.items()}
    )
    for kind in ("flop", "bytes"):
        table[f"{kind}_ratio"] = table[f"measured_{kind}"] / table[f"algorithmic_{kind}"].where(
            lambda values: values > 0
        )
    return table[list(COLUMNS)]


_SIDES = {"m": "measured", "a": "algorithmic"}


def describe(table: pd.DataFrame) -> str:
    """Return the ratios as lines."""
    names = [f"{run} {section}"[:60] for run, section in zip(table["run"], table["section"])]
    width = max(26, *(len(name) + 1 for name in names))
    lines = [f"{'measured over algorithmic':<{width}}{'FLOPs':>32}{'ratio':>8}{'bytes':>24}{'ratio':>8}"]
    for name, (_, row) in zip(names, table.iterrows()):
        flops = f"{si(row['measured_flop'], 'FLOP')} / {si(row['algorithmic_flop'], 'FLOP')}"
        size = f"{si(row['measured_bytes'], 'B')} / {si(row['algorithmic_bytes'], 'B')}"
        lines.append(
            f"{name:<{width}}{flops:>32}{_number(row['flop_ratio']):>8}{size:>24}{_number(row['bytes_ratio']):>8}"
        )
    return "\n".join(lines)


def _by_section(rows: pd.DataFrame) -> pd.DataFrame:
    sums = pd.DataFrame({"section": rows["section"].astype(str), "flop": total_flop(rows), "bytes": rows["bytes_hbm"]})
    # Rows whose section is not known belong to none; `min_count` keeps NaN where nothing was measured, in place of 0.
    return sums[sums["section"] != ""].groupby("section").sum(min_count=1)


def _number(value: float) -> str:
    # NaN is unequal to itself.
    return f"{value:.2f}" if value == value else "-"
