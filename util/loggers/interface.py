"""The one interface of all dashboards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Logger(Protocol):
    """Takes the numbers and images of a run against the count of its steps."""

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Take numbers by their full names, `group/name`, as they are after `step` steps of the run."""

    def image(self, name: str, path: Path, *, step: int) -> None:
        """Take an image file."""

    def close(self) -> None:
        """Write what is not written yet."""
