"""Launches as a reader of Nsight Compute's files hands them on: a row each, in seconds, bytes, hertz and counts."""

from array import array
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from .numbers import NAN

#: Columns that are text; all others of `Report.launches` are metrics under the names of metrics.py.
TEXT = ("kernel", "grid", "block", "device", "compute_capability", "ranges")


@dataclass
class Report:
    """One profile: `launches` as described above, `notes` on what was odd while reading it."""

    path: Path
    launches: pd.DataFrame
    notes: list[str] = field(default_factory=list)


class LaunchBuilder:
    """Launches collected column by column: 200,000 of 15 metrics take 40 MB, in dictionaries they would take 300."""

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {}
        self._codes: dict[str, array] = {name: array("i") for name in TEXT}
        self._texts: dict[str, dict[str, int]] = {name: {} for name in TEXT}
        self._metrics: dict[str, array] = {}
        self.device_names: set[str] = set()

    def __len__(self) -> int:
        return len(self._index)

    def launch(self, key: Hashable, texts: dict[str, str]) -> int:
        """Return the number of the launch with this key; one that is new gets the texts (missing ones are empty)."""
        number = self._index.get(key)
        if number is None:
            number = self._index[key] = len(self._index)
            for name in TEXT:
                known = self._texts[name]
                self._codes[name].append(known.setdefault(texts.get(name, ""), len(known)))
        return number

    def set(self, launch: int, metric: str, value: float) -> None:
        """Note a metric of a launch. The first value stays: sections of a report repeat the same metric."""
        column = self._metrics.get(metric)
        if column is None:
            column = self._metrics[metric] = array("d")
        missing = launch - len(column)
        if missing >= 0:
            column.extend([NAN] * missing)
            column.append(value)
        elif column[launch] != column[launch]:
            column[launch] = value

    def frame(self) -> pd.DataFrame:
        """Return the launches; texts as categories, a metric that a launch lacks as NaN."""
        columns = {
            name: pd.Categorical.from_codes(np.asarray(self._codes[name]), list(self._texts[name])) for name in TEXT
        }
        if len(self.device_names) == 1:
            columns["device"] = pd.Categorical.from_codes(np.zeros(len(self), np.int8), list(self.device_names))
        for metric, values in self._metrics.items():
            values.extend([NAN] * (len(self) - len(values)))
            columns[metric] = np.frombuffer(values, dtype=np.float64)
        return pd.DataFrame(columns)
