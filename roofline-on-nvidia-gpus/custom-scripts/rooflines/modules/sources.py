"""Sources of a report by module: torch.profiler's traces, Nsight Systems' timelines, Nsight Compute's counters.

All become tidy rows with a module and a direction, one `Modules` for each process.
"""

from pathlib import Path

from .. import RoofError
from ..read.inputs import load_runs
from ..read.record import recorded_steps
from ..read.timelines import TIMELINES, read_timelines
from ..read.trace_modules import Modules
from ..roofs import Roofs
from ..table import tidy


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
    recorded = {noted for file in files if (noted := recorded_steps(file))}
    count = steps or (recorded.pop() if len(recorded) == 1 else 0)
    notes = [f"counters of {count or 1} step{'s' * (count > 1)}; kernels one by one, so without gaps between them"]
    if not count:
        notes.append("how many steps were profiled is not recorded beside the report: taken for one; --steps gives it")
    ranks = loaded.rows["rank"].astype(str)
    found = []
    for rank in sorted(set(ranks)):
        rows = tidy(loaded.rows[ranks == rank])
        # Counters run kernels one by one: the sum of times is the time of the step, without the gaps it has in truth.
        found.append(Modules(rows, count or 1, float(rows["time_s"].sum()), notes))
    return found, loaded.roofs[loaded.runs[0]]
