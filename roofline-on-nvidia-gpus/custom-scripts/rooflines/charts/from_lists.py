"""The lists of numbers that NERSC's plotting functions take, as rows that the charts draw."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import RoofError
from ..columns import LEVELS, MEMORY_ONLY
from ..gpus import gpu_table
from ..roofs import Roofs, table_roofs

#: The original's words for the processing units; a tensor core's type is not in its lists.
_ORIGINAL_UNITS = {
    "FP64": "fp64",
    "FP32": "fp32",
    "FP16": "fp16",
    "TC": "tensor_tf32",
    "TC/CC": "tensor_tf32",
    "CC": "fp32",
    "MemOP": MEMORY_ONLY,
}


def rows_from_lists(
    flops: Sequence[float],
    intensities: Mapping[str, Sequence[float] | None],
    labels: Sequence[str] | None,
    flag: str,
    roofs: Roofs | None,
    units: Sequence[str] | int = 0,
    flags: tuple[str, ...] = ("HBM", "L2", "L1", "all"),
) -> tuple[pd.DataFrame, Roofs]:
    """Return analysed rows without times, the fastest first, and the roofs (default: A100 SXM 40 GB, nominal clock).

    flops: GFLOP/s. intensities: FLOP/byte by level. Raises RoofError naming the argument that does not fit.
    """
    flops, labels = _listed(flops) or [], _listed(labels)
    values = {level: _listed(given) for level, given in intensities.items()}
    units = units if isinstance(units, int) else _listed(units) or 0
    _check(flops, values, labels, flag, flags)
    roofs = roofs or table_roofs(gpu_table()[0])
    count = len(flops)
    rows = pd.DataFrame({"name": list(labels) if labels else [f"kernel {n + 1}" for n in range(count)]})
    rows["kernels"] = rows["launches"] = 1
    rows["time_s"], rows["share"] = np.nan, np.nan
    # GFLOP/s to FLOP/s. Without times the FLOPs are not known: all that charts ask of them is whether they are 0.
    rows["rate"] = rows["flop"] = np.asarray(flops, float) * 1e9
    for level in LEVELS:
        rows[f"ai_{level.lower()}"] = np.asarray(values[level], float) if values.get(level) else np.nan
    if isinstance(units, Sequence) and len(units) == count:
        rows["unit"] = [_ORIGINAL_UNITS.get(unit, MEMORY_ONLY) for unit in units]
    else:
        rows["unit"] = "fp32"
    rows.loc[rows["flop"] == 0, "unit"] = MEMORY_ONLY
    # FLOP/s that each level's bytes allow, (kernels, levels); the lowest roof over a kernel bounds it.
    attainable = pd.DataFrame(
        {level: rate * rows[f"ai_{level.lower()}"] for level, rate in roofs.bandwidth.items()}
    ).assign(peak=max(roofs.peak.values(), default=np.inf))
    # The classic roof: the least of intensity times bandwidth over the levels, and of the peak.
    rows["efficiency"] = rows["rate"] / attainable.min(axis=1)
    rows["bound"] = attainable.fillna(np.inf).idxmin(axis=1).replace("peak", "compute")
    return rows.sort_values("rate", ascending=False, ignore_index=True), roofs


def _listed(values: Any) -> list | None:
    """Return a list of what a list, a tuple, an array or a column of a table holds; None for nothing."""
    return None if values is None else list(values)


def _check(
    flops: list, intensities: dict[str, list | None], labels: list | None, flag: str, flags: tuple[str, ...]
) -> None:
    if flag not in flags:
        raise RoofError(f"flag {flag!r} must be one of {', '.join(flags)}")
    if not len(flops) or max(flops) <= 0:
        raise RoofError("FLOPS holds no kernel with FLOPs")
    if not any(values for values in intensities.values()):
        raise RoofError("one of AIHBM, AIL2 and AIL1 must be given")
    for name, values in [*((f"AI{level}", values) for level, values in intensities.items()), ("LABELS", labels)]:
        if values and len(values) != len(flops):
            raise RoofError(f"{name} has {len(values)} entries, FLOPS has {len(flops)}")
    if flag in LEVELS and not intensities.get(flag):
        raise RoofError(f"flag {flag} needs AI{flag}")
