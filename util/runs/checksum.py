"""A SHA-256 at the end of a checkpoint, where zip files keep a comment: every reader of PyTorch's files passes over it.

Inside the file and not beside it, so that one rename puts both in place. A zip file ends with a record of 22 bytes,
the last two of which are the length of a comment (PKWARE's APPNOTE, 4.3.16); the sum is that of all bytes before it.
"""

import hashlib
import os
from typing import BinaryIO

_MARK = b"sha256:"
#: Bytes of the comment: the mark, and the sum in hexadecimal.
_LENGTH = len(_MARK) + 64
#: Bytes of a zip file's last record without its comment.
_LAST_RECORD = 22
_BLOCK = 1 << 20


class SummedFile:
    """A binary file to write a zip file to, front to back, that sums up what passes. Close it with `finish`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self._held = b""  # the last two bytes so far: of the whole file, the length of the comment that is to come

    def write(self, data: bytes) -> int:
        """Write the next bytes."""
        view = memoryview(data).cast("B")
        if len(view) >= 2:
            self._sum.update(self._held)
            # Two bytes late: the last two of the file are replaced by `finish`, and their old values must not be
            # summed.
            self._sum.update(view[:-2])
            self._held = bytes(view[-2:])
        else:
            joined = self._held + bytes(view)
            self._sum.update(joined[:-2])
            self._held = joined[-2:]
        self._file.write(data)
        return len(view)

    def flush(self) -> None:
        """Hand what is written to the system."""
        self._file.flush()

    def finish(self) -> None:
        """Add the sum to a zip file that is written whole and has no comment yet."""
        assert self._held == b"\0\0", "not the end of a zip file"
        length = _LENGTH.to_bytes(2, "little")
        # The length that will stand there, so that the sum is over what a reader finds before the comment.
        self._sum.update(length)
        self._file.seek(-2, os.SEEK_END)
        self._file.write(length + _MARK + self._sum.hexdigest().encode())


def is_damaged(file: BinaryIO) -> bool:
    """Return True where a file is not what its sum says; False too for files that have none, as DETR's.

    One wrong byte is found wherever it is: the end of a file that had a sum shows it by the mark or by the length of
    the comment. The file is left at its beginning.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(-min(size, _LAST_RECORD + _LENGTH), os.SEEK_END)
    # A zip ends with a record of 22 bytes and a comment, whose length is in the record's last two bytes; the sum is the
    # comment.
    tail = file.read()
    file.seek(0)
    record = tail.rfind(b"PK\5\6")
    if record >= 0:
        length = int.from_bytes(tail[record + _LAST_RECORD - 2 : record + _LAST_RECORD], "little")
        # Cut within the comment, or its length changed.
        if len(tail) != record + _LAST_RECORD + length:
            return True
    # Neither in the place of a file with a sum, nor the mark: one of the original or of torch.save. A single wrong byte
    # leaves one of the two.
    if record != 0 and not tail[_LAST_RECORD:].startswith(_MARK):
        return False
    digest = hashlib.sha256()
    # In blocks: a checkpoint must not be in memory twice.
    left = size - _LENGTH
    while left > 0 and (block := file.read(min(_BLOCK, left))):
        digest.update(block)
        left -= len(block)
    file.seek(0)
    return tail[_LAST_RECORD:] != _MARK + digest.hexdigest().encode()
