"""The tidy table: what was counted, one row per kernel (or operator) of a run, section and module, in SI units.

Every source fills the same columns, so the charts do not care where a row comes from: Nsight Compute's CSVs and reports
(`counters.py`), or a count of the model's operators without a GPU (source `analytic`). A source that does not know a
column leaves it empty; `tidy` adds what is missing and refuses what is no number.

Rows hold sums over their launches. A rate or an intensity is always a sum over a sum, never a mean of ratios.
"""

from pathlib import Path

import pandas as pd

from . import RoofError, atomic_file
from .columns import (
    FLOP_COLUMNS,
    HIGHEST,
    MEANS,
    MEMORY_ONLY,
    NUMBER_COLUMNS,
    TENSOR_UNITS,
    TEXT_COLUMNS,
    UNMEASURED,
)

_KEYS = (
    "run",
    "rank",
    "section",
    "module",
    "direction",
    "operator",
    "kernel",
    "name",
    "family",
    "device",
    "compute_capability",
    "grid",
    "block",
    "source",
)
_SUMS = tuple(name for name in NUMBER_COLUMNS if name not in ("first", *MEANS, *HIGHEST))


def tidy(rows: pd.DataFrame, *, origin: str = "table") -> pd.DataFrame:
    """Return rows with exactly COLUMNS in order; missing texts are empty, missing numbers NaN, missing FLOPs 0.

    Raises RoofError naming `origin` and the column for text where a number belongs.
    """
    columns = {}
    for name in TEXT_COLUMNS:
        values = rows[name] if name in rows else pd.Series("", index=rows.index)
        # Categories: names of kernels are hundreds of characters long and repeat in every launch.
        if not isinstance(values.dtype, pd.CategoricalDtype):
            values = values.astype(object).where(values.notna(), "").astype(str).astype("category")
        columns[name] = values
    for name in NUMBER_COLUMNS:
        # FLOPs of a unit without a column are 0, for sources name only units they saw; other numbers that nobody gave
        # are unknown.
        default = 1 if name == "launches" else 0 if name in FLOP_COLUMNS.values() else float("nan")
        try:
            columns[name] = pd.to_numeric(rows[name] if name in rows else pd.Series(default, index=rows.index))
        except (ValueError, TypeError) as error:
            raise RoofError(f"{origin}: column {name} holds something that is no number ({error})") from error
        # False for NaN alone.
        if default == default:
            columns[name] = columns[name].fillna(default)
    return pd.DataFrame(columns)


def sum_rows(rows: pd.DataFrame, by: tuple[str, ...] = _KEYS) -> pd.DataFrame:
    """Sum rows that agree in the columns `by`, in order of their first launch; the default joins equal launches.

    Clocks are averaged by time, flop_source becomes the distinct ones joined by "+", other texts that differ become
    empty. Bytes stay NaN where no row knows them. Returns a tidy table.
    """
    return tidy(_sums(rows, by)) if len(rows) else rows


