"""Unpacking of archives that may be harmful: every entry is judged before the first one is written."""

import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from ..errors import DownloadError
from .fetch import need_space
from .progress import ByteProgress, in_units

#: Unpacked bytes for each packed one above which an archive is refused. Annotations, all digits, reach 4; zeros 1000.
MAX_RATIO = 20
MAX_ENTRIES = 1_000_000
# What the readers raise on broken bytes; OSError covers BadGzipFile, a full disk and impossible names.
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    NotImplementedError,
)


@dataclass(frozen=True)
class ArchiveEntry:
    """An entry of an archive: its name, its unpacked size, and the reason to refuse it, None if it is sound."""

    name: str
    size: int
    refusal: str | None


class _Reader(Protocol):
    """An open archive."""

    def entries(self) -> Iterator[ArchiveEntry]:
        """Every entry, in the archive's order."""

    def extract(self, name: str, folder: Path) -> None:
        """Write one entry below the folder."""


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip or tar file into `folder`, which is new and this function's own.

    Before anything is written, every entry is checked: no absolute names, no `..`, no links, no device files, at most
    `MAX_RATIO` times the archive's size, and room on the disk. What macOS adds (`__MACOSX`, `._*`) is left
    out. Checksums inside a zip are verified on the way. Raises DownloadError; the folder may then hold a part.
    """
    try:
        with _open(archive) as reader:
            # The whole list before the first byte is written: a bad entry at the end must not leave half an archive
            # behind.
            entries = list(_checked(reader.entries(), limit=MAX_RATIO * archive.stat().st_size))
            total = sum(entry.size for entry in entries)
            need_space(folder, total, purpose=f"unpacking {archive.name}")
            _extract(reader, entries, folder, ByteProgress(f"unpacking {archive.name}", total=total))
    except _BROKEN as error:
        raise DownloadError(
            f"{archive}: cannot be unpacked ({' '.join(str(error).split()) or 'it ends early'})"
        ) from error
    except _RefusedError as refused:
        raise DownloadError(f"{archive}: refused, nothing was unpacked: {refused}") from None


class _RefusedError(Exception):
    pass


def _checked(entries: Iterator[ArchiveEntry], *, limit: int) -> Iterator[ArchiveEntry]:
    """Yield the entries that are to be unpacked; raise at the first that must not be, or when they become too many."""
    total = 0
    for number, entry in enumerate(entries):
        total += entry.size
        if refusal := entry.refusal or _bad_name(entry.name):
            raise _RefusedError(f"entry {entry.name!r} {refusal}")
        # While reading the list, not after it: a list itself may be endless.
        if total > limit or number >= MAX_ENTRIES:
            raise _RefusedError(f"it would unpack to more than {MAX_ENTRIES} entries or {in_units(limit)}")
        parts = PurePosixPath(entry.name).parts  # none of "." and of "/", the folder itself
        if parts and "__MACOSX" not in parts and not parts[-1].startswith("._"):
            yield entry


def _bad_name(name: str) -> str | None:
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
        return "has an absolute name"
    # Backslashes too: on Windows they separate folders.
    if ".." in re.split(r"[/\\]", name):
        return "points out of the folder"
    if "\\" in name or any(ord(letter) < 32 for letter in name):
        return "has a name with a backslash or a control character"
    return None


def _extract(reader: _Reader, entries: list[ArchiveEntry], folder: Path, progress: ByteProgress) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in entries:
            reader.extract(entry.name, folder)
            progress.advance(entry.size)
    finally:
        progress.close()


@contextmanager
def _open(archive: Path) -> Iterator[_Reader]:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as file:
            yield _Zip(file)
    else:
        with tarfile.open(archive) as file:
            yield _Tar(file)


class _Zip:
    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file

    def entries(self) -> Iterator[ArchiveEntry]:
        for info in self.file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where the archive was not made on Unix
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR)
            refusal = None if plain else "is a link or a device"
            if info.flag_bits & 1:
                refusal = "is encrypted"
            yield ArchiveEntry(info.filename, info.file_size, refusal)

    def extract(self, name: str, folder: Path) -> None:
        self.file.extract(name, folder)


class _Tar:
    def __init__(self, file: tarfile.TarFile) -> None:
        self.file = file
        self.members: dict[str, tarfile.TarInfo] = {}

    def entries(self) -> Iterator[ArchiveEntry]:
        for member in self.file:
            plain = (member.isreg() or member.isdir()) and member.size >= 0
            self.members[member.name] = member
            yield ArchiveEntry(member.name, member.size, None if plain else "is a link, a device or broken")

    def extract(self, name: str, folder: Path) -> None:
        # "data" is Python's own filter against absolute names, links outside and special files: a second line of
        # defence.
        self.file.extract(self.members[name], folder, filter="data")
