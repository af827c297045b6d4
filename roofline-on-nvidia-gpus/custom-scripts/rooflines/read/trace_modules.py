"""From a trace to the tidy table: a row per place of the step, operator and kernel; joined with counted costs."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from .. import RoofError
from ..columns import FLOP_COLUMNS
from ..table import read_table, tidy
from .counters import rank_of
from .kernel_names import family
from .places import PYTHON, is_communication
from .trace_device import PLACE_KEYS, device_rows, device_time, label
from .trace_events import read_trace
from .trace_places import Walk, walk

#: Times that are no work: the host's own on a CPU, a GPU's gaps.
WAITING = ("python", "host bound", "idle")
_COUNTS = [*FLOP_COLUMNS.values(), "bytes_hbm"]
#: Kinds of torch's operators on a CPU, the first that fits; GPU kernels have names of their own.
_OPERATORS = (
    (r"convolution|conv2d", "convolution"),
    (r"attention", "attention"),
    (r"(mm|linear|matmul|baddbmm)$", "matrix product"),
    (r"Optimizer|adam", "optimizer"),
    (r"batch_norm|layer_norm", "normalization"),
    (r"aten::(copy_|clone|cat|fill_|zero_|_to_copy|contiguous)$", "copy"),
    (r"aten::(add|sub|mul|div|relu|threshold_backward|clamp|where|pow|exp|neg|masked_fill)\w*$", "elementwise"),
)


@dataclass
class Modules:
    """Tidy rows of all steps of a trace, how many steps these are, their seconds together, and notes.

    beside: rows of what ran outside of steps, such as an evaluation; they are in no sum here.
    """

    rows: pd.DataFrame
    steps: int
    seconds: float
    notes: list[str] = field(default_factory=list)
    beside: pd.DataFrame | None = None


def read_modules(path: Path, costs_path: Path | None = None) -> Modules:
    """Read a trace, with `costs_path` the table of --count_costs of the same model. Raises RoofError.

    The rows' times add up to `seconds`: on a CPU those of the steps, on a GPU from the first step's begin to the end of
    the last kernel.
    """
    costs = None if costs_path is None else per_operator(read_table(costs_path))
    trace = read_trace(path)
    found = walk(trace, () if costs is None else set(costs["operator"]))
    if not found.steps or not found.time:
        raise RoofError(f"{path}: no operator of a step takes any time")
    on_gpu = bool(trace.device.begin)
    rows = device_rows(device_time(trace, found)) if on_gpu else _host_rows(found)
    begin, end = found.steps[0][0], found.steps[-1][1]
    # A trace is in microseconds. Kernels outlast the step that launched them, so a GPU's time is that of its rows.
    seconds = (rows["time_s"].sum() if on_gpu else sum(stop - start for start, stop in found.steps) / 1e6) or 0.0
    run = path.name.partition(".")[0]
    rows = rows.assign(run=path.resolve().parent.name or run, rank=rank_of(path), source="torch")
    rows = rows.assign(device="GPU" if on_gpu else "CPU")
    notes = [f"{len(found.steps)} steps in {(end - begin) / 1e6:.3f} s"]
    if costs is not None:
        rows, unmatched = join_costs(rows, costs, len(found.steps))
        if unmatched > 0.001:
            notes.append(
                f"{unmatched:.1%} of the counted FLOPs and bytes are of operators that the trace does not have"
            )
    else:
        rows = rows.assign(flop_source="missing")
    return Modules(tidy(rows, origin=str(path)), len(found.steps), float(seconds), notes)


def _host_rows(found: Walk) -> pd.DataFrame:
    rows = []
    for place, microseconds in found.time.items():
        kind = "communication" if is_communication(place.kernel) else _family(place.kernel)
        rows.append(
            {
                **{name: getattr(place, name) for name in PLACE_KEYS},
                # What exchanges gradients is apart, whatever module's backward it was called in.
                "module": "" if kind == "communication" else place.module,
                "kernel": place.kernel,
                "name": label(place.kernel),
                "family": "python" if place.kernel == PYTHON else kind,
                "launches": max(1, found.calls.get(place, 0)),
                "first": found.first_seen.get(place, 0.0),
                "time_s": microseconds / 1e6,
            }
        )
    return pd.DataFrame(rows).sort_values("first", ignore_index=True).assign(first=lambda table: table.index)


def _family(operator: str) -> str:
    return next((kind for pattern, kind in _OPERATORS if re.search(pattern, operator)), None) or family(operator)


def per_operator(costs: pd.DataFrame) -> pd.DataFrame:
    """Return the counted FLOPs and bytes of a step by place and operator, named as in a trace: aten::convolution."""
    name = costs["operator"].astype(str).where(costs["operator"].astype(str) != "", costs["kernel"].astype(str))
    named = costs.assign(operator="aten::" + name.str.split(".").str[1].fillna(name))
    return named.groupby(PLACE_KEYS, observed=True, as_index=False)[_COUNTS].sum()


def join_costs(rows: pd.DataFrame, costs: pd.DataFrame, steps: int) -> tuple[pd.DataFrame, float]:
    """Give the rows the counted FLOPs and bytes, an operator's spread over its kernels by time; and what found no row.

    An operator that the trace does not have by name (a view of another, a fused one) is spread over its module.
    """
    result = rows.assign(**dict.fromkeys(_COUNTS, 0.0), flop_source="analytic")
    works = ~result["family"].isin([*WAITING, "communication"])
    left = costs
    # First by operator; what found none, by section, module and direction.
    for keys in (PLACE_KEYS, PLACE_KEYS[:3]):
        groups = result[works].groupby(keys)
        # An operator of three kernels: its FLOPs are spread by their times, for no trace says which does how many.
        share = (result["time_s"] / groups["time_s"].transform("sum")).where(works, 0.0)
        found = left.merge(groups.size().rename("rows").reset_index(), on=keys, how="left")
        sums = found[found["rows"].notna()].groupby(keys)[_COUNTS].sum()
        wanted = pd.MultiIndex.from_frame(result[keys])
        for name in _COUNTS:
            result[name] += sums[name].reindex(wanted).fillna(0.0).to_numpy() * share.fillna(0.0) * steps
        left = found[found["rows"].isna()].drop(columns="rows")
    lost = max((left[_COUNTS].sum() / costs[_COUNTS].sum()).fillna(0.0)) if len(left) else 0.0
    return result, float(lost)


def by_module(modules: Modules) -> pd.DataFrame:
    """Return seconds, FLOPs, bytes, and calls of operators or kernels by module and direction, the longest first.

    Together they are a step; waiting_s is a part of time_s.
    """
    keys = ["module", "direction"]
    numbers = ["time_s", *_COUNTS, "waiting_s", "calls"]
    rows = modules.rows.assign(**{name: modules.rows[name].astype(str) for name in keys})
    waits = rows["family"].isin(WAITING)
    rows["waiting_s"], rows["calls"] = rows["time_s"].where(waits, 0.0), rows["launches"].mask(waits, 0)
    table = rows.groupby(keys, as_index=False)[numbers].sum()
    # The rows are of all steps; a report speaks of one.
    table[numbers] /= modules.steps
    table["module"] = table["module"].replace("", "outside any module")
    return table.sort_values("time_s", ascending=False, ignore_index=True)
