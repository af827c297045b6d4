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

import numpy as np
from tqdm import tqdm

from .. import RoofError
from .csv_layout import CsvLayout, find_layout, is_header
from .launches import LaunchBuilder, Report, unknown_unit_notes
from .messages import explain
from .metrics import DEVICE_NAME, column_of, dimension_of, factor_of
from .numbers import fits, has_decimal_comma, parse_number, parse_unit
from .parts import Parts

_SAMPLE_ROWS = 4000  # looked at for the locale: 266 kernels of 15 metrics
_PROGRESS_LINES = 1 << 16


def read_ncu_csv(path: Path) -> Report:
    """Read a CSV of one run. Raises RoofError when it holds no kernels, with the reason that the file itself gives."""
    return read_ncu_csvs(path)[0]


def read_ncu_csvs(path: Path) -> list[Report]:
    """Read a CSV that may hold several runs, appended to one another. Raises RoofError when it holds no kernels."""
    encoding = _encoding(path)
    with _open(path, encoding) as file:
        # A first pass over some rows: "1,234" alone does not say whether its comma is a decimal one.
        decimal_comma = has_decimal_comma(_sample_values(file, path))
    parser = _Parser(path, decimal_comma)
    with _open(path, encoding) as file:
        parser.read(_with_progress(file, path))
    return parser.reports()


