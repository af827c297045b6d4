"""The file that --count_costs writes: a row per operator, section, module and shape; the roofline scripts draw it."""

import csv
import io
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..dist.accelerator import accelerator
from ..runs.atomic import atomic_file
from . import Section
from .cost_counter import OpRow


def table_rows(rows: Sequence[OpRow], *, run: str, device: torch.device) -> list[dict[str, str | float]]:
    """Return the rows with the columns that a count knows; who reads the table adds the others.

    FLOPs stand in the column of the unit that does them (`fp32_flop`), the others are absent. Bytes of memory
    (`bytes_hbm`) are what the operators read and write, caches left out.
    """
    name, capability = device_name(device), ".".join(map(str, accelerator(device).capability(device) or ()))
    return [
        {
            "run": run,
            "section": row.section,
            "module": row.module,
            "direction": row.direction,
            "operator": row.kernel,
            "kernel": row.kernel,
            "name": " ".join(filter(None, (row.label, row.module.rpartition(".")[2]))),
            "family": row.family,
            "device": name,
            "compute_capability": capability,
            "grid": row.shapes,
            "flop_source": "analytic" if row.known else "analytic_bytes_only",
            "source": "analytic",
            "first": row.first,
            "launches": row.calls,
            "time_s": row.seconds,
            "bytes_hbm": row.bytes,
            # The column says on which unit's roof the row has to be read.
            f"{row.unit}_flop": row.flops,
        }
        for row in rows
    ]


def write_costs(table: Sequence[dict[str, str | float]], path: str | Path) -> None:
    """Write the table as CSV or Parquet, as the name says."""
    path = Path(path)
    # Rows have the FLOPs of their own unit only: 0 in the columns of the others.
    columns = {
        name: [row.get(name, 0) for row in table] for name in dict.fromkeys(name for row in table for name in row)
    }
    with atomic_file(path) as file:
        if path.suffix == ".parquet":
            import pyarrow
            import pyarrow.parquet

            kinds = {True: pyarrow.string(), False: pyarrow.float64()}
            arrays = {
                name: pyarrow.array(values, kinds[isinstance(values[0], str)]) for name, values in columns.items()
            }
            pyarrow.parquet.write_table(pyarrow.table(arrays), file)
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
        file.write(text.getvalue().encode())


def section_table(rows: Sequence[OpRow]) -> str:
    """Return FLOPs, bytes, intensity and shares of each section as lines."""
    whole = _totals(rows)
    lines = [f"{'section':15}{'GFLOP':>11}{'GB':>9}{'FLOP/byte':>11}{'of FLOPs':>10}{'of bytes':>10}{'of time':>9}"]
    for name in (*map(str, Section), "step"):
        part = whole if name == "step" else _totals([row for row in rows if row.section == name])
        # FLOP / byte is the intensity, the roofline's horizontal axis.
        flops, size, _ = part
        shares = "".join(f"{_ratio(a, b):>{width}.1%}" for a, b, width in zip(part, whole, (10, 10, 9)))
        lines.append(f"{name:15}{flops / 1e9:11.3f}{size / 1e9:9.3f}{_ratio(flops, size):11.2f}{shares}")
    return "\n".join(lines)


def measure_ceilings(
    script: Path, path: str | Path, device: torch.device, *, size: int | None = None
) -> tuple[Path, str | None]:
    """Measure this machine's ceilings and write them beside the table `path`.

    Args:
        script: a program that measures them: `ceilings.py` of the roofline scripts.
        path: the table; the charts look for `<name>.roofs.toml` beside it.
        device: where to measure.
        size: side of the matrices; by default the script's.

    Returns:
        The roofs' file, and None or a line on why there is none.
    """
    path = Path(path)
    roofs = path.with_name(f"{path.name.partition('.')[0]}.roofs.toml")
    command = [sys.executable, str(script), "--device", device.type, "-o", str(roofs.resolve())]
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
    """Return the GPU's name, or CPU with its threads."""
    return accelerator(device).name(device) or f"CPU, {torch.get_num_threads()} threads"


def _totals(rows: Sequence[OpRow]) -> tuple[int, int, float]:
    return sum(row.flops for row in rows), sum(row.bytes for row in rows), sum(row.seconds for row in rows)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
