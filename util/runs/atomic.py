"""Files that are either the old one or the whole new one, whenever the machine stops."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, which does not let go of a file that is open
    fcntl = None  # type: ignore[assignment] # a module that is not there


@contextmanager
def atomic_file(
    path: str | os.PathLike, *, previous: str | os.PathLike | None = None, sync: bool = True, mark: str = ""
) -> Iterator[BinaryIO]:
    """Open a file for binary writing that takes the place of `path` when the block ends without an error.

    The bytes go to a hidden file in the same folder (a rename is atomic only within one file system), reach the
    disk, and are renamed; then the folder reaches the disk. After an error the old `path` is untouched and the
    hidden file is gone. Folders on the way are created. One writer at a time, or each with a `mark` of its own in the
    hidden file's name. Raises OSError.

    What was at `path` is kept as `previous`, in the same folder, where the file system has links. Without `sync`, for
    many small files, nothing waits for the disk: a program that is killed leaves a file whole or not there, a machine
    that stops need not.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that what a killed run left behind is overwritten by the next.
    unfinished = path.with_name(f".{path.name}{mark}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            with suppress(OSError):  # some network file systems have no locks
                _lock(file)
            yield file
            # From Python's buffer to the system; fsync then from the system to the disk.
            file.flush()
            if sync:
                os.fsync(file.fileno())
        if previous is not None:
            _keep(path, Path(previous))
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if sync:
        _sync_folder(path.parent)


def copy_file(path: Path, source: Path, *, previous: Path | None = None) -> None:
    """Make `path` a copy of the file `source`, written as `atomic_file` does. Raises OSError.

    Not a second name of one file: a script that writes into one of them would change the other.
    """
    with open(source, "rb") as original, atomic_file(path, previous=previous) as file:
        shutil.copyfileobj(original, file, 16 << 20)


def disk_error(error: Exception) -> OSError | None:
    """Return the system's error that an error while writing is about; None for one of another kind.

    torch's zip writer hides the OSError of a full disk behind a RuntimeError of its own.
    """
    cause = error.__context__ if isinstance(error, RuntimeError) else error
    return cause if isinstance(cause, OSError) else None


def remove_unfinished(folder: str | os.PathLike, *, of: str = "") -> None:
    """Remove the hidden files that killed processes left in a folder and in its folder `eval`.

    Those that a process is writing now stay. `of` is the beginning of the names of the files meant.
    """
    name = f".{escape(of)}*.unfinished" if of else ".*.unfinished"
    for path in [*Path(folder).glob(name), *Path(folder).glob(f"eval/{name}")]:
        if path.is_file() and not _is_being_written(path):
            with suppress(OSError):  # on Windows an open file cannot be removed; another process may have been faster
                path.unlink()


def _keep(path: Path, previous: Path) -> None:
    """Give the file at `path`, if there is one, the name `previous` as well, in the place of what had it."""
    link = previous.with_name(f".{previous.name}.unfinished")
    with suppress(OSError):  # no file yet, or no links: then none is kept
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
        link.unlink(missing_ok=True)  # two names of one file are left alone by a rename


def _is_being_written(path: Path) -> bool:
    """Return True where a living process holds the lock: the system takes it from a killed one."""
    try:
        with open(path, "rb") as file:
            _lock(file)
    except BlockingIOError:
        return True
    except OSError:  # gone, or a file system without locks
        return False
    return False


def _lock(file: BinaryIO) -> None:
    """Take the lock of an open file until it is closed. Raises BlockingIOError where somebody has it."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder, and writes its entries through
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
