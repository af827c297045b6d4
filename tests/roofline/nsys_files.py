"""Writes timelines of Nsight Systems as `nsys export --type sqlite` does, from events by hand, in microseconds."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_TABLES = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT, computeMajor INTEGER, computeMinor INTEGER);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, rangeId INTEGER, text TEXT,
    globalTid INTEGER, textId INTEGER, domainId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, globalTid INTEGER,
    correlationId INTEGER, nameId INTEGER NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, demangledName INTEGER NOT NULL,
    shortName INTEGER NOT NULL, gridX INTEGER, gridY INTEGER, gridZ INTEGER, blockX INTEGER, blockY INTEGER,
    blockZ INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
    streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER);
"""
_PID, _START = 0x1000001000000, 10**15  # the process 1 of the first machine; a clock that began days ago


class Timeline:
    """A timeline that grows by its methods; `write` makes the file."""

    def __init__(self, pid: int = _PID, device: int = 0) -> None:
        self.pid, self.device = pid, device
        self.rows: dict[str, list[tuple]] = {"NVTX_EVENTS": [], "RUNTIME": [], "KERNEL": [], "MEMCPY": []}
        self.strings: dict[str, int] = {}
        self.correlation = 0

    def string(self, text: str) -> int:
        """Return the number of a text."""
        return self.strings.setdefault(text, len(self.strings))

    def range(self, name: str, begin: float, end: float, *, tid: int = 1, kind: int = 59, inline: bool = False) -> None:
        """Add a range; inline: with its text in place of the text's number, as for names that occur once."""
        text, number = (name, None) if inline else (None, self.string(name))
        self.rows["NVTX_EVENTS"].append((_at(begin), _at(end), kind, 1, text, self.pid | tid, number, 0))

    def kernel(self, name: str, launched: float, begin: float, end: float, *, tid: int = 1, stream: int = 7) -> None:
        """Add a kernel and the call that launched it."""
        number = self._call(launched, tid)
        shape = (4, 1, 1, 128, 1, 1)
        self.rows["KERNEL"].append(
            (*self._work(begin, end, stream, number), self.string(name), self.string(name[:4]), *shape)
        )

    def copy(self, launched: float, begin: float, end: float, *, tid: int = 1, kind: int = 1) -> None:
        """Add a copy; kind 1 is host to device."""
        self.rows["MEMCPY"].append((*self._work(begin, end, 8, self._call(launched, tid)), 4096, kind))

    def _call(self, moment: float, tid: int) -> int:
        self.correlation += 1
        row = (_at(moment), _at(moment + 1), self.pid | tid, self.correlation, self.string("cudaLaunchKernel"))
        self.rows["RUNTIME"].append(row)
        return self.correlation

    def _work(self, begin: float, end: float, stream: int, number: int) -> tuple[Any, ...]:
        return _at(begin), _at(end), self.device, stream, number, self.pid


def _at(microseconds: float) -> int:
    return _START + round(microseconds * 1000)


def write(path: Path, timelines: Sequence[Timeline]) -> Path:
    """Write one file of several processes, which share the texts' numbers."""
    base = sqlite3.connect(path)
    base.executescript(_TABLES)
    texts: dict[str, int] = {}
    for line in timelines:
        shared = {number: texts.setdefault(text, len(texts)) for text, number in line.strings.items()}
        for table, rows in line.rows.items():
            places = {"NVTX_EVENTS": (6,), "RUNTIME": (4,), "KERNEL": (6, 7)}.get(table, ())
            rows = [tuple(shared.get(v, v) if n in places else v for n, v in enumerate(row)) for row in rows]
            name = table if table == "NVTX_EVENTS" else f"CUPTI_ACTIVITY_KIND_{table}"
            if rows:
                base.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        base.execute("INSERT INTO TARGET_INFO_GPU VALUES (?, 'NVIDIA H100 80GB HBM3', 9, 0)", [line.device])
    base.executemany("INSERT INTO StringIds VALUES (?, ?)", [(number, text) for text, number in texts.items()])
    base.commit()
    base.close()
    return path
