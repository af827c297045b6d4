"""Roofs: how many bytes and FLOPs per second a device can do, at the clock at which the counters ran.

In order of trust: a file the user gives; the report's own peaks times its clocks; the table `gpus.toml` times the
measured clock; a file beside the input. Everything is SI: 1 GB/s = 1e9 byte/s.
"""

import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from . import RoofError, atomic_file
from .columns import FLOP_COLUMNS, LEVELS, TENSOR_UNITS, UNITS
from .read.metrics import CLOCK, OPS_PATH, PEAK, PEAK_RATE, thread_inst

_L1_PER_SM = 128  # bytes per clock
_TENSOR_CLOCKED = set(TENSOR_UNITS) - {"tensor_fp64"}  # NVIDIA states FP64 at the boost clock, on tensor cores too
#: Metric whose peak is a level's bandwidth, the bytes of one of its counts, and the clock it counts in.
_LEVEL_PEAKS = (
    ("HBM", "dram__bytes", 1, "dram__cycles_elapsed.avg.per_second"),
    ("L2", "lts__lts2xbar_cycles_active", 32, "lts__cycles_elapsed.avg.per_second"),
    ("L1", "l1tex__lsu_writeback_active_mem_lgds", 128, "l1tex__cycles_elapsed.avg.per_second"),
    ("L1", "l1tex__lsu_writeback_active_mem_lg", 128, "l1tex__cycles_elapsed.avg.per_second"),
    ("L1", "l1tex__lsu_writeback_active", 128, "l1tex__cycles_elapsed.avg.per_second"),
)
#: One FP16 FMA is 2 lanes x 2 operations, others 2; ops_path counts operations already.
_UNIT_PEAKS = (
    ("fp64", thread_inst("dfma").removesuffix(".sum"), 2),
    ("fp32", thread_inst("ffma").removesuffix(".sum"), 2),
    ("fp16", thread_inst("hfma").removesuffix(".sum"), 4),
)
_TENSOR_PEAK = re.compile(
    re.escape(OPS_PATH) + r"(?:op_\w+?_)?src_(?P<type>tf32|bf16|fp16|fp64|fp8|fp4)\w*?(?:_dst_(?P<result>\w+?))?"
    r"(?:_sparsity_(?P<state>on|off))?\.sum\.peak"
)


@dataclass(frozen=True)
class Roofs:
    """Ceilings of one device. bandwidth: byte/s by level of LEVELS; peak: FLOP/s by unit of UNITS; clock_hz or NaN."""

    device: str
    bandwidth: dict[str, float] = field(default_factory=dict)
    peak: dict[str, float] = field(default_factory=dict)
    clock_hz: float = float("nan")
    source: str = ""

    def merged(self, other: "Roofs") -> "Roofs":
        """Return these roofs, completed by the other's where they lack one."""
        if other.bandwidth.keys() <= self.bandwidth.keys() and other.peak.keys() <= self.peak.keys():
            return self
        source = f"{self.source}; what it lacks from {other.source}" if self.bandwidth or self.peak else other.source
        return replace(
            self,
            # The right side wins: one's own roofs stay.
            bandwidth=other.bandwidth | self.bandwidth,
            peak=other.peak | self.peak,
            source=source,
            device=self.device if not self.device.isdigit() and self.device else other.device,
        )