def aggregate(rows: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    """Sum rows that agree in the columns `by` and in their unit; `kernels` is the number of rows in each sum.

    Charts, page and summary take their kernels from here, so that they agree. Work with FLOPs and work without that
    have one name stay apart: in one point the time of the one would be booked on the unit of the other.
    """
    sums = _sums(rows.assign(unit=main_unit(rows)), (*by, "unit"))
    return tidy(sums).assign(kernels=sums["kernels"])


def _sums(rows: pd.DataFrame, by: tuple[str, ...]) -> pd.DataFrame:
    # Clocks are averaged by time, of the rows that have one: cycles over seconds.
    weights = {f"_weight {name}": rows["time_s"].where(rows[name].notna()) for name in MEANS}
    cycles = {f"_cycles {name}": rows[name] * weights[f"_weight {name}"] for name in MEANS}
    # `observed`: without it pandas makes a group for every combination of categories, millions of them.
    groups = rows.assign(**weights, **cycles).groupby(list(by), observed=True, sort=False, dropna=False)
    # min_count=1: a sum of unknowns is unknown, not 0.
    result = groups[[*_SUMS, *weights, *cycles]].sum(min_count=1)
    result["first"] = groups["first"].min()
    for name in MEANS:
        result[name] = result.pop(f"_cycles {name}") / result.pop(f"_weight {name}")
    for name in HIGHEST:
        result[name] = groups[name].max()
    for name in TEXT_COLUMNS:
        if name not in by:
            result[name] = _joined(groups[name], "+" if name == "flop_source" else None)
    result["kernels"] = groups.size()
    return result.reset_index().sort_values("first", kind="stable", ignore_index=True)


def _joined(groups: "pd.core.groupby.SeriesGroupBy", separator: str | None) -> pd.Series:
    """Return each group's one text; of several, the join, or "" without a separator."""
    first = groups.first().astype(object)
    several = groups.nunique() > 1
    if not several.any():
        return first
    if separator is None:
        return first.mask(several, "")
    joined = groups.agg(lambda texts: separator.join(sorted(set(map(str, texts)))))
    return joined.astype(object)


def refuse(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows without those that cannot be true, and a line that names them.

    A time is positive where it is known, counts and bytes are not negative, and nothing is infinite.
    """
    wrong = pd.Series("", index=rows.index, dtype=object)
    for name in NUMBER_COLUMNS:
        values = rows[name]
        if name == "first":
            continue
        bad = (values < 0) | values.isin([float("inf"), float("-inf")])
        # Both are divided by.
        bad |= (values == 0) if name in ("time_s", "launches") else False
        if bad.any():
            wrong = wrong.mask(bad & (wrong == ""), name + " " + values.map("{:g}".format))
    refused = rows[wrong != ""]
    if refused.empty:
        return rows, []
    named = [f"{str(name)[:60]} ({why})" for name, why in zip(refused["name"], wrong[refused.index])]
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    plural = "s" if len(named) > 1 else ""
    note = f"{len(named)} row{plural} refused, values that cannot be: {', '.join(named[:3])}{more}"
    return rows[wrong == ""].reset_index(drop=True), [note]


def total_flop(rows: pd.DataFrame) -> pd.Series:
    """Return the floating-point operations of each row over all units."""
    return rows[list(FLOP_COLUMNS.values())].sum(axis=1)


def tensor_flop(rows: pd.DataFrame) -> pd.Series:
    """Return the floating-point operations of each row on tensor cores."""
    return rows[[column for key, column in FLOP_COLUMNS.items() if key.startswith("tensor_")]].sum(axis=1)


def main_unit(rows: pd.DataFrame) -> pd.Series:
    """Return the unit (key of UNITS) that does most of each row's FLOPs; MEMORY_ONLY for none, UNMEASURED if unknown.

    A matrix product on tensor cores also scales and adds on the CUDA cores at its end: it counts as tensor work.
    """
    # (rows, units)
    flops = rows[list(FLOP_COLUMNS.values())]
    keys = dict(zip(FLOP_COLUMNS.values(), FLOP_COLUMNS))
    # No FLOPs counted: either there were none, or nobody counted.
    idle = pd.Series(MEMORY_ONLY, index=rows.index).mask(is_unmeasured(rows), UNMEASURED)
    return flops.idxmax(axis=1).map(keys).where(flops.sum(axis=1) > 0, idle)


#: Values of flop_source that say that FLOPs, or those of tensor cores, may be missing.
_MISSING = {"missing", "tensor_unknown", "hfma_unknown"}
_TENSOR_MISSING = {"missing", "tensor_unknown", "cores_only"}


def is_unmeasured(rows: pd.DataFrame) -> pd.Series:
    """Say of each row whether its count is 0 because FLOPs were not counted."""
    return (total_flop(rows) == 0) & _has_source(rows, _MISSING)


def tensor_is_unmeasured(rows: pd.DataFrame) -> bool:
    """Say whether nothing in these rows counted tensor work, though something ran."""
    sources = {part for text in rows["flop_source"].astype(str).unique() for part in text.split("+")}
    return (
        bool(sources)
        and sources <= _TENSOR_MISSING
        and not rows[[FLOP_COLUMNS[u] for u in TENSOR_UNITS]].any(axis=None)
    )


def _has_source(rows: pd.DataFrame, sources: set[str]) -> pd.Series:
    texts = rows["flop_source"].astype(str)
    found = {text for text in texts.unique() if sources.intersection(text.split("+"))}
    return texts.isin(found)


def write_table(rows: pd.DataFrame, path: Path) -> None:
    """Write the table as CSV (numbers in full, so that a reader gets the same table)."""
    with atomic_file(path) as file:
        file.write(rows.to_csv(index=False, lineterminator="\n").encode())


def write_parquet(rows: pd.DataFrame, path: Path) -> str | None:
    """Write the table as Parquet; without pyarrow, write nothing and return one line that says so."""
    try:
        import pyarrow  # noqa: F401 (optional: only for this file)
    except ImportError:
        return f"{path.name} is not written: pip install pyarrow"
    with atomic_file(path) as file:
        rows.to_parquet(file, index=False)
    return None


def read_table(path: Path) -> pd.DataFrame:
    """Read a table that `write_table` or `write_parquet` wrote. Raises RoofError for what is none."""
    try:
        # low_memory=False reads the file as a whole: by parts, a column may get two types.
        rows = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, low_memory=False)
    except ImportError as error:
        raise RoofError(f"{path}: reading Parquet needs pyarrow (pip install pyarrow); the CSV does not") from error
    except (ValueError, OSError) as error:
        raise RoofError(f"{path}: no readable table ({error})") from error
    missing = {"kernel", "time_s"} - set(rows.columns)
    if missing:
        raise RoofError(f"{path}: not a tidy table, it has no column {', '.join(sorted(missing))}")
    rows = tidy(rows, origin=str(path))
    # A table by hand may have no run and no readable names.
    filled = {
        "run": rows["run"].astype(str).replace("", path.name.partition(".")[0]),
        "name": rows["name"].astype(object).where(rows["name"] != "", rows["kernel"].astype(object)),
    }
    return rows.assign(**{name: values.astype("category") for name, values in filled.items()})


def is_table(header: str) -> bool:
    """Say whether a CSV's first line is that of a tidy table."""
    names = set(header.strip().lstrip("\ufeff").split(","))
    # ncu's own CSVs have "Kernel Name", with capitals.
    return "kernel" in names and bool({"time_s", "flop_source", "launches", "family"} & names)
