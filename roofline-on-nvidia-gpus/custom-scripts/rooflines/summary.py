"""The profile in words and figures: per run the totals, units, sections, the top kernels, and what was odd."""

import pandas as pd

from .analysis import analyse, by_name
from .charts.sections import section_order
from .charts.style import intensity, level_name, percent, rate_text, seconds, shorten, si
from .columns import LEVELS, UNIT_NAMES, UNMEASURED
from .read.inputs import Loaded
from .roofs import Roofs
from .table import aggregate, tensor_flop, tensor_is_unmeasured

_NAME = 36  # characters of a kernel's name


def summarise(loaded: Loaded, *, top: int = 10) -> str:
    """Return the summary of all runs as text."""
    parts = [_run(run, loaded.rows[loaded.rows["run"] == run], loaded.roofs[run], top) for run in loaded.runs]
    if loaded.warnings:
        parts.append("\n".join(["worth knowing", *(f"  - {warning}" for warning in loaded.warnings)]))
    return "\n\n".join(parts) + "\n"


def _run(run: str, rows: pd.DataFrame, roofs: Roofs, top: int) -> str:
    kernels = analyse(by_name(rows.assign(section="")), roofs)
    timed = rows["time_s"].notna().any()
    total, flop = rows["time_s"].sum(), kernels["flop"].sum()
    launches = f"{int(rows['launches'].sum()):,} launches of {len(rows)} kernels"
    rate = f" at {si(flop / total, 'FLOP/s')}" if total else ""
    work = "FLOPs not measured" if (kernels["unit"] == UNMEASURED).all() else f"{si(flop, 'FLOP')}{rate}"
    lines = [
        f"{run}: {seconds(total) if timed else 'no times'} in {launches}, {work}",
        f"  tensor cores: {_tensor(rows, total)}",
    ]
    if timed:
        # Summed before it is analysed: shares and rates of sums, not sums of rates.
        kinds = analyse(aggregate(rows, ("family",)), roofs)
        lines.append(f"  time by unit: {_shares(kernels, 'unit', UNIT_NAMES)}")
        lines.append(f"  time by kind: {_shares(kinds, 'family')}")
    order = section_order(rows)
    if order != [""] and timed:
        times = rows.groupby("section", observed=True)["time_s"].sum()
        lines.append("  sections: " + ", ".join(f"{name or 'not known'} {seconds(times[name])}" for name in order))
    lines.append(f"  roofs: {roofs.source or 'none'}" + _roof_values(roofs))
    return "\n".join([*lines, "", *_table(kernels.head(top), roofs.device)])


def _tensor(rows: pd.DataFrame, total: float) -> str:
    """Return the work of tensor cores, in how many of the kernels, and their share of the time."""
    if tensor_is_unmeasured(rows):
        return "not measured"
    flops = tensor_flop(rows)
    used = rows[flops > 0]
    share = f", {100 * used['time_s'].sum() / total:.1f} % of the time" if total else ""
    return f"{si(flops.sum(), 'FLOP', 4)} in {len(used)} of {len(rows)} kernels{share}"


def _shares(rows: pd.DataFrame, column: str, names: dict[str, str] | None = None) -> str:
    shares = rows.groupby(column, observed=True)["share"].sum().sort_values(ascending=False)
    return ", ".join(
        f"{(names or {}).get(name, name) or 'not known'} {percent(share)}" for name, share in shares.head(8).items()
    )


def _roof_values(roofs: Roofs) -> str:
    values = [f"{level_name(level, roofs.device)} {si(rate, 'B/s', 4)}" for level, rate in roofs.bandwidth.items()]
    return f" ({', '.join(values)})" if values else ""


#: Title and least width of each column; those of texts, which stand at the left of theirs, are negative.
_COLUMNS = (
    ("", 3),
    ("kernel", -_NAME),
    ("time", 9),
    ("share", 7),
    ("launches", 9),
    ("L1", 7),
    ("L2", 7),
    ("HBM", 7),
    ("rate", 13),
    ("of roof", 8),
    (" bound by", 0),
)


def _table(rows: pd.DataFrame, device: str) -> list[str]:
    """Return the kernels as lines, each column as wide as its widest cell."""
    cells = [[level_name(title, device) for title, _ in _COLUMNS]]
    for place, (_, row) in enumerate(rows.iterrows(), start=1):
        flops = row["flop"] > 0
        cells.append(
            [
                str(place),
                shorten(row["name"], _NAME),
                seconds(row["time_s"]),
                percent(row["share"]),
                f"{int(row['launches']):,}",
                *(intensity(row[f"ai_{level.lower()}"]) if flops else "-" for level in LEVELS),
                rate_text(row),
                percent(row["efficiency"]),
                f" {level_name(row['bound'], device) or '-'}",
            ]
        )
    # The sign of the least width says where a column is flush: 0 or below, left.
    widths = [max(abs(least), *map(len, column)) for (_, least), column in zip(_COLUMNS, zip(*cells))]
    padded = (
        [
            cell.ljust(width) if least <= 0 else cell.rjust(width)
            for cell, width, (_, least) in zip(line, widths, _COLUMNS)
        ]
        for line in cells
    )
    return ["  " + " ".join(line).rstrip() for line in padded]
