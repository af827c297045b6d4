"""A CPU's rates on a model's own convolutions and matrix products, each alone: what their shapes let them reach.

The shapes are those of a table of `main.py --count_costs`. Images lie in memory by channels or by pixels (channels
last): the faster of the two counts. An operator alone finds its data in the caches where it fits.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from . import RoofError
from .cpu_rates import Rate, best_seconds
from .table import read_table, total_flop

_FAMILIES = ("convolution", "matrix product")
_BACKWARD = "aten.convolution_backward.default"


def largest_shapes(path: Path, count: int) -> pd.DataFrame:
    """Return kernel, grid, flop (of a call) and share (of all FLOPs) of the operators with most FLOPs.

    Raises RoofError for a table without such operators, as one of GPU counters is.
    """
    rows = read_table(path)
    rows = rows.assign(flop=total_flop(rows), kernel=rows["kernel"].astype(str), grid=rows["grid"].astype(str))
    whole = rows["flop"].sum()
    chosen = rows[rows["family"].isin(_FAMILIES) & rows["kernel"].str.startswith("aten.") & (rows["flop"] > 0)]
    if chosen.empty:
        raise RoofError(f"{path}: no convolution or matrix product with its shapes; main.py --count_costs writes them")
    sums = chosen.groupby(["kernel", "grid"], as_index=False)[["flop", "launches"]].sum()
    # The share is of all calls, the FLOPs of one, which is what is timed.
    sums = sums.assign(share=sums["flop"] / whole, flop=sums["flop"] / sums["launches"])
    return sums.sort_values("share", ascending=False, ignore_index=True).head(count)


def measure_shapes(torch: Any, shapes: pd.DataFrame, *, repeats: int = 5) -> list[Rate]:
    """Return the rates in float32 and bfloat16 with the threads that torch uses. An unknown operator is left out."""
    rates = []
    for kind in (torch.float32, torch.bfloat16):
        for _, row in shapes.iterrows():
            sizes = [[int(n) for n in text.split("x")] for text in row["grid"].split(", ") if "x" in text]
            made = [[torch.rand(size).to(kind) for size in sizes]]
            # (N, C, H, W): a library's convolutions may be faster in another layout, and the faster one counts.
            if any(tensor.dim() == 4 for tensor in made[0]):
                made.append([tensor.to(memory_format=torch.channels_last) for tensor in made[0]])
            calls = [call for tensors in made if (call := _call(torch, row["kernel"], tensors, row["flop"]))]
            if not calls:
                continue
            what = f"{row['kernel'].split('.')[1]} {row['grid']}"
            value = row["flop"] / min(best_seconds(call, 1 << 30, repeats) for call in calls)
            rates.append(Rate(what, str(kind).removeprefix("torch."), torch.get_num_threads(), 0, value, "FLOP/s"))
    return rates


def _call(torch: Any, kernel: str, tensors: list[Any], flop: float) -> Callable[[], Any] | None:
    """Return the operator on its tensors, vectors left out; flop: of a call. None for one that is not known."""
    if kernel == _BACKWARD:
        gradient, image, weight = tensors[:3]
        # The stride: sides of input over output, rounded, for padding makes it inexact.
        steps = round(image.shape[-1] / gradient.shape[-1])
        # Stride, padding, dilation, transposed, output padding, groups; gradients of input and weight, not of a bias.
        options = ([steps] * 2, [weight.shape[-1] // 2] * 2, [1, 1], False, [0, 0], 1, [True, True, False])
        return lambda: torch.ops.aten.convolution_backward(gradient, image, weight, None, *options)
    if kernel.startswith("aten.convolution"):
        image, weight = tensors[:2]
        # The table has the input's size alone: pixels of the output are the FLOPs over those of one of them.
        pixels = flop / (2 * image.shape[0] * math.prod(weight.shape))
        steps = round(math.sqrt(math.prod(image.shape[2:]) / pixels))
        return lambda: torch.conv2d(image, weight, stride=steps, padding=weight.shape[-1] // 2)
    if kernel.startswith(("aten.mm.", "aten.addmm.", "aten.bmm.")):
        a, b = tensors[-2:]
        return lambda: a @ b
    return None
