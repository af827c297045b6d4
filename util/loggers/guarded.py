"""A dashboard that cannot stop a training: its first error is one line, and then it is left alone."""

from collections.abc import Callable, Mapping
from pathlib import Path

from .interface import Logger


class Guarded:
    """Passes everything on to a logger until that fails, as after a lost connection or on a full disk.

    Args:
        name: of the logger, for the line.
        make: makes it; may fail, too.
    """

    def __init__(self, name: str, make: Callable[[], Logger]) -> None:
        self.name = name
        self._logger: Logger | None = None
        self._try(lambda: setattr(self, "_logger", make()))

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Take numbers."""
        if (logger := self._logger) is not None:
            self._try(lambda: logger.log(values, step=step))

    def image(self, name: str, path: Path, *, step: int) -> None:
        """Take an image file."""
        if (logger := self._logger) is not None:
            self._try(lambda: logger.image(name, path, step=step))

    def close(self) -> None:
        """Write what is not written yet."""
        if (logger := self._logger) is not None:
            self._try(logger.close)
        self._logger = None

    def _try(self, act: Callable[[], object]) -> None:
        try:
            act()
        # Whatever it is: a training of days is worth more than its dashboard.
        except Exception as error:
            self._logger = None
            what = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"warning: --logger {self.name}: {what}; training goes on without it", flush=True)
