"""Downloading large files: resumed where they broke off, verified before they get their name.

Checkpoints, which are small and published by torch hub's naming, come through `util.web.download`.
"""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from ..errors import DownloadError
from .progress import ByteProgress, in_units

#: Seconds before a broken connection is taken up again.
PAUSE = 2.0
_TIMEOUT = 60.0
_BLOCK = 1 << 20
#: Broken connections in a row, without a byte in between, after which a download is given up.
_ATTEMPTS = 5


class _BrokenError(OSError):
    """The connection ended early, or the server asks to come back: the download can go on."""


def fetch(url: str, path: Path, *, size: int | None, checksum: str | None) -> None:
    """Bring the file at `url` to `path`; a file that is there already is only verified.

    The bytes gather in `path` + ".part". A later call goes on behind them (HTTP Range), or from the start where the
    server does not; so does this one after a broken connection. `size` in bytes and `checksum`
    ("sha256:..." or "md5:...") are verified before the file gets its name, each where it is not None.
    Raises DownloadError when the server cannot be reached, the disk is too small, or the file is another one.
    """
    if path.exists():
        verify(path, size=size, checksum=checksum)
        return
    part = path.with_name(f"{path.name}.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _receive_all(url, part, size)
        # Before the rename: a file under its final name is always a verified one.
        verify(part, size=size, checksum=checksum)
        os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
            f"{url}: cannot be downloaded ({_reason(error)}); run again to go on, or put a copy of the file at {path}"
        ) from error


def verify(path: Path, *, size: int | None, checksum: str | None) -> None:
    """Raise DownloadError, and delete the file, where its size or its checksum is another one."""
    found = path.stat().st_size
    if size is not None and found != size:
        path.unlink()
        raise DownloadError(f"{path}: has {found} bytes, {size} are published; it was deleted, run again")
    if checksum is None:
        return
    kind, _, digest = checksum.partition(":")
    if (found_digest := _digest(path, kind)) != digest:
        path.unlink()
        raise DownloadError(f"{path}: has {kind} {found_digest}, {digest} is published; it was deleted, run again")


def need_space(folder: Path, count: int, *, purpose: str) -> None:
    """Raise DownloadError where the disk of `folder`, which may not exist yet, has less than `count` bytes free."""
    # disk_usage asks about a folder that is there.
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if free < count:
        raise DownloadError(f"{folder}: {purpose} needs {in_units(count)}, the disk has {in_units(free)} free")


def _receive_all(url: str, part: Path, size: int | None) -> None:
    """Receive until the part is whole, taking up broken connections as long as bytes arrive in between."""
    failures = 0
    while True:
        start = part.stat().st_size if part.exists() else 0
        if start and start == size:
            return
        try:
            _receive(url, part, start, size)
            return
        except (_BrokenError, ConnectionResetError, TimeoutError, http.client.HTTPException) as error:
            grown = part.exists() and part.stat().st_size > start
            failures = 0 if grown else failures + 1  # a line that breaks every gigabyte still gets there
            if failures == _ATTEMPTS:
                raise
            print(f"{part.stem}: the connection broke ({_reason(error)}); trying again", flush=True)
            time.sleep(PAUSE)


def _receive(url: str, part: Path, start: int, size: int | None) -> None:
    """Open one connection and append to the part the bytes that the server sends from `start` on."""
    # Some servers refuse Python's own name.
    headers = {"User-Agent": "detr-prepare"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing behind `start`: the part belongs to another file
            part.unlink(missing_ok=True)
        # Too many requests, or a fault of the server's: later it may work. 404 and the like will not.
        if error.code == 416 or error.code == 429 or error.code >= 500:
            raise _BrokenError(f"HTTP {error.code}") from error
        raise
    with response:
        start, total = _span(response, part, start)  # start is 0 again where the server cannot resume
        if None not in (size, total) and total != size:
            raise DownloadError(f"{url}: the server has {total} bytes, {size} are published: it is another file")
        if total is not None:
            need_space(part.parent, total - start, purpose=f"downloading {part.stem}")
        _write(response, part, start, total if total is not None else size)


def _span(response: http.client.HTTPResponse, part: Path, start: int) -> tuple[int, int | None]:
    """Return the first byte that the server is about to send, and the size of the whole file if it says so."""
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        # Appending other bytes would be found only by the checksum, gigabytes later.
        if span is None or int(span[1]) != start:
            part.unlink(missing_ok=True)
            raise _BrokenError("the server sent another range than was asked for")
        return start, None if span[2] == "*" else int(span[2])
    if start:
        print(f"{part.stem}: the server cannot resume; from the start", flush=True)
    length = response.headers.get("Content-Length", "")
    # A server that sends compressed or in chunks does not know the length.
    return 0, int(length) if length.isdecimal() else None


def _write(response: http.client.HTTPResponse, part: Path, start: int, total: int | None) -> None:
    progress = ByteProgress(part.stem, total=total, done=start)
    done = start
    try:
        with open(part, "ab" if start else "wb") as file:
            while block := response.read(_BLOCK):
                done += len(block)
                if total is not None and done > total:
                    raise DownloadError(f"{response.url}: sends more than the {total} bytes that are published")
                file.write(block)
                progress.advance(len(block))
    finally:
        progress.close()
    if total is not None and done < total:  # `read` with a size does not complain about a short answer
        raise _BrokenError(f"after {in_units(done)} of {in_units(total)}")


def _digest(path: Path, kind: str) -> str:
    progress = ByteProgress(f"verifying {path.name.removesuffix('.part')}", total=path.stat().st_size)
    state = hashlib.new(kind, usedforsecurity=False)
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                state.update(block)
                progress.advance(len(block))
    finally:
        progress.close()
    return state.hexdigest()


def _reason(error: BaseException) -> str:
    """Return the reason of an error without the wrapping that urllib puts around it."""
    reason = getattr(error, "reason", None)
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(reason, OSError):
        error = reason
    return " ".join(str(error.strerror if isinstance(error, OSError) and error.strerror else error).split())
