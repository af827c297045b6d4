"""Sources of a report by module: torch.profiler's traces, Nsight Systems' timelines, Nsight Compute's counters.

All become tidy rows with a module and a direction, one `Modules` for each process.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from .. import RoofError
from ..read.inputs import load_runs
from ..read.record import recorded_steps
from ..read.timelines import TIMELINES, read_timelines
from ..read.trace_modules import Modules
from ..roofs import Roofs
from ..table import tidy

#: Kinds of time in the comparison of ranks; everything else is computing.
KINDS = ("copy", "communication", "host bound", "idle", "python")


def read_sources(path: Path, steps: int | None = None) -> tuple[list[Modules], Roofs | None]:
    """Read a file, or what a folder holds: timelines if it has any, else reports and tables of kernels.

    steps: how many a report of counters holds, where no record beside it tells. Returns a result for each process, and
    the roofs that a report has itself. Raises RoofError naming what is missing.
    """
    files = _timelines(path)
    found: list[Modules] = []
    for file in files:
        found += read_timelines(file) or []
    if found:
        return found, None
    if path.is_dir() and not any([*path.glob("*.csv"), *path.glob("*.ncu-rep")]):
        raise RoofError(
            f"{path}: no trace_rank*.json.gz here; main.py --torch_profile {path} --module_ranges 4 writes it"
        )
    return _counters(path, steps)


def _timelines(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.is_file() else []
    # In the order of TIMELINES: a trace says more than a timeline of the same run.
    for pattern in (*TIMELINES, "*_cuda_gpu_trace.csv", "*_cuda_gpu_kern_sum.csv"):
        if files := sorted(path.glob(pattern)):
            return files
    return []


def _counters(path: Path, steps: int | None) -> tuple[list[Modules], Roofs | None]:
    loaded = load_runs([path])
    if len(loaded.runs) > 1:
        raise RoofError(f"{path}: it holds the runs {', '.join(loaded.runs)}: name the files of one")
    files = [path] if path.is_file() else [*path.glob("*.csv"), *path.glob("*.ncu-rep")]
    recorded = {recorded_steps(file) for file in files} - {None}
    count = steps or (recorded.pop() if len(recorded) == 1 else 0)
    notes = [f"counters of {count or 1} steps; kernels one by one, so without gaps between them"]
    if not count:
        notes.append("how many steps were profiled is not recorded beside the report: taken for one; --steps gives it")
    ranks = loaded.rows["rank"].astype(str)
    found = []
    for rank in sorted(set(ranks)):
        rows = tidy(loaded.rows[ranks == rank])
        found.append(Modules(rows, count or 1, float(rows["time_s"].sum()), notes))
    return found, loaded.roofs[loaded.runs[0]]


def compare_ranks(processes: Sequence[Modules]) -> pd.DataFrame:
    """Return a row for each process: rank, seconds of a step, and of these computing and each of KINDS."""
    rows = []
    for modules in processes:
        kinds = modules.rows["family"].astype(str)
        kinds = kinds.where(kinds.isin(KINDS), "compute")
        seconds = modules.rows.groupby(kinds.rename("kind"))["time_s"].sum() / modules.steps
        rank = str(modules.rows["rank"].iloc[0])
        rows.append({"rank": rank, "step_s": modules.seconds / modules.steps, **seconds.to_dict()})
    table = pd.DataFrame(rows).fillna(0.0)
    table = table.sort_values("rank", key=lambda ranks: ranks.str.zfill(9), ignore_index=True)
    return table[["rank", "step_s", *(kind for kind in ("compute", *KINDS) if kind in table)]]


def describe_ranks(table: pd.DataFrame) -> list[str]:
    """Return the comparison of ranks as lines of text, and a line that names the slowest in computing."""
    kinds = list(table.columns[1:])
    heads = ["rank", *("step" if kind == "step_s" else kind for kind in kinds)]
    lines = ["".join(f"{head:>15}" for head in heads) + "   (ms a step)"]
    for _, row in table.iterrows():
        lines.append(f"{row['rank']:>15}" + "".join(f"{1e3 * row[kind]:>15.3f}" for kind in kinds))
    if "compute" in table and len(table) > 1:
        slowest = table.loc[table["compute"].idxmax()]
        more = slowest["compute"] / table["compute"].mean() - 1
        lines.append(f"rank {slowest['rank']} computes longest, {more:.1%} above the mean: the others wait for it")
    return lines
