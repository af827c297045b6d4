"""Files that are either the old one or the whole new one, whenever a script is stopped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from .errors import RoofError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for binary writing that takes the place of `path` when the block ends without an error.

    The bytes go to a hidden file beside it first, for a rename is atomic only within one file system. Folders on the
    way are created. Raises RoofError where the file cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(unfinished, "wb") as file:
            yield file
        # Whoever has the old file open goes on reading the old one.
        os.replace(unfinished, path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise RoofError(f"{path}: cannot be written ({error.strerror or error})") from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
