"""Record of a run in its folder, beside results: its printed lines, its commands, and its machine."""

import io
import shlex
import sys
from contextlib import AbstractContextManager, ExitStack, redirect_stdout, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..environment import environment_facts
from ..errors import RunStopped, UserError
from .atomic import atomic_file


class Record:
    """Keeps what is printed while its context lasts, and from `keep` on writes it to `console.log` in a folder.

    Until then nothing is written: a run that is refused leaves no file.
    """

    def __init__(self) -> None:
        self._file: IO[str] = io.StringIO()
        self._contexts = ExitStack()

    def __enter__(self) -> "Record":
        self._stream = sys.stdout
        # stdout alone: progress bars go to stderr, and would fill the file.
        self._contexts.enter_context(redirect_stdout(self))  # type: ignore[type-var] # all print needs
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UserError):
            self._note(f"error: {error.line()}\n")
        elif error is not None and not isinstance(error, RunStopped):
            self._note(f"{type(error).__name__}: {error}\n")
        self._contexts.close()

    def keep(self, folder: Path, *more: AbstractContextManager) -> None:
        """Write to `console.log` from now on, and before that what came so far; `cmdline.txt` and `env.txt`, too.

        A run that goes on adds to the first two. The contexts `more` end with the record.
        """
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        with (folder / "cmdline.txt").open("a") as file:
            file.write(f"{command}\n")
        with atomic_file(folder / "env.txt") as binary:
            facts = environment_facts().items()
            binary.write("".join(f"{name}: {value}\n" for name, value in facts).encode())
        assert isinstance(self._file, io.StringIO)
        so_far, self._file = self._file.getvalue(), self._contexts.enter_context((folder / "console.log").open("a"))
        self._note(f"$ {command}\n{so_far}")
        for context in more:
            self._contexts.enter_context(context)

    def write(self, text: str) -> int:
        """Print, and keep the text at once: a run that is killed leaves its lines."""
        self._note(text)
        return self._stream.write(text)

    def _note(self, text: str) -> None:
        with suppress(OSError):  # a full disk: the run is worth more than its console
            self._file.write(text)
            self._file.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
