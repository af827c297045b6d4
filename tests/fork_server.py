"""One fork server for all of pytest's processes: what it imports beforehand takes seconds, and they would do it each.

It is that of `multiprocessing`, which gives every process a server of its own. The process that starts it notes
where it listens, and the end of a pipe that keeps it alive; the others take both. Where that fails they have their own.
Python has no public way to another process's server: what is used here is private, the same in 3.11 and 3.12, and
looked for first.
"""

import atexit
import fcntl
import os
import tempfile
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

_server: Any = getattr(forkserver, "_forkserver", None)
_PRIVATE = ("_forkserver_address", "_forkserver_alive_fd", "ensure_running")


def find_server() -> None:
    """See that the next process comes from a server that is there, which another may have started."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None or not all(hasattr(_server, name) for name in _PRIVATE):
        return
    if os.path.exists(_server._forkserver_address or ""):
        return
    path = Path(tempfile.gettempdir()) / f"fork_server_{run}"
    with open(path, "a+") as note:
        fcntl.flock(note, fcntl.LOCK_EX)
        note.seek(0)
        try:
            _take(*note.read().splitlines())
        except (TypeError, OSError):  # nothing noted yet, or of a process that has ended
            _start()
            note.truncate(0)
            note.write(f"{_server._forkserver_address}\n/proc/{os.getpid()}/fd/{_server._forkserver_alive_fd}\n")
            # Its address lies in a folder that goes with this process.
            atexit.register(path.unlink, missing_ok=True)


def _take(address: str, alive: str) -> None:
    descriptor = os.open(alive, os.O_WRONLY)
    _server._forkserver_address, _server._forkserver_alive_fd = address, descriptor
    # It would wait for a child, which the server of another is not; the tracker is what it starts beside it.
    _server.ensure_running = resource_tracker.ensure_running


def _start() -> None:
    # Of one that was taken, and went with its process.
    vars(_server).pop("ensure_running", None)
    _server._forkserver_address = None
    _server.ensure_running()
