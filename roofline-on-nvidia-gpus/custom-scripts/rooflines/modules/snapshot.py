"""Holders of a GPU's memory at its peak, from the snapshot that `main.py --memory_snapshot FILE` has PyTorch write.

The file is a pickle of lists, dicts, numbers and texts; anything else in it is refused, for a pickle can run code.
"""

import pickle
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import RoofError
from ..charts.style import si
from .markup import table

#: Parts of file names that say nothing about who asked for memory, if another frame does.
_LIBRARIES = ("site-packages", "dist-packages", "/lib/python", "<")
BEFORE, NO_FRAME = "before the record began", "no Python frame (the backward pass)"
_ROWS = 20


@dataclass(frozen=True)
class Peak:
    """Bytes at the peak, and of these by the line of code that allocated them, with the number of blocks."""

    total: int
    by_place: Counter[str]
    blocks: Counter[str]


class _Plain(pickle.Unpickler):
    """Reads plain types alone."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse: a snapshot names no class. Raises UnpicklingError."""
        raise pickle.UnpicklingError(f"it names {module}.{name}, and a snapshot names no class")


def read_peak(path: Path) -> Peak:
    """Return the peak over the snapshot's history. Raises RoofError for a file that is none."""
    try:
        with open(path, "rb") as file:
            data = _Plain(file).load()
        traces = [trace for trace in data["device_traces"] if trace]
        blocks = [b for segment in data["segments"] for b in segment["blocks"] if b["state"] == "active_allocated"]
        # A training uses one GPU: of several, that with most events.
        return _peak(max(traces, key=len, default=[]), {b.get("address", -i): b["size"] for i, b in enumerate(blocks)})
    except (OSError, EOFError, KeyError, TypeError, AttributeError, ValueError, pickle.UnpicklingError) as error:
        raise RoofError(f"{path}: no snapshot of main.py --memory_snapshot ({error})") from error


def peak_section(peak: Peak) -> str:
    """Return the section of the page."""
    cells = [(place, str(peak.blocks[place]), si(size, "B")) for place, size in peak.by_place.most_common(_ROWS)]
    title = f"Memory of the GPU at its peak, {si(peak.total, 'B')}"
    return f"<h2>{title}</h2>{table(('allocated in', 'blocks', 'bytes'), cells)}"


def _peak(events: list[dict[str, Any]], left: dict[int, int]) -> Peak:
    """Replay allocations and frees; left: the blocks that are there at the end, bytes by address."""
    allocated = {event["addr"] for event in events if event["action"] == "alloc"}
    first_seen: set[int] = set()
    older: dict[int, int] = {}
    for event in events:
        if event["action"] == "free_completed" and event["addr"] not in first_seen:
            older[event["addr"]] = event["size"]  # freed, and not allocated within the record
        if event["action"] in ("alloc", "free_completed"):
            first_seen.add(event["addr"])
    # Still there at the end and never seen to be allocated: older than the record, too.
    older |= {address: size for address, size in left.items() if address not in allocated | older.keys()}
    at = _moment(events, sum(older.values()))
    live: dict[int, tuple[str, int]] = {address: (BEFORE, size) for address, size in older.items()}
    for event in events[: at + 1]:
        if event["action"] == "alloc":
            live[event["addr"]] = (_place(event.get("frames", [])), event["size"])
        elif event["action"] == "free_completed":
            live.pop(event["addr"], None)
    sizes, blocks = Counter[str](), Counter[str]()
    for place, size in live.values():
        sizes[place] += size
        blocks[place] += 1
    return Peak(sum(sizes.values()), sizes, blocks)


def _moment(events: list[dict[str, Any]], before: int) -> int:
    """Return the number of the event after which most is allocated, -1 for the beginning."""
    now, most, at = before, before, -1
    for number, event in enumerate(events):
        # Memory is free again with "free_completed"; "free_requested" may wait for a stream.
        now += {"alloc": event.get("size", 0), "free_completed": -event.get("size", 0)}.get(event["action"], 0)
        if now > most:
            most, at = now, number
    return at


def _place(frames: list[dict[str, Any]]) -> str:
    """Return file and function of the innermost frame that is no library's; frames: the innermost first."""
    python = [frame for frame in frames if str(frame["filename"]).endswith(".py")]
    if not python:
        return NO_FRAME
    own = [frame for frame in python if not any(part in frame["filename"] for part in _LIBRARIES)]
    frame = (own or python)[0]
    return f"{'/'.join(Path(frame['filename']).parts[-2:])} {frame['name']}"