def _encoding(path: Path) -> str:
    """Return the encoding: UTF-8, with or without mark, or the UTF-16 that PowerShell's `>` writes."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    # Without a mark: every second byte of ASCII in UTF-16 is 0.
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
            # The text file's own tell() is not allowed while it is iterated.
            bar.update(file.buffer.tell() - bar.n)


def _layout_of(header: str, path: Path) -> CsvLayout | None:
    try:
        return find_layout(header)
    except RoofError as error:
        raise RoofError(f"{path}: {error}") from None


def _sample_values(lines: Iterable[str], path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield value, metric and unit of the first rows as they are written."""
    layout = None
    units: list[str] = []
    rows = 0
    for line in lines:
        if is_header(line):
            layout, units = _layout_of(line, path) or layout, []
        elif layout is not None and line[:1] in layout.row_starts:
            cells = layout.split(line)
            if not layout.is_long and not layout.cell(cells, "ID"):
                units = cells
                continue
            yield from layout.values(cells, units)
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
        self.columns: list[tuple[int, str, float]] = []  # of a wide table: place, column, factor
        self.parts = Parts()
        self.broken_rows = 0
        self.last_row_cut = False
        self.complaints: list[str] = []
        self.has_messages = False
        self.unknown_units: dict[str, str] = {}
        #: What becomes of a metric in a unit: its column and factor, None where a roofline does not need it.
        self.meanings: dict[tuple[str, str], tuple[str, float] | None] = {}

    def read(self, lines: Iterable[str]) -> None:
        """Read all lines: rows that begin like the one before take the short way."""
        start, cut, launch = None, 0, -1
        meanings, builder, comma = self.meanings, self.builder, self.decimal_comma
        line = "\n"
        for line in lines:
            # A long table repeats the cells of the launch in every row: only the last three are parsed again.
            if start is not None and line.startswith(start):
                cells = line[cut:].split('","')
                # Metric, unit and value: the unit decides too, for one label can name two quantities.
                if len(cells) == 3 and (cells[0], cells[1]) in meanings and line[-1] == "\n":
                    meaning = meanings[cells[0], cells[1]]
                    if meaning is None:
                        continue
                    if meaning[0] != DEVICE_NAME:
                        # The value is the last cell, with the quote and the line's end still on it.
                        value = parse_number(cells[2].rstrip('\r\n",'), decimal_comma=comma)
                        builder.set(launch, meaning[0], value * meaning[1])
                        continue
            start, cut, launch = self._slow(line)
        if self.layout is not None and line[-1:] != "\n" and line[:1] == '"' and self.layout.is_cut(line):
            # The row was counted as broken above; it has a note of its own, and counts once.
            self.last_row_cut = True
            self.broken_rows -= 1

    def _slow(self, line: str) -> tuple[str | None, int, int]:
        """Read a line of any kind; for a long row, return its beginning, that beginning's length, and its launch."""
        if is_header(line):
            self._take_header(line)
        elif self.layout is None or line[:1] not in self.layout.row_starts:
            if line.startswith(("==ERROR==", "==WARNING==")):
                self.complaints.append(line.strip())
            self.has_messages |= line.startswith("==PROF==")
        elif self.layout.is_cut(line):
            self.broken_rows += 1
        else:
            return self._take_row(line, self.layout)
        return None, 0, -1

    def _take_header(self, line: str) -> None:
        layout = _layout_of(line, self.path)
        if layout is None:
            raise RoofError(
                f"{self.path}: a summary (--print-summary), which has no single kernels; "
                "run ncu again without that flag"
            )
        self.layout = layout
        self.parts.headers += 1
        self._take_units([])

    def _take_units(self, units: list[str]) -> None:
        """Take the second row of a wide table, or none, for the units of its columns."""
        assert self.layout is not None
        self.columns = []
        for place, metric in self.layout.metric_columns:
            meaning = self._meaning(metric, units[place] if place < len(units) else "")
            if meaning is not None:
                self.columns.append((place, *meaning))

    def _take_row(self, line: str, layout: CsvLayout) -> tuple[str | None, int, int]:
        cells = layout.split(line)
        number = layout.cell(cells, "ID").strip()
        if not layout.is_long and not number:
            self._take_units(cells)
            return None, 0, -1
        # Longer ones are no counts of launches, and of thousands of digits Python makes no number.
        if not number.isdecimal() or len(number) > 18 or len(cells) < layout.least_cells:
            self.broken_rows += 1
            return None, 0, -1
        if not layout.is_long:
            self._take_wide(cells, self._launch(layout, cells, int(number), None))
            return None, 0, -1
        metric, unit, value = (layout.cell(cells, name) for name in ("Metric Name", "Metric Unit", "Metric Value"))
        if not metric:  # a row of a rule
            return None, 0, -1
        meaning = self._meaning(metric, unit)
        launch = self._launch(layout, cells, int(number), meaning and meaning[0])
        if meaning is not None:
            self._take_value(launch, *meaning, value)
        return *layout.beginning(line, metric, unit, value), launch

    def _launch(self, layout: CsvLayout, cells: list[str], number: int, metric: str | None) -> int:
        """Return the launch of a row; metric: what the row counts, None for all of a wide table's."""
        process, key = layout.process(cells), layout.key(cells)
        known = self.builder.find((self.parts.stretch(process), *key))
        # The same metric of the same launch again: IDs have begun anew (see `Parts`).
        again = known is not None and (not layout.is_long or metric is not None and self.builder.has(known, metric))
        stretch = self.parts.note(process, number, again=again)
        return self.builder.launch((stretch, *key), layout.texts(cells), stretch)

    def _meaning(self, metric: str, unit: str) -> tuple[str, float] | None:
        """Return a metric's column and the factor of its values, None where a roofline has no use for it."""
        if (metric, unit) not in self.meanings:
            self.meanings[metric, unit] = self._find_meaning(metric, unit)
        return self.meanings[metric, unit]

    def _find_meaning(self, metric: str, unit: str) -> tuple[str, float] | None:
        column = column_of(metric)
        if column is None:
            return None
        factor, dimension = parse_unit(unit)
        if dimension is None:
            self.unknown_units[metric] = unit
        if not fits(dimension, dimension_of(column)):
            return None
        return column, factor * factor_of(metric)

    def _take_value(self, launch: int, column: str, factor: float, value: str) -> None:
        if column == DEVICE_NAME:
            self.builder.name_device(launch, value)
        else:
            self.builder.set(launch, column, factor * parse_number(value, decimal_comma=self.decimal_comma))

    def _take_wide(self, cells: list[str], launch: int) -> None:
        for place, column, factor in self.columns:
            if place < len(cells):
                self._take_value(launch, column, factor, cells[place])

    def reports(self) -> list[Report]:
        """Return the profiles that were read, one after the other. Raises RoofError when there is none."""
        if not len(self.builder):
            raise RoofError(f"{self.path}: {self._why_empty()}")
        launches, notes = self.builder.frame(), self._notes()
        # (launches,): the run of each launch, by its stretch.
        runs = np.array(self.parts.runs())[np.asarray(self.builder.parts)]
        if runs.max() == 0:
            return [Report(self.path, launches, notes)]
        found = [launches[runs == run].reset_index(drop=True) for run in range(runs.max() + 1)]
        return [
            Report(self.path, part.dropna(axis=1, how="all"), notes if number == 0 else [], part=number)
            for number, part in enumerate(found)
        ]

    def _notes(self) -> list[str]:
        notes = []
        if self.last_row_cut:
            notes.append("the last row is cut off: was the run stopped?")
        if self.broken_rows:
            notes.append(f"{self.broken_rows} rows could not be read and are left out")
        if self.decimal_comma:
            notes.append("numbers are read with a decimal comma; LC_ALL=C avoids the guess")
        return notes + unknown_unit_notes(self.unknown_units)

    def _why_empty(self) -> str:
        if self.complaints:
            said = "\n".join(self.complaints)
            errors = [line for line in self.complaints if line.startswith("==ERROR==")]
            telling = next((line for line in self.complaints if explain(line)), (errors or self.complaints)[0])
            if "ERR_NVGPUCTRPERM" in said:  # the cause, whatever else followed from it
                return f"no kernels: reading GPU counters is not permitted on that machine: {explain(said)}"
            advice = explain(telling) if telling not in errors else ""
            return f"no kernels; Nsight Compute says: {telling.partition('== ')[2]}" + (
                f" ({advice})" if advice else ""
            )
        if self.layout is not None:
            return "a header of Nsight Compute, but no kernels below it; did the capture window open?"
        if self.has_messages:
            return (
                "messages of Nsight Compute, but no table: the run was stopped, no kernel ran in the window, or the "
                "kernels are in a report (-o), which ncu --import REPORT --csv --page raw exports"
            )
        return 'not a CSV of Nsight Compute: no header with "ID" and "Kernel Name" in it'