def table_roofs(row: dict, clock_hz: float | None = None) -> Roofs:
    """Return the roofs of a row of gpus.toml at a measured clock; without one, at NVIDIA's.

    L1 and L2 run with the cores' clock, memory does not.
    """
    measured = clock_hz is not None and clock_hz == clock_hz
    clock = float(clock_hz if clock_hz is not None and measured else row["clock_hz"])
    tensor_clock = clock if measured else row.get("tensor_clock_hz", clock)
    per_clock = row["flop_per_clock_per_sm"]
    peak = {
        # SMs x FLOP per clock and SM x clocks per second.
        unit: row["sms"] * per_clock[unit] * (tensor_clock if unit in _TENSOR_CLOCKED else clock)
        for unit in UNITS
        if unit in per_clock
    }
    # Per SM and clock; memory has a clock of its own, which locking the cores' does not move.
    bandwidth = {"L1": row["sms"] * row.get("l1_bytes_per_clock_per_sm", _L1_PER_SM) * clock}
    if "l2_bytes_per_clock" in row:
        bandwidth["L2"] = row["l2_bytes_per_clock"] * clock
    bandwidth["HBM"] = row["hbm_bytes_per_second"]
    at = f"the measured {clock / 1e9:.2f} GHz (nominal {row['clock_hz'] / 1e9:.2f})" if measured else "nominal clock"
    doubt = "" if row["checked"] else " (a row that was compared with nothing)"
    return Roofs(row["name"], bandwidth, peak, clock, f"table of {row['name']}{doubt} at {at}")


def report_roofs(launches: pd.DataFrame, device: str = "") -> Roofs:
    """Return the roofs that a report states itself: `peak_sustained` per clock times the measured clock of its unit.

    Empty roofs if the report was collected without them.
    """
    bandwidth, peak = {}, {}
    for level, metric, factor, clock in _LEVEL_PEAKS:
        rate = _peak(launches, metric, clock)
        if rate and level not in bandwidth:
            # Counts per second times bytes of a count.
            bandwidth[level] = rate * factor
    for unit, metric, factor in _UNIT_PEAKS:
        if rate := _peak(launches, metric, CLOCK):
            peak[unit] = rate * factor
    peak |= _tensor_peaks(launches)
    clock_hz = float(launches[CLOCK].median()) if CLOCK in launches else float("nan")
    peak = {unit: value for unit, value in peak.items() if value > 0}
    return Roofs(device, bandwidth, peak, clock_hz, "the report's own peaks at its clock" if bandwidth or peak else "")


def _tensor_peaks(launches: pd.DataFrame) -> dict[str, float]:
    """Return the dense peaks of tensor cores in FLOP/s by unit.

    A type's own peak is that of sparse matrices where the GPU knows them, twice the dense one (an H100's report:
    933,888 a clock for BF16, 466,944 for its part without sparsity): of a type and its parts, the dense part counts.
    GeForce accumulates FP16 in FP16 at twice the rate of FP32: that peak counts only where a kernel did so.
    """
    matches = [(column, match) for column in launches.columns if (match := _TENSOR_PEAK.match(column))]
    # FP16 results on tensor cores, in any launch.
    narrow = [column for column in launches if "_dst_fp16" in column and column.endswith(".sum")]
    to_fp32 = any(match["result"] == "fp32" for _, match in matches) and not launches[narrow].any(axis=None)
    found: dict[str, dict[str, float]] = {}
    for column, match in matches:
        if to_fp32 and match["result"] == "fp16":
            continue
        part = {"on": "sparse", "off": "dense", None: "total"}[match["state"]]
        peaks = found.setdefault(f"tensor_{match['type']}", {})
        peaks[part] = max(peaks.get(part, 0.0), _peak(launches, column.partition(".")[0], CLOCK))
    half = 2.0 if _knows_sparsity(launches) else 1.0
    return {
        unit: peaks.get("dense") or peaks.get("total", 0.0) / (1.0 if unit == "tensor_fp64" else half)
        for unit, peaks in found.items()
    }


def _knows_sparsity(launches: pd.DataFrame) -> bool:
    """Say whether the GPU's tensor cores skip zeros: from compute capability 8.0 on."""
    capabilities = set(launches["compute_capability"].astype(str)) if "compute_capability" in launches else set()
    return any(text.partition(".")[0].isdecimal() and int(text.partition(".")[0]) >= 8 for text in capabilities)


