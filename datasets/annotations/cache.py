"""Parsed annotation files, kept as columns that later runs map into memory instead of parsing JSON again.

A kept file is taken only where all that the result depends on is as it was: the annotation file (size, times, inode,
and a hash of blocks spread over it), the flags of the reading, this package's own code, and what the image files
answered. Times to the nanosecond and the inode find every change of a file in place; the blocks, 4 MiB at most, find
a clock that was set back, without the seconds that a hash of gigabytes takes. The time of the inode is also what
nobody can put into an archive: columns that come with downloaded data are never taken for one's own.
"""

import functools
import hashlib
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from util.dist.distributed import print_once
from util.runs.atomic import atomic_file, remove_unfinished

from . import read_annotations
from .asked import AskedFiles, same_answers
from .classes import ChosenClasses
from .column_file import read_about, read_columns, write_columns
from .dense import DenseLabels
from .findings import Action, Findings
from .images import ImageFiles, NoFiles
from .kinds import refuse_repaired
from .table import Annotations
from .turn import turn

#: Smaller files are parsed in less than 0.2 s: nothing is kept of them.
LEAST_BYTES = 8 << 20
#: Blocks to hash, and the bytes of each.
BLOCKS, BLOCK = 64, 64 << 10
#: More questions to image files than this would take longer to ask again than the JSON takes to parse.
MOST_ASKED = 100_000


class Reading(NamedTuple):
    """The arguments of `read_annotations` that decide on the result."""

    num_classes: int | DenseLabels | ChosenClasses | None = None
    need_masks: bool = False


class ReadOptions(NamedTuple):
    """Ways to read a file that do not change the result: refuse what would be repaired, keep and take columns."""

    strict: bool = False
    cached: bool = False


PLAIN = ReadOptions()


def open_annotations(
    path: str | Path,
    reading: Reading,
    options: ReadOptions = PLAIN,
    *,
    findings: Findings,
    files: ImageFiles | None = None,
) -> Annotations:
    """Return what `read_annotations` does, from the columns that are kept if there are any. Raises DatasetError."""
    path, files = Path(path), files or NoFiles()
    key = _key(path, reading, files) if options.cached else None
    if key is None:
        return read_annotations(path, **reading._asdict(), strict=options.strict, findings=findings, files=files)
    found = Findings()
    try:
        annotations = _kept(path, key, found, files)
        if annotations is None:
            with turn(path) as first:
                # Whoever waited finds what the first one has kept.
                annotations = None if first else _kept(path, key, found, files)
                if annotations is None:
                    annotations = _read_and_keep(path, reading, key, found, files, keep=first)
    finally:
        # Also before an error: the check shows all that is odd, not the refusal alone.
        for one in found:
            findings.add(one.kind, one.action, remedy=one.remedy, example=one.example, count=one.count)
    if options.strict:
        refuse_repaired(found)
    return annotations


def _key(path: Path, reading: Reading, files: ImageFiles) -> dict[str, Any] | None:
    """Return all that the result depends on but the image files; None for a file that is not worth it."""
    try:
        state = path.stat()
        if state.st_size < LEAST_BYTES:
            return None
        digest = hashlib.blake2b(digest_size=16)
        with open(path, "rb") as file:
            for number in range(BLOCKS):
                # The first block is the file's first, the last one its last.
                file.seek((state.st_size - BLOCK) * number // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    except (OSError, ValueError):  # `read_annotations` says it
        return None
    return {
        "file": [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, digest.hexdigest()],
        "reading": repr(reading),
        "files": [type(files).__name__, files.sizes_known],
        "code": _code(),
        "machine": sys.byteorder,
    }


@functools.cache
def _code() -> str:
    """Hash the source of this package: other rules give other columns."""
    digest = hashlib.blake2b(digest_size=16)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def _places(path: Path, key: dict[str, Any]) -> list[Path]:
    """Return where columns may lie: beside the annotation file, else in the user's cache folder."""
    # Not of the file's state: the columns of a changed file take the place of the old ones.
    return kept_places(path, f"{key['reading']}{key['files']}", "columns")


def kept_places(path: Path, of: str, ending: str) -> list[Path]:
    """Return where something that is known `of` an annotation file may be kept, the best place first."""
    digest = hashlib.blake2b(of.encode(), digest_size=6).hexdigest()
    of_path = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=6).hexdigest()
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "detr" / "annotations"
    return [path.parent / f".{path.name}.{digest}.{ending}", user / f"{path.name}.{of_path}.{digest}.{ending}"]


def _kept(path: Path, key: dict[str, Any], findings: Findings, files: ImageFiles) -> Annotations | None:
    """Return what is kept of a file, and add its findings; None, with a line where there is something, if it is not."""
    for place in _places(path, key):
        try:
            about = read_about(place)
            if about["key"] != key:
                reason = "made from another state of the file, or by another version"
            elif not same_answers(about["asked"], files):
                reason = "image files have changed"
            else:
                options = {name: about[name] for name in ("categories", "listed", "left_out")}
                annotations = Annotations.from_columns(read_columns(place), **options)
                for kind, action, remedy, example, count in about["findings"]:
                    findings.add(kind, Action(action), remedy=remedy, example=f"{path}{example}", count=count)
                return annotations
        except FileNotFoundError:
            continue
        except OSError as error:
            reason = error.strerror or str(error)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reason = f"damaged: {error}"
        print_once(f"{place}: not used ({reason}); reading {path} again")
    return None


def _read_and_keep(
    path: Path, reading: Reading, key: dict[str, Any], findings: Findings, files: ImageFiles, *, keep: bool
) -> Annotations:
    asking, began = AskedFiles(files), time.monotonic()
    annotations = read_annotations(path, **reading._asdict(), findings=findings, files=asking)
    seconds = time.monotonic() - began
    # A file that was written while it was read is kept next time.
    if not keep or len(asking.asked) > MOST_ASKED or _key(path, reading, files) != key:
        return annotations
    about = {
        "key": key,
        "asked": asking.asked,
        "categories": annotations.categories,
        "listed": annotations.listed,
        "left_out": annotations.left_out,
        # Examples begin with the path as it was given, which may be written otherwise next time.
        "findings": [[f.kind, int(f.action), f.remedy, f.example.removeprefix(str(path)), f.count] for f in findings],
    }
    place, reason = _write(_places(path, key), annotations, about)
    # One process of a machine reads, which need not be rank 0.
    if place is None:
        print(f"{path}: parsed in {seconds:.1f} s, and will be again: it cannot be kept ({reason})", flush=True)
    else:
        print(f"{path}: parsed in {seconds:.1f} s; kept for later runs as {place} (--no_cache: not)", flush=True)
    return annotations


def _write(places: list[Path], annotations: Annotations, about: dict[str, Any]) -> tuple[Path | None, str]:
    """Write the columns to the first place that takes them, and return it, else why not."""
    reasons = []
    for place in places:
        try:
            # A process of another machine may write too: a name of its own for what is not finished. What killed ones
            # left is removed first.
            with suppress(OSError):
                remove_unfinished(place.parent, of=place.name)
            with atomic_file(place, mark=f".{platform.node()}-{os.getpid()}") as file:
                write_columns(file, annotations.columns(), about)
            return place, ""
        except OSError as error:
            reasons.append(f"{place.parent}: {error.strerror or error}")
    return None, "; ".join(reasons)
