"""Nsight Compute's CSVs, every shape of them since 2019: long or wide, amid a training log, in any locale and encoding.

Long (`--csv`): a row per kernel and metric. Wide (`--csv --page raw`): a row per kernel, units in the second row. With
`> file 2>&1` the program's own output stands before, between and after the rows, and each process brings a header.

A profile of 200,000 kernels has 3 million long rows of 400 characters. All rows of a kernel begin alike, so only a
kernel's first row is taken apart by the csv module; the others are compared with its beginning and split at their end.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from .. import RoofError
from .csv_layout import CsvLayout, find_layout, is_header
from .launches import LaunchBuilder, Report
from .metrics import DEVICE_NAME, column_of
from .numbers import has_decimal_comma, parse_number, unit_factor

_SAMPLE_ROWS = 4000  # looked at for the locale: 266 kernels of 15 metrics
_PROGRESS_LINES = 1 << 16


def read_ncu_csv(path: Path) -> Report:
    """Read one CSV. Raises RoofError when it holds no kernels, with the reason that the file itself gives, if any."""
    encoding = _encoding(path)
    with _open(path, encoding) as file:
        decimal_comma = has_decimal_comma(_sample_values(file))
    parser = _Parser(path, decimal_comma)
    with _open(path, encoding) as file:
        parser.read(_with_progress(file, path))
    return parser.report()


def _encoding(path: Path) -> str:
    """Return the encoding: UTF-8, with or without mark, or the UTF-16 that PowerShell's `>` writes."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if start[1::2].count(0) > len(start) // 4:
        return "utf-16-le"
    if start[::2].count(0) > len(start) // 4:
        return "utf-16-be"
    return "utf-8-sig"


def _open(path: Path, encoding: str) -> TextIO:
    # A log can hold anything; what is no UTF-8 in it must not keep the kernels from being read.
    return open(path, encoding=encoding, errors="replace")


