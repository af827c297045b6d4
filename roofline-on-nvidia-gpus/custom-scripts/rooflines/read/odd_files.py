"""Files that hold what their program does not write: one line, whichever field a reader stumbles over."""

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import RoofError

_ERRORS = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, csv.Error)


@contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Raise RoofError, which names the file, for an error of Python's while its fields are read."""
    try:
        yield
    except _ERRORS as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:80]
        raise RoofError(f"{path}: a field that its program does not write so ({what})") from error
