"""The file that --count_costs writes: a row per operator, section, module and shape, which the roofline scripts read and draw."""

import csv
import io
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..runs.atomic import atomic_file
from . import Section
from .cost_counter import OpRow

#: Columns of the tidy table of `roofline-on-nvidia-gpus/custom-scripts/rooflines/table.py`, in its order.
_TEXTS = (
    "run",
    "section",
    "module",
    "kernel",
    "name",
    "family",
    "device",
    "compute_capability",
    "grid",
    "block",
    "flop_source",
    "source",
)
_UNITS = (
    "fp64",
    "fp32",
    "fp16",
    "tensor_fp64",
    "tensor_tf32",
    "tensor_bf16",
    "tensor_fp16",
    "tensor_fp8",
    "tensor_fp4",
)
COLUMNS = (
    *_TEXTS,
    "first",
    "launches",
    "time_s",
    "clock_hz",
    *(f"{unit}_flop" for unit in _UNITS),
    "tensor_int_op",
    "bytes_l1",
    "bytes_l2",
    "bytes_hbm",
    "tensor_inst",
    "hfma_inst",
)
_SCRIPTS = Path(__file__).resolve().parents[2] / "roofline-on-nvidia-gpus" / "custom-scripts"


def table_rows(rows: Sequence[OpRow], *, run: str, device: torch.device) -> list[dict]:
    """The rows with COLUMNS; None where nothing is known: without counters that is L1, L2 and the clock.

    Bytes of memory (`bytes_hbm`) are what the operators read and write, caches left out.
    """
    name, capability = device_name(device), ""
    if device.type == "cuda":
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
    return [
        dict.fromkeys(COLUMNS)
        | {f"{unit}_flop": 0 for unit in _UNITS}
        | {
            "run": run,
            "section": row.section,
            "module": row.module,
            "kernel": row.kernel,
            "name": " ".join(filter(None, (row.label, row.module.rpartition(".")[2]))),
            "family": row.family,
            "device": name,
            "compute_capability": capability,
            "grid": row.shapes,
            "block": "",
            "flop_source": "analytic" if row.known else "analytic_bytes_only",
            "source": "analytic",
            "first": row.first,
            "launches": row.calls,
            "time_s": row.seconds,
            f"{row.unit}_flop": row.flops,
            "bytes_hbm": row.bytes,
        }
        for row in rows
    ]


def write_costs(table: Sequence[dict], path: str | Path) -> None:
    """Write the table as CSV or Parquet, as the name says."""
    path = Path(path)
    with atomic_file(path) as file:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            columns = {name: [row[name] for row in table] for name in COLUMNS}
            texts = {name: pyarrow.array(columns[name], pyarrow.string()) for name in _TEXTS}
            numbers = {name: pyarrow.array(columns[name], pyarrow.float64()) for name in COLUMNS if name not in _TEXTS}
            pyarrow.parquet.write_table(pyarrow.table(texts | numbers), file)
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        file.write(text.getvalue().encode())


def section_table(rows: Sequence[OpRow]) -> str:
    """FLOPs, bytes, intensity and shares of each section, as lines."""
    whole = _totals(rows)
    lines = [f"{'section':15}{'GFLOP':>11}{'GB':>9}{'FLOP/byte':>11}{'of FLOPs':>10}{'of bytes':>10}{'of time':>9}"]
    for name in (*map(str, Section), "step"):
        part = whole if name == "step" else _totals([row for row in rows if row.section == name])
        flops, size, _ = part
        shares = "".join(f"{_ratio(a, b):>{width}.1%}" for a, b, width in zip(part, whole, (10, 10, 9)))
        lines.append(f"{name:15}{flops / 1e9:11.3f}{size / 1e9:9.3f}{_ratio(flops, size):11.2f}{shares}")
    return "\n".join(lines)


def measure_ceilings(path: str | Path, device: torch.device, *, size: int | None = None) -> tuple[Path, str | None]:
    """Measure this machine's ceilings by the roofline folder's `ceilings.py` and write them beside the table `path`.

    Args:
        path: the table; the charts look for `<name>.roofs.toml` beside it.
        device: what is measured.
        size: side of the matrices; by default the script's.
    Returns:
        The roofs' file, and None or a line on why there is none.
    """
    path = Path(path)
    roofs = path.with_name(f"{path.name.partition('.')[0]}.roofs.toml")
    command = [sys.executable, str(_SCRIPTS / "ceilings.py"), "--device", device.type, "-o", str(roofs.resolve())]
    done = subprocess.run(
        command + (["--size", str(size)] if size else []), capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        return (
            roofs,
            f"the machine's ceilings were not measured ({reason}): the charts have no roofs without --roofs FILE",
        )
    return roofs, None


def device_name(device: torch.device) -> str:
    """The GPU's name, or CPU with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _totals(rows: Sequence[OpRow]) -> tuple[int, int, float]:
    return sum(row.flops for row in rows), sum(row.bytes for row in rows), sum(row.seconds for row in rows)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