def _with_progress(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the file's lines under a progress bar that counts bytes (only on a terminal)."""
    size = path.stat().st_size
    with tqdm(total=size, unit="B", unit_scale=True, desc=path.name, disable=None, leave=False, delay=1) as bar:
        while lines := list(islice(file, _PROGRESS_LINES)):
            yield from lines
            bar.update(file.buffer.tell() - bar.n)


def _sample_values(lines: Iterable[str]) -> Iterator[str]:
    """Yield the metric values of the first rows as they are written."""
    layout = None
    rows = 0
    for line in lines:
        if is_header(line):
            layout = find_layout(line) or layout
        elif layout is not None and line[:1] in layout.row_starts:
            cells = layout.split(line)
            yield from layout.values(cells)
            rows += 1
            if rows >= _SAMPLE_ROWS:
                return


class _Parser:
    """Reads lines into a LaunchBuilder, remembering what was odd."""

    def __init__(self, path: Path, decimal_comma: bool) -> None:
        self.path = path
        self.decimal_comma = decimal_comma
        self.builder = LaunchBuilder()
        self.layout: CsvLayout | None = None
        self.units: list[float] | None = None  # of a wide table, from its second row
        self.columns: list[tuple[int, str]] = []
        self.broken_rows = 0
        self.last_row_cut = False
        self.complaint = ""
        self.factors: dict[str, float] = {}
        self.names: dict[str, str | None] = {}

    def read(self, lines: Iterable[str]) -> None:
        """Read all lines: rows that begin like the one before take the short way."""
        start, cut, launch = None, 0, -1
        names, factors, builder, comma = self.names, self.factors, self.builder, self.decimal_comma
        line = "\n"
        for line in lines:
            if start is not None and line.startswith(start):
                cells = line[cut:].split('","')
                if len(cells) == 3 and cells[1] in factors and cells[0] in names and line[-1] == "\n":
                    name = names[cells[0]]
                    if name is not None:
                        value = parse_number(cells[2].rstrip('\r\n",'), decimal_comma=comma)
                        builder.set(launch, name, value * factors[cells[1]])
                    continue
            start, cut, launch = self._slow(line)
        if self.layout is not None and line[-1:] != "\n" and line[:1] == '"' and self.layout.is_cut(line):
            self.last_row_cut = True
            self.broken_rows -= 1

    def _slow(self, line: str) -> tuple[str | None, int, int]:
        """Read a line of any kind; for a long row, return its beginning, that beginning's length, and its launch."""
        if is_header(line):
            self._take_header(line)
        elif self.layout is None or line[:1] not in self.layout.row_starts:
            if line.startswith(("==ERROR==", "==WARNING==")):
                self.complaint = line.partition("== ")[2].strip()
        elif self.layout.is_cut(line):
            self.broken_rows += 1
        else:
            return self._take_row(line, self.layout)
        return None, 0, -1

    def _take_header(self, line: str) -> None:
        layout = find_layout(line)
        if layout is None:
            raise RoofError(
                f"{self.path}: a summary (--print-summary), which has no single kernels; "
                "run ncu again without that flag"
            )
        self.layout, self.units = layout, None
        self.columns = [(place, name) for place, metric in layout.metric_columns if (name := column_of(metric))]

    def _take_row(self, line: str, layout: CsvLayout) -> tuple[str | None, int, int]:
        cells = layout.split(line)
        if not layout.is_long and not layout.cell(cells, "ID"):
            self.units = [unit_factor(cell) for cell in cells]
            return None, 0, -1
        if not layout.cell(cells, "ID").strip().isdigit() or len(cells) < layout.least_cells:
            self.broken_rows += 1
            return None, 0, -1
        launch = self.builder.launch(layout.key(cells), layout.texts(cells))
        if not layout.is_long:
            self._take_wide(cells, launch)
            return None, 0, -1
        metric, unit, value = (layout.cell(cells, name) for name in ("Metric Name", "Metric Unit", "Metric Value"))
        if metric:  # a row of a rule has none
            self._take_metric(launch, metric, unit, value)
        return *layout.beginning(line, metric, unit, value), launch

    def _take_metric(self, launch: int, metric: str, unit: str, value: str) -> None:
        name = self.names.setdefault(metric, column_of(metric))
        factor = self.factors.setdefault(unit, unit_factor(unit))
        if name == DEVICE_NAME:
            self.builder.device_names.add(value)
        elif name is not None:
            self.builder.set(launch, name, factor * parse_number(value, decimal_comma=self.decimal_comma))

    def _take_wide(self, cells: list[str], launch: int) -> None:
        for place, name in self.columns:
            if place >= len(cells):
                continue
            if name == DEVICE_NAME:
                self.builder.device_names.add(cells[place])
                continue
            factor = self.units[place] if self.units and place < len(self.units) else 1.0
            self.builder.set(launch, name, factor * parse_number(cells[place], decimal_comma=self.decimal_comma))

    def report(self) -> Report:
        """Return what was read. Raises RoofError when that is nothing."""
        if not len(self.builder):
            raise RoofError(f"{self.path}: {self._why_empty()}")
        notes = []
        if self.last_row_cut:
            notes.append("the last row is cut off: was the run stopped?")
        if self.broken_rows:
            notes.append(f"{self.broken_rows} rows could not be read and are left out")
        if self.decimal_comma:
            notes.append("numbers are read with a decimal comma; LC_ALL=C avoids the guess")
        return Report(self.path, self.builder.frame(), notes)

    def _why_empty(self) -> str:
        if "ERR_NVGPUCTRPERM" in self.complaint:
            return "no kernels: reading GPU counters is not permitted on that machine (ERR_NVGPUCTRPERM)"
        if self.complaint:
            return f"no kernels; Nsight Compute says: {self.complaint}"
        if self.layout is not None:
            return "a header of Nsight Compute, but no kernels below it; did the capture window open?"
        return 'not a CSV of Nsight Compute: no header with "ID" and "Kernel Name" in it'
