"""Mistakes that a user can mend: one clear line, exit code 2, no traceback."""


class RoofError(Exception):
    """Something the user gave is wrong; the message names the file or the flag and says how to put it right."""

    exit_code = 2

    def line(self) -> str:
        """Return the message as one line."""
        return " ".join(str(self).split())
