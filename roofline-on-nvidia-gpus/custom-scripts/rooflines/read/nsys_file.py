"""Timelines of Nsight Systems as SQLite (`nsys export --type sqlite`), row by row in order of time.

Tables, columns and numbers: https://docs.nvidia.com/nsight-systems/UserGuide/index.html (SQLite schema reference).
SQLite sorts on disk where the rows are too many for its cache, so a file is never in memory as a whole.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import RoofError

#: Numbers of NVTX ranges in eventType; the second of each is of a range that another program's file brought.
PUSH_POP, START_END = (59, 70), (60, 71)
#: In the low 24 bits of globalTid is the thread; the process of globalPid is above.
_THREAD = 0xFFFFFF
_KERNELS, _COPIES, _SETS = (f"CUPTI_ACTIVITY_KIND_{kind}" for kind in ("KERNEL", "MEMCPY", "MEMSET"))
_CALLS = "CUPTI_ACTIVITY_KIND_RUNTIME"
_NEEDED = {"start", "end", "globalPid", "deviceId", "correlationId"}
_COPY_KINDS = {1: "HtoD", 2: "DtoH", 8: "DtoD", 9: "HtoH", 10: "PtoP"}
_CACHE_KIB = 64 << 10

#: pid, thread, begin, end, text, None for a range; pid, thread, begin, end, None, correlation for a call.
HostRow = tuple[int, int, int, int, str | None, int | None]
#: pid, device, begin, end, 0 for a kernel, name, grid, block; of the launch the place's number and moment, or None.
DeviceRow = tuple[int, int, int, int, int, str, str, str, int | None, int | None]


class NsysFile:
    """An exported timeline, opened for reading; raises RoofError for what is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._base = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            self._tables = {
                name: {row[1] for row in self._base.execute(f'PRAGMA table_info("{name}")')}
                for (name,) in self._base.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            }
            self._base.execute("PRAGMA temp_store = FILE")
            self._base.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._base.execute(
                # Typed as in the tables of work: without that, SQLite would not use the key to join them.
                "CREATE TEMP TABLE launched (pid INTEGER, correlation INTEGER, place INTEGER, moment INTEGER, "
                "PRIMARY KEY (pid, correlation)) WITHOUT ROWID"
            )
        except sqlite3.Error as error:
            raise RoofError(f"{path}: no readable SQLite file ({error}); was the export stopped?") from error
        self._names: dict[int, str] = {}
        self._check()

    def _check(self) -> None:
        if not {_KERNELS, "StringIds"} <= set(self._tables):
            raise RoofError(
                f"{self.path}: an SQLite file without the table {_KERNELS}: no kernels were recorded "
                "(nsys profile --trace cuda,nvtx), or it is no export of Nsight Systems"
            )
        missing = (_NEEDED | {"demangledName"}) - self._tables[_KERNELS]
        if missing:
            raise RoofError(f"{self.path}: its table of kernels has no column {', '.join(sorted(missing))}")

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _rows(self, query: str, values: Iterable = ()) -> Iterator:
        try:
            # No `yield from`: where reading ends early that would close the cursor, after the file is closed.
            for row in self._base.execute(query, tuple(values)):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise RoofError(f"{self.path}: cannot be read ({error}); was the export stopped?") from error

    def name(self, number: int | None) -> str:
        """Return the text of a number in the table of strings."""
        if number is None:
            return ""
        if number not in self._names:
            found = next(self._rows("SELECT value FROM StringIds WHERE id = ?", [number]), ("",))
            self._names[number] = found[0]
        return self._names[number]

    def _ranges(self, columns: str, kinds: tuple[int, ...]) -> str | None:
        """Return the query of ranges of some kinds; None in a file without any."""
        known = self._tables.get("NVTX_EVENTS")
        if not known:
            return None
        text = "coalesce(n.text, s.value)" if "textId" in known else "n.text"
        join = "LEFT JOIN StringIds s ON s.id = n.textId" if "textId" in known else ""
        # A range that was still open when the recording ended has no end.
        where = f"n.eventType IN ({', '.join(map(str, kinds))}) AND n.end IS NOT NULL"
        return f"SELECT {columns.format(text=text)} FROM NVTX_EVENTS n {join} WHERE {where}"

    def process_ranges(self, names: tuple[str, ...]) -> Iterator[tuple[int, int, int, int, str]]:
        """Yield pid, thread, begin, end and text of ranges that all threads of a process are in, by their begin.

        These are start/end ranges, and push/pop ranges with one of the names.
        """
        query = self._ranges("n.globalTid, n.start, n.end, {text} AS label, n.eventType", (*PUSH_POP, *START_END))
        if query is None:
            return
        marks = ", ".join("?" * len(names))
        chosen = f"SELECT * FROM ({query}) WHERE eventType IN {START_END} OR label IN ({marks})"
        for tid, begin, end, text, _ in self._rows(f"{chosen} ORDER BY start, end DESC", names):
            yield tid & ~_THREAD, tid & _THREAD, begin, end, text or ""

    def host_rows(self, first: Iterable[tuple[int, int]]) -> Iterator[HostRow]:
        """Yield ranges and calls that launched something, thread by thread in order of time, outer before inner.

        first: pid and thread of those that come before the others.
        """
        queries = []
        if ranges := self._ranges("n.globalTid AS tid, n.start, n.end, {text}, NULL", (*PUSH_POP, *START_END)):
            queries.append(ranges)
        if _CALLS in self._tables:
            work = " UNION ALL ".join(f"SELECT correlationId FROM {table}" for table in self._device_tables())
            queries.append(
                "SELECT globalTid AS tid, start, end, NULL, correlationId "
                f"FROM {_CALLS} WHERE correlationId IN ({work})"
            )
        if not queries:
            return
        # Process and thread share one number in the file; `NULL` matches nothing.
        early = ", ".join(str(pid | thread) for pid, thread in first) or "NULL"
        union = " UNION ALL ".join(queries)
        query = f"SELECT * FROM ({union}) ORDER BY tid IN ({early}) DESC, tid, start, end DESC"
        for tid, begin, end, text, correlation in self._rows(query):
            yield tid & ~_THREAD, tid & _THREAD, begin, end, text, correlation

    def note_launches(self, launches: Iterable[tuple[int, int, int, int]]) -> None:
        """Note pid, correlation, number of the place and moment of launches, for `device_rows`."""
        self._base.executemany("INSERT OR REPLACE INTO launched VALUES (?, ?, ?, ?)", launches)

    def _device_tables(self) -> list[str]:
        return [name for name in (_KERNELS, _COPIES, _SETS) if _NEEDED <= self._tables.get(name, set())]

    def device_rows(self) -> Iterator[DeviceRow]:
        """Yield what ran on the devices: process by process, device by device, in order of time."""
        queries = []
        for table in self._device_tables():
            kind = {_KERNELS: "0, w.demangledName", _COPIES: "1, w.copyKind", _SETS: "2, NULL"}[table]
            sizes = [f"w.{kind}{axis}" for kind in ("grid", "block") for axis in "XYZ"] if table == _KERNELS else []
            shape = ", ".join(sizes or ["NULL"] * 6)
            queries.append(
                f"SELECT w.globalPid, w.deviceId, w.start, w.end, {kind}, {shape}, l.place, l.moment FROM {table} w "
                "LEFT JOIN launched l ON l.pid = w.globalPid AND l.correlation = w.correlationId"
            )
        for row in self._rows(f"{' UNION ALL '.join(queries)} ORDER BY 1, 2, 3"):
            pid, device, begin, end, kind, name, *sizes, place, moment = row
            text = self.name(name) if kind == 0 else f"Memcpy {_COPY_KINDS.get(name, '')}" if kind == 1 else "Memset"
            grid, block = (f"({', '.join(map(str, size))})" for size in (sizes[:3], sizes[3:]))
            yield pid, device, begin, end, kind, text.strip(), *(("", "") if kind else (grid, block)), place, moment

    def gpu(self, device: int) -> tuple[str, str]:
        """Return the name and the compute capability of a device, empty where the file does not have them."""
        known = self._tables.get("TARGET_INFO_GPU", set())
        if not {"id", "name"} <= known:
            return "", ""
        capability = "computeMajor || '.' || computeMinor" if {"computeMajor", "computeMinor"} <= known else "''"
        query = f"SELECT name, {capability} FROM TARGET_INFO_GPU WHERE id = ?"
        return next(self._rows(query, [device]), ("", ""))
