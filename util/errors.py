"""Mistakes that a user can mend: one clear line, an exit code, no traceback.

Raise these with a message that names the file, the field or the flag and says what to do;
`main.py` prints the last line of the message to stderr and exits with `exit_code`.
"""


class UserError(Exception):
    """Something the user gave is wrong; the message says what and how to put it right."""

    exit_code = 2
    #: False when only the rank that raised it knows (an image that one worker could not read).
    on_every_rank = True

    def line(self) -> str:
        """Return the message as one line, also when a DataLoader worker wrapped it in a traceback."""
        # A worker's error arrives as text: its traceback, and `DatasetError: message` as the last line.
        last = str(self).strip().splitlines()[-1]
        name, _, rest = last.partition(": ")
        return rest if name.rpartition(".")[2] == type(self).__name__ else last


class DatasetError(UserError):
    """Annotations that are missing, not COCO, or contradict the flags."""


class ImageError(DatasetError):
    """One image that cannot be read."""

    on_every_rank = False


class CheckpointError(UserError):
    """A checkpoint that is missing, broken, or made for another model."""


class LaunchError(UserError):
    """Processes of a run that do not come together."""

    on_every_rank = False


class DownloadError(UserError):
    """Something that cannot be downloaded, or that is not what was published once it is here."""


class NonFiniteLossError(UserError):
    """The loss became NaN or infinite; nothing was saved over the last good checkpoint."""

    exit_code = 3


class MemoryFullError(UserError):
    """Memory of the GPU or the machine is used up; the message says what was under way and which flags help."""

    on_every_rank = False


class RunStopped(Exception):
    """A signal ended a run after a step; it is saved, and goes on where it was with --resume auto."""

    #: EX_TEMPFAIL of sysexits.h: to be tried again.
    exit_code = 75
