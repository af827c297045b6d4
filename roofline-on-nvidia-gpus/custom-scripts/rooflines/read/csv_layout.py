"""The layout of one Nsight Compute CSV: the columns of kernel, metric and NVTX ranges by its header."""

import csv
import re
from dataclasses import dataclass

from .. import RoofError

_NVTX = "Domain:"  # both columns of --nvtx have it, no other one
_RANGE_FIELDS = 6  # payload type, payload, colour type, colour, message type, message follow a range's name
_SUMMARY = {"Invocations", "Minimum", "Maximum", "Average"}
_METRIC = {"Metric Name", "Metric Unit", "Metric Value"}
_FIXED = {
    "ID",
    "Process ID",
    "Process Name",
    "Host Name",
    "Kernel Name",
    "Kernel Time",
    "Context",
    "Stream",
    "Block Size",
    "Grid Size",
    "Device",
    "CC",
    "Section Name",
    "Metric Name",
    "Metric Unit",
    "Metric Value",
    "Rule Name",
    "Rule Type",
    "Rule Description",
    "Estimated Speedup Type",
    "Estimated Speedup",
}


def is_header(line: str) -> bool:
    """Say whether a line is a table's header: it may come more than once, and after any amount of other output."""
    return "Kernel Name" in line and re.match(r'\W*"?ID"?[,;\t]', line) is not None


def find_layout(header: str) -> "CsvLayout | None":
    """Return the layout that a header line describes, None for the summary tables of --print-summary."""
    # Spreadsheets save with ; or tabs; a quoted header is ncu's own, with commas.
    delimiter = max(",;\t", key=header.count) if '","' not in header else ","
    names = [name.strip().strip("\ufeff") for name in _split(header, delimiter)]
    if _SUMMARY & set(names):
        return None
    missing = {"ID", "Kernel Name"} - set(names)
    if _METRIC & set(names):  # a long table, which needs all three
        missing |= _METRIC - set(names)
    if missing:
        raise RoofError(f"the header has no column {', '.join(sorted(missing))}: was it cut or edited?")
    return CsvLayout(
        delimiter=delimiter,
        places={name: place for place, name in enumerate(names) if name in _FIXED},
        # Start/stop ranges are those of the whole process, such as backward: push/pop ranges of a thread lie in them.
        ranges=tuple(sorted((p for p, name in enumerate(names) if _NVTX in name), key=lambda p: "Push" in names[p])),
        metric_columns=tuple((p, name) for p, name in enumerate(names) if name not in _FIXED and _NVTX not in name),
        quoted=header.lstrip("\ufeff").startswith('"'),
    )


def _split(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])


@dataclass(frozen=True)
class CsvLayout:
    """Places of things in a row. `metric_columns` are those of a wide table (place, metric)."""

    delimiter: str
    places: dict[str, int]
    ranges: tuple[int, ...]
    metric_columns: tuple[tuple[int, str], ...]
    quoted: bool

    @property
    def is_long(self) -> bool:
        """True for a row per metric, False for a row per kernel."""
        return "Metric Name" in self.places

    @property
    def row_starts(self) -> str:
        """The characters a row can begin with; everything else is the program's output."""
        return '"' if self.quoted else '0123456789"' + self.delimiter

    @property
    def least_cells(self) -> int:
        """Least number of cells in a whole row; rows without a rule are shorter than the header."""
        if self.is_long:
            return self.places["Metric Value"] + 1
        return max([place for place, _ in self.metric_columns], default=0) + 1

    def split(self, line: str) -> list[str]:
        """Return a row's cells."""
        return _split(line, self.delimiter)

    def cell(self, cells: list[str], name: str) -> str:
        """Return a cell by its column's name, empty if the table or the row does not have it."""
        place = self.places.get(name)
        return cells[place] if place is not None and place < len(cells) else ""

    def process(self, cells: list[str]) -> tuple[str, str]:
        """Return the process that a row comes from."""
        return self.cell(cells, "Host Name"), self.cell(cells, "Process ID")

    def values(self, cells: list[str], units: list[str]) -> list[tuple[str, str, str]]:
        """Return value, metric and unit of a row's metrics as they are written; `units` of a wide table."""
        if self.is_long:
            value, name, unit = (self.cell(cells, f"Metric {part}") for part in ("Value", "Name", "Unit"))
            return [(value, name, unit)]
        return [
            (cells[place], name, units[place] if place < len(units) else "")
            for place, name in self.metric_columns
            if place < len(cells)
        ]

    def key(self, cells: list[str]) -> tuple[str, ...]:
        """Return the identity of a launch within one run: IDs begin anew in every process and on every host."""
        return tuple(
            self.cell(cells, name) for name in ("Host Name", "Process ID", "Device", "CC", "ID", "Kernel Name")
        )

    def texts(self, cells: list[str]) -> dict[str, str]:
        """Return the texts of a launch; `ranges` are NVTX names, outermost first, joined by " > "."""
        names = [name for place in self.ranges if place < len(cells) for name in _range_names(cells[place])]
        return {
            "kernel": self.cell(cells, "Kernel Name"),
            "grid": self.cell(cells, "Grid Size"),
            "block": self.cell(cells, "Block Size"),
            "device": self.cell(cells, "Device"),
            "compute_capability": self.cell(cells, "CC").replace(",", "."),
            "ranges": " > ".join(names),
        }

    def is_cut(self, line: str) -> bool:
        """Say whether a row ends in the middle, as the last one of a stopped run does."""
        if self.quoted and not line.endswith(("\n", '"')):
            return True
        # An odd number: a cell was opened and never closed.
        return line.count('"') % 2 == 1

    def beginning(self, line: str, metric: str, unit: str, value: str) -> tuple[str | None, int]:
        """Return the beginning that all rows of this kernel and section share, and its length; None without quotes."""
        # From the right: a kernel's name may hold the same words.
        place = line.rfind(f'"{metric}","{unit}","{value}"') if self.quoted and metric else -1
        return (line[: place + 1], place + 1) if place > 0 else (None, 0)


def _range_names(cell: str) -> list[str]:
    """Return the names in an NVTX cell, `1 "domain:forward:none:…" "domain:layer1:none:…"`, the outermost first."""
    names = []
    for text in cell.split('"')[1::2]:
        _, _, rest = text.partition(":")
        # A range's name may hold colons itself: what follows it has a fixed number of fields.
        fields = rest.split(":")
        name = ":".join(fields[:-_RANGE_FIELDS]) if len(fields) > _RANGE_FIELDS else fields[0]
        if name:
            names.append(name)
    return names
