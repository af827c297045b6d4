"""A command `python` for shell scripts whose processes are forks: nothing is imported anew, and networks are small."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.processes import run_python

#: Hands folder and words to the test, waits for the exit code, and shows what was printed.
_PYTHON = """#!/usr/bin/env bash
printf '%s\\0' "$PWD" "$@" > "{folder}/asked"
code=$(cat "{folder}/code")
cat "{folder}/out"
cat "{folder}/err" >&2
exit "$code"
"""


@contextmanager
def forked_python(folder: Path) -> Iterator[Path]:
    """Make `folder` with the command, for the front of PATH; one process at a time may call it."""
    folder.mkdir()
    command = folder / "python"
    command.write_text(_PYTHON.format(folder=folder))
    command.chmod(0o755)
    for pipe in ("asked", "code"):
        os.mkfifo(folder / pipe)
    server = threading.Thread(target=_serve, args=(folder,), daemon=True)
    server.start()
    try:
        yield folder
    finally:
        (folder / "asked").write_bytes(b"")  # nothing asked for: the server ends
        server.join(10)


def _serve(folder: Path) -> None:
    while asked := (folder / "asked").read_bytes():
        cwd, *words = asked.decode().split("\0")[:-1]
        done = run_python([sys.executable, *words], cwd=cwd)
        (folder / "out").write_text(done.stdout)
        (folder / "err").write_text(done.stderr)
        (folder / "code").write_text(str(done.returncode))
