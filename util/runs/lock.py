"""One run at a time in a folder: a lock that the system takes from a process that dies."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment] # a module that is not there

#: Locked files of this process, which the processes that it forks close: a loader's worker outlives a killed run by
#: seconds, and would hold its lock.
_HELD: set[IO[str]] = set()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: [file.close() for file in _HELD])


@contextmanager
def hold_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Create a folder if need be and let no other run write there while the context lasts.

    Raises UserError where another run holds it, or it cannot be written. Where the file system has no locks, nothing is
    held.
    """
    path = Path(folder) / ".lock"
    file = _lock(path)
    _HELD.add(file)
    try:
        yield
    finally:
        _HELD.discard(file)
        with suppress(OSError):
            path.unlink()  # before the lock is let go: whoever opens it from now on makes a new file
        file.close()


def _lock(path: Path) -> IO[str]:
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not "w": that would empty the file of the run that holds it, before the lock says so.
            file = path.open("a+")
        except OSError as error:
            raise UserError(f"--output_dir {path.parent}: cannot be written ({error.strerror or error})") from None
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UserError(
                f"--output_dir {path.parent}: in use by another run ({holder}); give another folder, or wait"
            ) from None
        except OSError:  # no locks on this file system
            pass
        # A run that has just ended may have removed the file between our opening and locking it.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            return file
        file.close()
