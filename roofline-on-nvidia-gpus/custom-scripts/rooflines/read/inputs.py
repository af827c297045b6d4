"""From files and folders to one tidy table and the roofs of every run; a broken file is named and the others go on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from .. import RoofError
from ..checks import check_report, check_rows
from ..roofs import Roofs, find_gpu, guess_gpu, read_roofs, report_roofs, table_roofs
from ..table import is_table, read_table
from .counters import tabulate
from .csv import read_ncu_csv
from .launches import Report

_TABLE_NAME, _ROOFS_SUFFIX = "kernels.csv", ".roofs.toml"


@dataclass
class Loaded:
    """All rows, the roofs by run, and what was odd, each line naming its file or run."""

    rows: pd.DataFrame
    roofs: dict[str, Roofs]
    warnings: list[str] = field(default_factory=list)

    @property
    def runs(self) -> list[str]:
        """The runs in the order of their files."""
        return list(dict.fromkeys(map(str, self.rows["run"])))


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files to read: files as given, of a folder its *.csv and *.ncu-rep, by default output*.csv here.

    A table that an earlier call wrote into the folder is left out. Raises RoofError for a path that is not there.
    """
    paths = list(paths)
    if not paths:
        files = sorted(Path().glob("output*.csv"))
        if not files:
            raise RoofError("no output*.csv here: name files or folders, e.g. postprocess.py runs/profile")
        return files
    files = []
    for path in paths:
        if path.is_dir():
            found = sorted(
                file for kind in ("*.csv", "*.ncu-rep") for file in path.glob(kind) if file.name != _TABLE_NAME
            )
            if not found:
                raise RoofError(f"{path}: no *.csv and no *.ncu-rep in this folder")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise RoofError(f"{path}: no such file or folder")
    return list(dict.fromkeys(files))


def load_runs(
    paths: Iterable[Path], *, roofs_file: Path | None = None, gpu: str | None = None, per_launch: bool = False
) -> Loaded:
    """Read all files. Raises RoofError when none of them can be read, or for a bad roofs file or GPU name."""
    gpu_row = find_gpu(gpu) if gpu else None
    tables, reports, warnings, errors = [], [], [], []
    for path in find_files(paths):
        try:
            table, report = _load(path, per_launch)
        except (RoofError, OSError) as error:
            errors.append(error.line() if isinstance(error, RoofError) else f"{path}: {error.strerror}")
            continue
        tables.append(table)
        reports.append(report)
        if isinstance(report, Report):
            warnings += [f"{path.name}: {note}" for note in report.notes + check_report(report, table)]
    if not tables:
        raise RoofError("; ".join(errors))
    rows = pd.concat(
        [table.astype({name: object for name in table.select_dtypes("category")}) for table in tables],
        ignore_index=True,
    )
    rows = rows.astype({name: "category" for name in tables[0].select_dtypes("category")})
    loaded = Loaded(rows, {}, [f"left out: {error}" for error in errors] + warnings)
    said: dict[str, list[str]] = {}
    for run in loaded.runs:
        mine = rows[rows["run"] == run]
        sources = [report for table, report in zip(tables, reports) if run in set(table["run"])]
        loaded.roofs[run], notes = _roofs(mine, sources, roofs_file, gpu_row)
        for note in notes + check_rows(mine, loaded.roofs[run]):
            said.setdefault(note, []).append(run)
    loaded.warnings += [f"{', '.join(runs)}: {note}" for note, runs in said.items()]
    return loaded


def _load(path: Path, per_launch: bool) -> tuple[pd.DataFrame, Report | Path]:
    """Return a file's tidy rows, with its report (for Nsight Compute's files) or its own path (for tidy tables)."""
    if path.suffix == ".ncu-rep":
        from .rep import read_ncu_rep

        report = read_ncu_rep(path)
        return tabulate(report, per_launch=per_launch), report
    if path.suffix == ".parquet" or _first_line_is_table(path):
        return read_table(path), path
    report = read_ncu_csv(path)
    return tabulate(report, per_launch=per_launch), report


def _first_line_is_table(path: Path) -> bool:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return is_table(file.readline(4096))


def _roofs(
    rows: pd.DataFrame, sources: list[Report | Path], roofs_file: Path | None, gpu_row: dict | None
) -> tuple[Roofs, list[str]]:
    """Return a run's roofs, and a note when they are guessed or missing.

    A file the user names counts alone. Else the report's own peaks, completed from gpus.toml; a tidy table brings the
    file `<name>.roofs.toml` that was written with it.
    """
    timed = rows[rows["clock_hz"].notna() & (rows["time_s"] > 0)]
    clock = float((timed["clock_hz"] * timed["time_s"]).sum() / timed["time_s"].sum()) if len(timed) else None
    if roofs_file is not None:
        return read_roofs(roofs_file, clock), []
    roofs = Roofs(str(rows["device"].iloc[0]))
    for source in sources:
        if isinstance(source, Report):
            roofs = roofs.merged(report_roofs(source.launches, roofs.device))
        elif (beside := source.with_name(source.name.partition(".")[0] + _ROOFS_SUFFIX)).is_file():
            roofs = roofs.merged(read_roofs(beside))
    if roofs.bandwidth and roofs.peak:
        return roofs, []
    note = ""
    if gpu_row is None:
        rate = float((rows["bytes_hbm"] / rows["time_s"]).where(rows["time_s"] > 2e-5).max())
        gpu_row, note = guess_gpu(roofs.device, str(rows["compute_capability"].iloc[0]), 0.0 if rate != rate else rate)
    if gpu_row is None:
        return roofs, [f"{note}: give --roofs FILE, made by hand or by ceilings.py"]
    return roofs.merged(table_roofs(gpu_row, clock)), [note] if note else []
