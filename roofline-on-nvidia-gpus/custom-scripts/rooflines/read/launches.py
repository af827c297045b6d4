"""Launches as a reader of Nsight Compute's files hands them on: a row each, in seconds, bytes, hertz and counts."""

from array import array
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from .forms import complete
from .numbers import NAN

#: Columns that are text; all others of `Report.launches` are metrics under the names of metrics.py.
TEXT = ("kernel", "grid", "block", "device", "compute_capability", "ranges")


@dataclass
class Report:
    """One profile: `launches` as described above, `notes` on what was odd while reading it.

    part: number of the profile in its file, which may hold several. run, section: names that are not the file's.
    """

    path: Path
    launches: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    run: str = ""
    section: str = ""
    part: int = 0


def unknown_unit_notes(units: dict[str, str]) -> list[str]:
    """Return a line for each metric (with its unit) that is given in a unit that is not known."""
    return [
        f"{metric} is given in {unit!r}, a unit that is not known: it is left out" for metric, unit in units.items()
    ]


class LaunchBuilder:
    """Launches collected column by column: 200,000 of 15 metrics take 40 MB, in dictionaries they would take 300."""

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {}
        self._codes: dict[str, array] = {name: array("i") for name in TEXT}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in TEXT}
        self._metrics: dict[str, array] = {}
        self._names: dict[int, dict[int, None]] = {}  # device's number to names of devices, as codes
        self.parts = array("i")

    def __len__(self) -> int:
        return len(self._index)

    def find(self, key: Hashable) -> int | None:
        """Return the number of the launch with this key, None where there is none."""
        return self._index.get(key)

    def launch(self, key: Hashable, texts: dict[str, str], part: int = 0) -> int:
        """Return the number of the launch with this key; one that is new gets the texts (missing ones are empty)."""
        number = self._index.get(key)
        if number is None:
            number = self._index[key] = len(self._index)
            self.parts.append(part)
            for name in TEXT:
                self._codes[name].append(self._code(name, texts.get(name, "")))
        return number

    def _code(self, name: str, text: str) -> int:
        known = self._texts[name]
        return known.setdefault(text, len(known))

    def name_device(self, launch: int, name: str) -> None:
        """Note the name of the GPU that a launch ran on, in place of its number."""
        device = self._codes["device"]
        code = self._code("device", name)
        self._names.setdefault(device[launch], {})[code] = None
        device[launch] = code

    def has(self, launch: int, metric: str) -> bool:
        """Say whether a metric of a launch is known."""
        column = self._metrics.get(metric, ())
        return launch < len(column) and column[launch] == column[launch]

    def set(self, launch: int, metric: str, value: float) -> None:
        """Note a metric of a launch. The first value stays: sections of a report repeat the same metric."""
        column = self._metrics.get(metric)
        if column is None:
            column = self._metrics[metric] = array("d")
        missing = launch - len(column)
        if missing >= 0:
            # Columns begin late, where the first launches lack the metric.
            column.extend([NAN] * missing)
            column.append(value)
        # NaN is not equal to itself: only an unknown value is filled in.
        elif column[launch] != column[launch]:
            column[launch] = value

    def frame(self) -> pd.DataFrame:
        """Return the launches; texts as categories, absent metrics as NaN, sums from their other forms."""
        # A report may name the device of one launch only: the others with its number ran on it too.
        alone = {number: next(iter(names)) for number, names in self._names.items() if len(names) == 1}
        self._codes["device"] = array("i", (alone.get(code, code) for code in self._codes["device"]))
        columns: dict[str, object] = {
            name: pd.Categorical.from_codes(np.asarray(self._codes[name]), list(self._texts[name])) for name in TEXT
        }
        for metric, values in self._metrics.items():
            values.extend([NAN] * (len(self) - len(values)))
            # The array's own memory, not a copy.
            columns[metric] = np.frombuffer(values, dtype=np.float64)
        return complete(pd.DataFrame(columns))
