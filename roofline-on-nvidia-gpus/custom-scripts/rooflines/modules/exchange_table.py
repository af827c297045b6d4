"""Gradient buckets in words and as a table: bytes, time, the bus, and how much the backward pass hides."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bus import Bus, read_bus
from ..charts.style import si
from .buckets import Bucket, Exchange, read_exchange
from .markup import table

BUS_NAME = "bus.toml"


@dataclass(frozen=True)
class Exchanges:
    """The exchanges of a run's traces by their files' names, and the measured bus, None where there is no bus.toml."""

    by_trace: dict[str, Exchange]
    bus: Bus | None


def read_exchanges(folder: Path) -> Exchanges | None:
    """Read the traces of a folder; None where no processes exchange gradients. Raises RoofError for a bad bus.toml."""
    found = {path.name: read_exchange(path) for path in sorted(folder.glob("trace_rank*.json*"))}
    kept = {name: exchange for name, exchange in found.items() if exchange is not None}
    file = folder / BUS_NAME
    return Exchanges(kept, read_bus(file) if file.is_file() else None) if kept else None


def describe_exchanges(exchanges: Exchanges) -> list[str]:
    """Return a line for each trace."""
    lines = []
    for name, exchange in exchanges.by_trace.items():
        size, seconds, hidden = _sums(exchange.buckets, exchange.steps)
        lines.append(
            f"{name}: {len(exchange.buckets) / exchange.steps:g} all-reduces a step among {exchange.ranks} processes, "
            f"{si(size, 'B')} in {si(seconds, 's')}; {exchange.hidden_share:.0%} of that beside computing, "
            f"{si(seconds - hidden, 's')} a step not hidden"
        )
    return lines


def exchange_section(exchanges: Exchanges) -> str:
    """Return the section of the page."""
    heads = ["trace", "bucket", "bytes", "time", "bus", *(["measured bus", "of it"] if exchanges.bus else []), "hidden"]
    cells = []
    for name, exchange in exchanges.by_trace.items():
        for number, buckets in enumerate(_by_place(exchange), start=1):
            size, seconds, hidden = _sums(buckets, len(buckets))
            # The bytes are the same in every step, so the rate is brought to the mean time.
            rate = buckets[0].bus_rate(exchange.ranks) * buckets[0].seconds / seconds
            line = [name, str(number), si(size, "B"), si(seconds, "s"), si(rate, "B/s")]
            if exchanges.bus:
                measured = exchanges.bus.rate_near(size)
                line += [si(measured, "B/s"), f"{rate / measured:.0%}"]
            cells.append([*line, f"{hidden / seconds:.0%}"])
    told = html.escape(". ".join(describe_exchanges(exchanges)))
    missing = "" if exchanges.bus else f" ceilings.py --ranks N -o {BUS_NAME} in the run's folder measures the bus."
    note = (
        "time: mean over the steps, waiting for the slowest process included; bus: 2 (n - 1) / n times the bytes over "
        f"it; hidden: the part in which the process computes.{missing}"
    )
    return f"<h2>Gradients between processes</h2><p>{told}.</p>{table(heads, cells)}<p>{note}</p>"


def _by_place(exchange: Exchange) -> list[list[Bucket]]:
    """Return the buckets by their place in a step; each by itself where steps differ, as DDP's first does."""
    # Buckets of a step; a remainder means that steps differ.
    count, rest = divmod(len(exchange.buckets), exchange.steps)
    groups = [exchange.buckets[place::count] for place in range(count)] if count and not rest else []
    if groups and all(len({bucket.size for bucket in group}) == 1 for group in groups):
        return groups
    return [[bucket] for bucket in exchange.buckets]


def _sums(buckets: Sequence[Bucket], steps: int) -> tuple[float, float, float]:
    """Return bytes, seconds and hidden seconds over `steps`."""
    parts = ((bucket.size, bucket.seconds, bucket.hidden) for bucket in buckets)
    size, seconds, hidden = (sum(values) / steps for values in zip(*parts))
    return size, seconds, hidden
