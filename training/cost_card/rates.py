"""Rates at which a device multiplies, moves and launches: measured at once on this CPU, a GPU's from its datasheet."""

import re
import time
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from models.fast.products import linear
from util.errors import UserError

#: The datasheets' figures; a file to read, for the roofline scripts stand alone.
GPU_TABLE = Path(__file__).parents[2] / "roofline-on-nvidia-gpus" / "custom-scripts" / "gpus.toml"
#: Seconds that PyTorch's host side takes for an operator, autograd's part included, where nobody measured it: 8 µs. A
#: launch alone is below 4 (NVIDIA's blog, "Getting Started with CUDA Graphs", 2019); the rest is PyTorch's.
LAUNCH_S = 8e-6
#: The shortest kernel of a GPU: about 2 µs.
KERNEL_S = 2e-6


@dataclass(frozen=True)
class Rates:
    """Work of a device in a second.

    Attributes:
        name: of the device.
        flops: FLOP/s by unit (fp32, tensor_bf16, ...) on a GPU; by kind of work (convolution, product) on a CPU.
        bandwidth: bytes a second to and from memory.
        launch: seconds of the host for an operator.
        measured: on this machine, not taken from a datasheet.
    """

    name: str
    flops: Mapping[str, float]
    bandwidth: float
    launch: float
    measured: bool


def gpu_rates(row: dict) -> Rates:
    """Return the rates of a row of gpus.toml."""
    # Where the datasheet's peak of the tensor cores is for another clock than that of the other units.
    tensor = row.get("tensor_clock_hz", row["clock_hz"])
    flops = {
        # multiprocessors x FLOP per clock and multiprocessor x clocks per second = FLOP/s
        unit: row["sms"] * each * (tensor if unit.startswith("tensor") else row["clock_hz"])
        for unit, each in row["flop_per_clock_per_sm"].items()
    }
    return Rates(row["name"], flops, row["hbm_bytes_per_second"], LAUNCH_S, measured=False)


def find_gpu(name: str) -> dict:
    """Return the row of gpus.toml for a name as a user writes it (a100-sxm4-80gb, h100). Raises UserError."""
    rows, by_driver = gpu_table(), find_driver_gpu(name)
    words = words_of(name)
    of_row = {id(row): words_of(row["name"]) for row in rows}
    exact = [row for row in rows if of_row[id(row)] == words]
    part = [row for row in rows if words and words <= of_row[id(row)]]
    # The most exact first. A name such as "a100" is a part of several rows' names: the first of them is taken.
    found = exact or ([by_driver] if by_driver else part)
    if not found:
        raise UserError(f"--cost_card {name}: no such GPU; known are {', '.join(row['name'] for row in rows)}")
    return found[0]


def find_driver_gpu(name: str) -> dict | None:
    """Return the row of gpus.toml for a name as the driver says it; None for a GPU that is not in it."""
    return next((row for row in gpu_table() if re.search(row["match"], name, re.IGNORECASE)), None)


def words_of(name: str) -> set[str]:
    """Return letters and numbers of a GPU's name in lower case, apart: 80GB is 80 and gb, SXM4 is sxm."""
    return {re.sub(r"^(sxm|pcie)\d+$", r"\1", word) for word in re.findall(r"\d+(?=gb)|[a-z0-9]+", name.lower())} - {
        "gb"
    }


@cache
def gpu_table() -> tuple[dict, ...]:
    """Return the rows of gpus.toml."""
    return tuple(tomllib.loads(GPU_TABLE.read_text(encoding="utf-8"))["gpu"])


@cache
def cpu_rates(dtype: torch.dtype, threads: int) -> Rates:
    """Measure this CPU, in about half a second: convolutions and products as a step has them, and sums.

    Args:
        dtype: the type of convolutions and products.
        threads: those of torch, so that another number is measured anew.
    """
    with torch.no_grad():
        flops = {"convolution": _convolution(dtype), "product": cpu_peak(dtype, threads)}
        return Rates(f"this CPU, {threads} threads", flops, _bandwidth(), _launch(), measured=True)


@cache
def cpu_peak(dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of a large matrix product on this CPU, measured in some 20 ms: what MFU is a share of.

    A feed-forward layer: 850 cells of 256 channels to 2,048. Arguments as those of `cpu_rates`.
    """
    with torch.no_grad():
        cells, weight = torch.ones(850, 256, dtype=dtype), torch.ones(2048, 256, dtype=dtype)
        # 2 M N K: 850 rows, and M N K / 850 is the number of weights.
        return 2 * 850 * weight.numel() / fastest(lambda: linear(cells, weight, None))


def _convolution(dtype: torch.dtype) -> float:
    """FLOP/s of ResNet-50's middle: 3 x 3 and 1 x 1 over maps of 50 x 66, the channels of a pixel side by side."""
    maps = torch.ones(1, 256, 50, 66, dtype=dtype).to(memory_format=torch.channels_last)
    wide = torch.ones(1, 1024, 50, 66, dtype=dtype).to(memory_format=torch.channels_last)
    square, narrow = torch.ones(256, 256, 3, 3, dtype=dtype), torch.ones(256, 1024, 1, 1, dtype=dtype)
    seconds = fastest(lambda: torch.conv2d(maps, square, padding=1)) + 2 * fastest(lambda: torch.conv2d(wide, narrow))
    # A product and a sum for each weight at each of the 50 x 66 places.
    return 2 * 50 * 66 * (square.numel() + 2 * narrow.numel()) / seconds


def _bandwidth() -> float:
    """Bytes a second of a sum of two maps of 16 MB, which write a third."""
    a, b, out = (torch.ones(2**22) for _ in range(3))
    # Three maps of 2^22 floats of 4 bytes: two are read, one is written. `out` is there before: no page faults.
    return 3 * 2**24 / fastest(lambda: torch.add(a, b, out=out))


def _launch() -> float:
    """Seconds of an operator that has next to nothing to do."""
    x = torch.ones(8)

    def hundred() -> None:
        for _ in range(100):
            x.add(1)

    return fastest(hundred) / 100


def fastest(work: Callable[[], object], repeats: int = 4) -> float:
    """Return the seconds of the fastest of a few calls after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    # The minimum: other processes can only make a run slower.
    return min(times)
