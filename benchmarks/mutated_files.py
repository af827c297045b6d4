"""Loaders and files with anything in them, in large numbers: for benchmarks/reliability.py."""

import contextlib
import io
import os
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tests.mutated_files import SUBJECTS, Subject, files, outcome

#: A file that a loader needs longer for counts as a fault: who reads it would think that the program hangs.
MOST_SECONDS = 20.0


def give_files(place: Path, count: int, *, seed: int) -> dict[str, Any]:
    """Give changed files to all loaders; return how many were read and refused, and the faults.

    Args:
        place: a folder.
        count: of all files together; each subject has its share.
        seed: of the changes. A fault is named by the number of its file, which depends on nothing else.
    """
    began, whole = time.monotonic(), sum(subject.share for subject in SUBJECTS.values())
    kinds = {
        name: give(place / f"mutated{number}", name, subject, round(count * subject.share / whole), seed=seed)
        for number, (name, subject) in enumerate(SUBJECTS.items())
    }
    totals = {key: sum(kind[key] for kind in kinds.values()) for key in ("files", "read", "refused")}
    loaders = Counter[str]()
    for name, kind in kinds.items():
        loaders[SUBJECTS[name].loaders] += kind["files"]
    faults = [fault for kind in kinds.values() for fault in kind.pop("faults")]
    return {
        **totals,
        "loaders": dict(loaders),
        "kinds": kinds,
        "faults": faults,
        "seconds": round(time.monotonic() - began),
    }


def give(folder: Path, name: str, subject: Subject, count: int, *, seed: int) -> dict[str, Any]:
    """Give changed files of one kind to their loader."""
    path, ends, faults, slowest = folder / subject.file, Counter[str](), [], 0.0
    path.parent.mkdir(parents=True)
    subject.beside(folder)
    sync, os.fsync = os.fsync, lambda _: None  # a log that is mended need not outlast this machine
    began = time.monotonic()
    try:
        for number, content in enumerate(tqdm(files(subject, name, count, seed=seed), name, total=count, disable=None)):
            start = time.monotonic()
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                end = outcome(subject, path, content)
            slowest = max(slowest, time.monotonic() - start)
            ends[end] += 1
            if end not in ("read", "refused") or time.monotonic() - start > MOST_SECONDS:
                faults.append(f"{name}, file {number}: {end}, {time.monotonic() - start:.1f} s")
    finally:
        os.fsync = sync
    seconds = time.monotonic() - began
    return {
        "files": count,
        "read": ends["read"],
        "refused": ends["refused"],
        "ms_each": round(1000 * seconds / max(1, count), 2),
        "slowest_s": round(slowest, 2),
        "faults": faults,
    }
