"""From files and folders to one tidy table and the roofs of every run; a broken file is named and the others go on."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from .. import RoofError
from ..checks import check_report, check_rows
from ..gpus import describe_gpu, find_gpus, guess_gpu
from ..roofs import Roofs, read_roofs, report_roofs, table_roofs
from ..table import is_table, read_table, refuse
from .counters import tabulate
from .csv import read_ncu_csvs
from .csv_layout import is_header
from .launches import Report
from .runs import fill_capability, settle
from .timelines import COSTS_NAME, TIMELINES, all_rows, is_trace, nsys_summary, read_timelines, superseded

_TABLE_NAME, _ROOFS_SUFFIX, _REPORT = "kernels.csv", ".roofs.toml", ".ncu-rep"


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


@dataclass
class _Table:
    """Tidy rows with the report or the tidy table's file that they come from."""

    rows: pd.DataFrame
    source: Report | Path


@dataclass
class _Timeline:
    """The tidy rows of a timeline, and what was odd about it."""

    rows: pd.DataFrame
    notes: list[str]


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Return the files to read: files as given, of a folder its *.csv and *.ncu-rep, by default output*.csv here.

    A table that an earlier call wrote into the folder is left out. Raises RoofError for a path that is not there.
    """
    paths = list(paths)
    if not paths:
        # The name that collect.py gives its files.
        files = sorted(Path().glob("output*.csv"))
        if not files:
            raise RoofError("no output*.csv here: name files or folders, e.g. postprocess.py runs/profile")
        return files
    files = []
    for path in paths:
        if path.is_dir():
            traces = [file for kind in TIMELINES for file in path.glob(kind)]
            # The table is this program's own output, and beside a trace the costs belong to it.
            left_out = {_TABLE_NAME, COSTS_NAME if traces else ""}
            kinds = ("*.csv", f"*{_REPORT}")
            found = sorted({*(f for kind in kinds for f in path.glob(kind) if f.name not in left_out), *traces})
            used = superseded(found)
            found = [file for file in found if file not in used and not file.name.endswith(".memory.csv")]
            if not found:
                raise RoofError(f"{path}: no *.csv, *.ncu-rep, *.sqlite and no trace_rank*.json.gz in this folder")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise RoofError(f"{path}: no such file or folder")
    # A file named twice, or by its folder as well, would count every kernel twice.
    return list(dict.fromkeys(files))


def load_runs(
    paths: Iterable[Path], *, roofs_file: Path | None = None, gpu: str | None = None, per_launch: bool = False
) -> Loaded:
    """Read all files. Raises RoofError when none of them can be read, or for a bad roofs file or GPU name."""
    gpus = find_gpus(gpu) if gpu else []
    row = gpus[0] if gpus else None
    tables, warnings = _read_all(find_files(paths), row, per_launch)
    if len(gpus) > 1:
        names = ", ".join(found["name"] for found in gpus)
        warnings.append(f"--gpu {gpu} fits {names}: the first is drawn, a full name chooses another")
    rows = pd.concat(
        # Categories of two tables differ, and concatenating those gives plain objects in some versions, an error in
        # others: all to objects, and back below.
        [table.rows.astype({name: object for name in table.rows.select_dtypes("category")}) for table in tables],
        ignore_index=True,
    )
    rows = rows.astype({name: "category" for name in tables[0].rows.select_dtypes("category")})
    loaded = Loaded(rows, {}, warnings)
    said: dict[str, list[str]] = {}
    for run in loaded.runs:
        mine = rows[rows["run"] == run]
        # A run may lie in several files, one a section.
        sources = [table.source for table in tables if run in set(table.rows["run"])]
        loaded.roofs[run], notes = _roofs(mine, sources, roofs_file, row)
        for note in notes + check_rows(mine, loaded.roofs[run]):
            # What is said of all runs is one line, not one a run.
            said.setdefault(note, []).append(run)
    loaded.warnings += [f"{', '.join(runs)}: {note}" for note, runs in said.items()]
    return loaded


def _read_all(files: list[Path], gpu: dict | None, per_launch: bool) -> tuple[list[_Table], list[str]]:
    """Read every file that can be read; return the tables and a line on each thing that was odd."""
    reports: list[Report] = []
    tables: list[_Table] = []
    errors, notes = [], []
    exports = _exports(files)
    for path in files:
        # Read with its report below, or in its place.
        if path in exports.values():
            continue
        try:
            found = _read(path)
            if path in exports:
                notes.append(f"{path} is the report that {exports[path].name} was exported from: the report is used")
        except (RoofError, OSError) as error:
            errors.append(_reason(path, error))
            if path not in exports:
                continue
            found = _read(exports[path])
        if isinstance(found, _Timeline):
            notes += [f"{path.name}: {note}" for note in found.notes]
            found = found.rows
        if isinstance(found, pd.DataFrame):
            rows, refused = refuse(found)
            notes += [f"{path.name}: {note}" for note in refused]
            tables.append(_Table(rows, path))
        else:
            reports += found
    # Over all files: a profile exported twice counts once, and two that counted other metrics of one run are joined.
    reports, settled = settle(reports)
    for report in reports:
        fill_capability(report, gpu)
        rows = tabulate(report, per_launch=per_launch)
        notes += [f"{report.path.name}: {note}" for note in report.notes + check_report(report, rows)]
        tables.append(_Table(rows, report))
    tables = [table for table in tables if len(table.rows)]
    if not tables:
        # Nothing is left to draw: now every reason is an error.
        raise RoofError("; ".join(errors + notes) or "no kernels")
    return tables, [f"left out: {error}" for error in errors] + settled + notes


def _exports(files: list[Path]) -> dict[Path, Path]:
    """Return each report's export to CSV: a file of the same name beside it."""
    given = set(files)
    return {
        path: path.with_suffix(".csv") for path in files if path.suffix == _REPORT and path.with_suffix(".csv") in given
    }


