"""The analysis of each row: intensity per level, rate, distance to its roof, and the unit or level that bounds it.

The least time of a kernel is the longest of: its FLOPs at each unit's peak, one unit after the other; its bytes of each
level at that level's bandwidth. (Time-based roofline: https://arxiv.org/abs/2009.04598.) For one unit and one level
that is the classic roof, min(peak, intensity x bandwidth). Percent of roof is least time over time.
"""

import numpy as np
import pandas as pd

from .columns import FLOP_COLUMNS, LEVELS, UNITS, UNMEASURED
from .roofs import Roofs
from .table import aggregate, main_unit, tensor_flop, total_flop

#: Below this part of its roof, neither a unit nor a memory level explains a kernel's time: it waits (latency, launch,
#: too few threads). A convention; Nsight Compute's guide speaks of latency below 60 % of both peaks, a kernel in one
#: wave with dependent loads often reaches a third.
LATENCY_BELOW = 1 / 3


def analyse(rows: pd.DataFrame, roofs: Roofs) -> pd.DataFrame:
    """Return the tidy rows with flop, tensor_flop, unit, share (of the time), rate (FLOP/s), ai_l1, ai_l2, ai_hbm
    (FLOP/byte), least_s, efficiency (0..1; NaN without roofs, and where what was not measured may be the roof), lost_s
    and bound (a level, a unit's name, "latency" or "").
    """
    result = rows.copy()
    result["flop"], result["tensor_flop"], result["unit"] = total_flop(rows), tensor_flop(rows), main_unit(rows)
    total = rows["time_s"].sum()
    result["share"] = rows["time_s"] / total if total else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        result["rate"] = result["flop"] / rows["time_s"]
        for level, column in LEVELS.items():
            result[f"ai_{level.lower()}"] = result["flop"] / rows[column]
    # (kernels, levels + 1) seconds: levels work at the same time, so the longest of them is the bound; units add up.
    least = _least_times(rows, roofs)
    longest = least.max(axis=1) if least.shape[1] else pd.Series(np.nan, index=rows.index)
    # Something that was not measured may be what a slow kernel waits for: how far it is from its roof is not known.
    certain = (result["unit"] != UNMEASURED) & rows[list(LEVELS.values())].notna().any(axis=1)
    known = longest.notna() & (certain | ~(longest < LATENCY_BELOW * rows["time_s"]))
    result["least_s"] = longest.where(known)
    # 1 on the roof, less below it; above 1 the roof or the counters are wrong.
    result["efficiency"] = result["least_s"] / rows["time_s"]
    result["lost_s"] = (rows["time_s"] - result["least_s"]).clip(lower=0)
    result["bound"] = _bounds(least, result)
    return result


def _least_times(rows: pd.DataFrame, roofs: Roofs) -> pd.DataFrame:
    """Return the seconds that each level's bytes and all FLOPs need at least."""
    times = {
        level: rows[column] / roofs.bandwidth[level]
        for level, column in LEVELS.items()
        if level in roofs.bandwidth and rows[column].notna().any()
    }
    # One unit after the other: a kernel's FP32 tail does not overlap its tensor work in this model.
    parts = [rows[FLOP_COLUMNS[unit]] / peak for unit, peak in roofs.peak.items()]
    if parts:
        times["units"] = sum(parts)
    return pd.DataFrame(times, index=rows.index)


def _bounds(least: pd.DataFrame, result: pd.DataFrame) -> pd.Series:
    known = result["efficiency"] > 0
    if not known.any():
        return pd.Series("", index=result.index)
    # -1, so that a level without a number is never the longest.
    bound = least.fillna(-1).idxmax(axis=1).astype(object)
    bound = bound.mask(bound == "units", result["unit"].map(UNITS))
    return bound.mask(result["efficiency"] < LATENCY_BELOW, "latency").where(known, "")


def by_name(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum rows over modules, devices and launch shapes: one per run, section, readable name and unit, longest first."""
    # One name may stand for several kernels: tiles and types are left out of it.
    rows = aggregate(rows, ("run", "section", "name"))
    return rows.sort_values("time_s", ascending=False, kind="stable", ignore_index=True)
