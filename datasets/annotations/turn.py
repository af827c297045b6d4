"""Turns of processes that come upon the same large annotation file: one parses it, the others take what it keeps."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from util.dist.distributed import get_rank

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment] # a module that is not there


@contextmanager
def turn(path: Path) -> Iterator[bool]:
    """Wait for a process that is reading the same file; True where there was none, and others wait for this one.

    By a lock on the annotation file itself: it leaves no file behind and goes with its process. NFS locks no file that
    is open for reading alone: there a file in the machine's own folder for temporary files stands in for it. Where
    neither can be locked nobody waits.
    """
    with ExitStack() as held:
        for place, mode in ((path, "rb"), (_stand_in(path), "ab")):
            try:
                first = _lock(held.enter_context(open(place, mode)), path)
            except OSError:
                continue
            yield first
            return
        yield True


def _lock(file: IO[Any], path: Path) -> bool:
    """Lock a file; False after waiting for the process that has the lock. Raises OSError where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        # Where any rank of a run waits, 0 or 1 does.
        if get_rank() <= 1:
            print(f"{path}: another process is reading it; waiting for what it keeps", flush=True)
        # Shared, and let go at once: those who waited go on together.
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_SH)
            fcntl.flock(file, fcntl.LOCK_UN)
        return False


def _stand_in(path: Path) -> Path:
    """Return a file of this machine and user to lock instead of `path`."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    of_path = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=6).hexdigest()
    return Path(tempfile.gettempdir()) / f"detr-{user}-{of_path}.lock"
