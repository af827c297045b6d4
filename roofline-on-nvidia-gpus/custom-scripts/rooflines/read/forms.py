"""Sums from their other forms: per cycle, per second, in parts. Sections of `--set full` collect nothing else."""

import numpy as np
import pandas as pd

from .metrics import (
    CLOCK,
    CLOCK_MAX,
    CYCLES,
    CYCLES_MAX,
    DRAM,
    DRAM_READ,
    DRAM_WRITE,
    PER_CYCLE,
    PER_SECOND,
    TENSOR_INST,
    TENSOR_PARTS,
    TIME,
    unit_clock,
)


def complete(launches: pd.DataFrame) -> pd.DataFrame:
    """Return launches with time, clock and every sum that follows from the others; what was counted stays.

    A sum per cycle is that of one cycle of its unit's clock: times the cycles of the kernel's time it is the sum.
    """
    found = {name: launches[name] for name in (TIME, CYCLES, CLOCK) if name in launches}
    nothing = pd.Series(np.nan, index=launches.index)
    time, cycles, clock = (found.get(name, nothing) for name in (TIME, CYCLES, CLOCK))
    cycles, clock = (
        _fill(values, launches.get(name, nothing)) for values, name in ((cycles, CYCLES_MAX), (clock, CLOCK_MAX))
    )
    # Any two of time, cycles and clock give the third.
    time = time.fillna(cycles / clock)
    clock = clock.fillna(cycles / time)
    cycles = cycles.fillna(time * clock)
    for name, values in ((TIME, time), (CYCLES, cycles), (CLOCK, clock)):
        if values.notna().any():
            found[name] = values
    sums: dict[str, pd.Series] = {}
    for column in launches.columns:
        total = column.removesuffix(PER_CYCLE).removesuffix(PER_SECOND)
        if total == column or not total.endswith(".sum"):
            continue
        if column.endswith(PER_CYCLE):
            # "Per cycle" is of the unit's own clock: dram's cycles are not the SM's.
            rate = _cycles(launches, column.partition("__")[0], cycles, time)
        else:
            rate = time
        sums[total] = _fill(sums.get(total, nothing), launches[column] * rate)
    known = sums | {name: launches[name] for name in launches.columns if name.endswith(".sum")}
    reads_and_writes = [known[name] for name in (DRAM_READ, DRAM_WRITE) if name in known]
    if len(reads_and_writes) == 2:
        sums[DRAM] = _fill(reads_and_writes[0] + reads_and_writes[1], sums.get(DRAM, nothing))
    parts = [known[name] for name in TENSOR_PARTS if name in known]
    if parts:
        # Kinds of matrix instructions exclude each other: their sum is the whole.
        sums[TENSOR_INST] = _fill(sums.get(TENSOR_INST, nothing), pd.concat(parts, axis=1).sum(axis=1, min_count=1))
    for name, values in sums.items():
        values = _fill(launches[name], values) if name in launches else values
        if values.notna().any():
            found[name] = values
    return launches.assign(**found)


def _fill(values: pd.Series, others: pd.Series) -> pd.Series:
    return values.where(values.notna(), others)


def _cycles(launches: pd.DataFrame, unit: str, cycles: pd.Series, time: pd.Series) -> pd.Series:
    """Return the cycles of a unit (dram, lts, l1tex, sm) that passed during each launch."""
    if unit in ("sm", "smsp"):
        return cycles
    clock = unit_clock(unit)
    # Cycles per second times seconds.
    return launches[clock] * time if clock in launches else pd.Series(np.nan, index=launches.index)