def _peak(launches: pd.DataFrame, metric: str, clock: str) -> float:
    """Return a metric's peak per second, 0 where the report does not have it."""
    if metric + PEAK_RATE in launches:
        return float(launches[metric + PEAK_RATE].median())
    if metric + PEAK in launches and clock in launches:
        # The peak per clock is a constant of the GPU; clocks vary from launch to launch.
        return float(launches[metric + PEAK].max() * launches[clock].median())
    return 0.0


def used(roofs: Roofs, rows: pd.DataFrame, *, least: float = 0.01, units: bool = True) -> Roofs:
    """Return the roofs to draw for these rows: of levels that they have data of, of units that do much of their work.

    least: the fraction of all FLOPs that a unit must do. units: False keeps the peaks of all units.
    """
    bandwidth = {level: rate for level, rate in roofs.bandwidth.items() if level == "HBM" or _has_data(rows, level)}
    if not units:
        return replace(roofs, bandwidth=bandwidth)
    flops = rows[list(FLOP_COLUMNS.values())].sum()
    total = flops.sum() or 1.0
    # A hundredth: index arithmetic in FP64 must not bring a roof of its own.
    keep = {unit for unit, column in FLOP_COLUMNS.items() if flops[column] >= least * total}
    peak = {unit: value for unit, value in roofs.peak.items() if unit in keep or not flops.any()}
    return replace(roofs, bandwidth=bandwidth, peak=peak)


def _has_data(rows: pd.DataFrame, level: str) -> bool:
    column = LEVELS[level] if LEVELS[level] in rows else f"ai_{level.lower()}"
    return bool(rows[column].notna().any())


def read_roofs(path: Path, clock_hz: float | None = None) -> Roofs:
    """Read a roofs file (format: README.md). With `clock_hz` in it, FLOP/s, L1 and L2 are scaled to the measured clock.

    Raises RoofError naming the file and the field.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RoofError(f"{path}: no readable roofs file ({error})") from error
    bandwidth = _numbers(path, data, "bandwidth", tuple(LEVELS))
    peak = _numbers(path, data, "peak", tuple(UNITS))
    own = data.get("clock_hz")
    if own is not None and not (isinstance(own, (int, float)) and own > 0):
        raise RoofError(f"{path}: clock_hz must be a positive number of hertz")
    device, source = str(data.get("device", path.stem)), str(data.get("source", path.name))
    if own and clock_hz and clock_hz == clock_hz:
        # HBM is left: its clock is not the cores'.
        factor = clock_hz / own
        bandwidth = {level: rate * (1.0 if level == "HBM" else factor) for level, rate in bandwidth.items()}
        peak = {unit: rate * factor for unit, rate in peak.items()}
        return Roofs(device, bandwidth, peak, clock_hz, f"{source}, scaled to {clock_hz / 1e9:.2f} GHz")
    return Roofs(device, bandwidth, peak, own or float("nan"), source)


def _numbers(path: Path, data: dict, name: str, allowed: tuple[str, ...]) -> dict[str, float]:
    table = data.get(name, {})
    if not isinstance(table, dict) or (name == "bandwidth" and name not in data):
        raise RoofError(f"{path}: needs a table [{name}] with {', '.join(allowed)}")
    for key, value in table.items():
        if key not in allowed:
            raise RoofError(f"{path}: [{name}] has {key}; known are {', '.join(allowed)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
            raise RoofError(f"{path}: [{name}] {key} must be a positive number per second")
    return {key: float(table[key]) for key in allowed if key in table}


def write_roofs(roofs: Roofs, path: Path) -> None:
    """Write roofs in the format that `read_roofs` reads."""
    lines = [f"device = {_quoted(roofs.device)}", f"source = {_quoted(roofs.source)}"]
    if roofs.clock_hz == roofs.clock_hz:
        lines.append(f"clock_hz = {roofs.clock_hz:.6g}")
    for name, table in (("bandwidth", roofs.bandwidth), ("peak", roofs.peak)):
        lines += ["", f"[{name}]", *(f"{key} = {value:.6g}" for key, value in table.items())]
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
