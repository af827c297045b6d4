"""A run to report on: the time of a step by module, with costs, roofs and memory where they are known."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from ..columns import FLOP_COLUMNS
from ..read.timelines import COSTS_NAME
from ..read.trace_modules import Modules, by_module
from ..roofs import Roofs, read_roofs
from .exchange_table import Exchanges, read_exchanges
from .sources import read_sources
from .trajectory import TimedRun, read_timed

OUTSIDE = "outside any module"
#: Below this part of its roof neither a unit nor memory explains a module's time; as in analysis.py.
_LATENCY_BELOW = 1 / 3


@dataclass
class Run:
    """A run's first process; `parts` has a row by module and direction, a step's seconds, the longest first.

    Beside time_s, waiting_s, calls, flop and bytes_hbm it has least_s, the time at the roof, and bound, both only with
    costs and roofs. `memory` is the table of --count_costs with --module_ranges, or None. `processes` are all of the
    run; `exchanges` are the gradients that these exchange, where a trace tells;
    `timed` is what main.py --timing wrote beside it.
    """

    name: str
    modules: Modules
    parts: pd.DataFrame
    roofs: Roofs | None
    memory: pd.DataFrame | None
    notes: list[str] = field(default_factory=list)
    processes: list[Modules] = field(default_factory=list)
    exchanges: Exchanges | None = None
    timed: TimedRun | None = None

    @property
    def step_s(self) -> float:
        """Seconds of a step."""
        return self.modules.seconds / self.modules.steps

    @property
    def has_costs(self) -> bool:
        """True where FLOPs and bytes were counted."""
        return bool(self.parts["bytes_hbm"].any())

    @property
    def measured(self) -> bool:
        """True where FLOPs and bytes are a GPU's counters."""
        return "ncu" in set(self.modules.rows["source"].astype(str))

    def folded(self, depth: int) -> pd.DataFrame:
        """Return `parts` with modules cut to `depth` levels."""
        return with_roofs(
            _sums(self.parts.assign(module=self.parts["module"].map(lambda n: cut(n, depth)))), self.roofs
        )


def read_run(path: Path, steps: int | None = None) -> Run:
    """Read a folder, or a trace, timeline or report with files beside it. Raises RoofError naming what is missing.

    steps: how many a report of counters holds, where no record beside it tells.
    """
    processes, roofs = read_sources(path, steps)
    folder = path if path.is_dir() else path.parent
    costs, costs_roofs, memory = (
        folder / f"{COSTS_NAME.partition('.')[0]}{end}" for end in (".csv", ".roofs.toml", ".memory.csv")
    )
    # The first process stands for all: with data parallelism each does the same work.
    modules = processes[0]
    # What was named by flag wins over the file beside the table.
    found = roofs or (read_roofs(costs_roofs) if costs_roofs.is_file() else None)
    notes = [*modules.notes]
    if roofs is None and (not costs.is_file() or found is None):
        notes.append(
            f"no {COSTS_NAME} with its roofs in {folder}: main.py --count_costs {folder / COSTS_NAME} counts them"
        )
    if not any(map(str, modules.rows["module"].unique())):
        notes.append("nothing is in a module: main.py --module_ranges 4 names them")
    parts = by_module(modules)
    parts = parts.assign(flop=parts[list(FLOP_COLUMNS.values())].sum(axis=1))
    table = pd.read_csv(memory).fillna({"module": ""}) if memory.is_file() else None
    beside = (read_exchanges(folder), read_timed(folder))
    return Run(folder.resolve().name, modules, with_roofs(parts, found), found, table, notes, processes, *beside)


def cut(name: str, depth: int) -> str:
    """Return a module's name cut to `depth` levels; the number of a list of layers belongs to it."""
    levels: list[str] = []
    for part in name.split("."):
        if part.isdigit() and levels and levels[-1] == "layers":
            levels[-1] = f"layers.{part}"
        else:
            levels.append(part)
    return ".".join(levels[:depth])


def with_roofs(parts: pd.DataFrame, roofs: Roofs | None) -> pd.DataFrame:
    """Add least_s and bound: the longer of the bytes at memory's bandwidth and the FLOPs at their units' peaks."""
    if roofs is None or not parts["bytes_hbm"].any():
        return parts.assign(least_s=float("nan"), bound="")
    # Seconds; without a bandwidth 0, which bounds nothing.
    memory = parts["bytes_hbm"] / roofs.bandwidth.get("HBM", float("inf"))
    peaks = [(FLOP_COLUMNS[unit], peak) for unit, peak in roofs.peak.items()]
    # Units one after the other, as in analysis.py; `0.0 * memory` is a column of zeros to begin with.
    compute = sum((parts[column] / peak for column, peak in peaks), 0.0 * memory)
    # Bytes move while units compute: the longer of the two counts.
    least = pd.concat([memory, compute], axis=1).max(axis=1)
    bound = (memory > compute).map({True: "memory", False: "arithmetic"})
    bound = bound.mask(least < _LATENCY_BELOW * parts["time_s"], "neither memory nor arithmetic")
    # Last, and so above all: where the device mostly waits no roof explains the time.
    bound = bound.mask(parts["waiting_s"] > parts["time_s"] / 2, "the host")
    return parts.assign(least_s=least, bound=bound.where(parts["module"] != OUTSIDE, ""))


def compare(first: Run, second: Run, depth: int) -> pd.DataFrame:
    """Return both runs' seconds by module and direction and what the second takes more, the largest change first.

    Columns: module, direction, more_s, and for each run a_s, a_rate (FLOP/s), a_of_roof (0..1), a_bound; NaN and ""
    where a run has no costs.
    """
    keys = ["module", "direction"]
    sides = []
    for name, run in (("a", first), ("b", second)):
        rows = run.folded(depth).set_index(keys)
        rates = {"rate": rows["flop"] / rows["time_s"], "of_roof": rows["least_s"] / rows["time_s"]}
        columns = {"s": rows["time_s"], **rates, "bound": rows["bound"]}
        sides.append(pd.DataFrame({f"{name}_{column}": values for column, values in columns.items()}))
    # Outer: a module that one run lacks is a difference, too.
    table = sides[0].join(sides[1], how="outer")
    table = table.fillna({"a_s": 0.0, "b_s": 0.0, "a_bound": "", "b_bound": ""})
    table["more_s"] = table["b_s"] - table["a_s"]
    return table.reindex(table["more_s"].abs().sort_values(ascending=False).index).reset_index()


def _sums(parts: pd.DataFrame) -> pd.DataFrame:
    numbers = [name for name in parts.select_dtypes("number") if name != "least_s"]
    table = parts.groupby(["module", "direction"], as_index=False)[numbers].sum()
    return table.sort_values("time_s", ascending=False, ignore_index=True)