def _reason(path: Path, error: RoofError | OSError) -> str:
    return error.line() if isinstance(error, RoofError) else f"{path}: {error.strerror}"


def _read(path: Path) -> "pd.DataFrame | _Timeline | list[Report]":
    """Return a table's or a timeline's rows, or the profiles in Nsight Compute's file, known by what is in it."""
    if path.suffix == ".parquet":
        return read_table(path)
    if (timeline := read_timelines(path)) is not None:
        return _Timeline(all_rows(timeline), [note for modules in timeline for note in modules.notes])
    start = _first_lines(path)
    if is_table(start[0]):
        return read_table(path)
    if (kind := _foreign(path, start)) is not None:
        raise RoofError(f"{path}: {kind}")
    if path.suffix == _REPORT and not any(map(is_header, start)):
        from .rep import read_ncu_rep

        return [read_ncu_rep(path)]
    return read_ncu_csvs(path)


def _first_lines(path: Path) -> list[str]:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return [file.readline(4096) for _ in range(3)]


def _foreign(path: Path, start: list[str]) -> str | None:
    """Return what a file is that is none of Nsight Compute's, as far as its first lines or its ending tell."""
    if not any(start):
        return "an empty file: was the run stopped?"
    if path.suffix in (".nsys-rep", ".qdrep"):
        return (
            f"a timeline of Nsight Systems in its own format: nsys export --type sqlite {path.name} makes it readable"
        )
    if start[0].startswith("SQLite format"):
        return "an SQLite file that is only named like a report"
    if start[0].lstrip().startswith(("<", "{")) and path.suffix == _REPORT:
        return "a text file that is only named like a report"
    return nsys_summary(start)


def _roofs(
    rows: pd.DataFrame, sources: list[Report | Path], roofs_file: Path | None, gpu: dict | None
) -> tuple[Roofs, list[str]]:
    """Return a run's roofs, and notes where they are guessed, replaced, contradicted or missing.

    A file the user names counts alone. Else the report's own peaks, completed from gpus.toml; a tidy table brings the
    file `<name>.roofs.toml` that was written with it, unless a GPU is named.
    """
    timed = rows[rows["clock_hz"].notna() & (rows["time_s"] > 0)]
    # Mean clock by time: what the roofs are scaled to.
    clock = float((timed["clock_hz"] * timed["time_s"]).sum() / timed["time_s"].sum()) if len(timed) else None
    if roofs_file is not None:
        return read_roofs(roofs_file, clock), []
    roofs, notes = Roofs(str(rows["device"].iloc[0])), _contradictions(rows, gpu)
    for source in sources:
        if isinstance(source, Report):
            # The peaks in the report are those of the GPU that was measured, at the clock it had.
            roofs = roofs.merged(report_roofs(source.launches, roofs.device))
        elif (beside := _roofs_beside(source)).is_file():
            if gpu is not None:
                notes.append(f"--gpu {gpu['name']} takes the place of the roofs in {beside.name}")
            else:
                roofs = roofs.merged(read_roofs(beside))
    if roofs.bandwidth and roofs.peak:
        if gpu is not None:
            notes.append(f"--gpu {gpu['name']} only completes the peaks that the report states itself")
            roofs = roofs.merged(table_roofs(gpu, clock))
        return roofs, notes
    if gpu is None:
        # Of kernels of at least 20 us: shorter ones have rates that are mostly rounding.
        rate = float((rows["bytes_hbm"] / rows["time_s"]).where(rows["time_s"] > 2e-5).max())
        capability = str(rows["compute_capability"].iloc[0])
        gpu, note = guess_gpu(str(rows["device"].iloc[0]), capability, 0.0 if rate != rate else rate)
        if gpu is None:
            return roofs, [*notes, f"{note}: give --roofs FILE, made by hand or by ceilings.py"]
        notes += [note] if note else []
    return roofs.merged(table_roofs(gpu, clock)), notes


def _roofs_beside(table: Path) -> Path:
    """Return where the roofs of a table may be; those of a trace were measured when its costs were counted."""
    name = COSTS_NAME if is_trace(table) or table.suffix == ".sqlite" else table.name
    return table.with_name(name.partition(".")[0] + _ROOFS_SUFFIX)


def _contradictions(rows: pd.DataFrame, gpu: dict | None) -> list[str]:
    """Return a note where the GPU that the user names is not the one that the report names."""
    if gpu is None:
        return []
    named = describe_gpu(rows)
    capabilities = set(map(str, rows["compute_capability"])) - {""}
    if capabilities and gpu["compute_capability"] not in capabilities:
        return [
            f"--gpu {gpu['name']} has compute capability {gpu['compute_capability']}, "
            f"but the data is of {named}: its roofs do not fit"
        ]
    return []
