"""A device's roofs as torch reaches them: memory by copies, units by matrix products, a CPU's also by convolutions."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .errors import RoofError
from .roofs import Roofs

#: From a call to its seconds.
Clock = Callable[[Callable[[], Any]], float]


def measure_by_torch(device: str, size: int, *, repeats: int) -> Roofs:
    """Return memory bandwidth and the rates of products of `size` x `size` matrices; `repeats`: timed calls of each.

    Raises RoofError where torch sees no GPU for "cuda".
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RoofError("--device cuda: torch sees no GPU here; --device cpu measures this CPU")
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    clock = partial(_best_seconds, torch, device, repeats)
    peak = {}
    for unit, kind, tf32 in _torch_types(torch, device):
        # float32 products run on tensor cores or not by this switch alone, so it is set for every one of them.
        torch.backends.cuda.matmul.allow_tf32 = tf32
        peak[unit] = _matmul_rate(torch, clock, device, size, kind)
    if device == "cpu":  # two libraries: on some CPUs oneDNN's convolutions are twice as fast as the BLAS' products
        for unit, kind in (("fp32", torch.float32), ("tensor_bf16", torch.bfloat16)):
            peak[unit] = max(peak[unit], _convolution_rate(torch, clock, size, kind))
    # 1 GiB on a GPU, 256 MiB on a CPU: more than caches hold.
    source = torch.zeros((1 << 28) if device == "cuda" else (1 << 26), device=device)
    target = torch.empty_like(source)
    seconds = clock(lambda: target.copy_(source))
    # A copy reads and writes each byte.
    rate = 2 * source.numel() * source.element_size() / seconds
    kinds = f"matrix products, {'convolutions, ' if device == 'cpu' else ''}copies"
    how = f"measured on this {name} with torch {torch.__version__} ({kinds})"
    return Roofs(name, {"HBM": rate}, peak, source=how)


def _torch_types(torch: Any, device: str) -> list[tuple[str, Any, bool]]:
    """Return the units that a matrix product of a type exercises; a CPU may have instructions for bfloat16."""
    if device == "cpu":
        plain = [("fp64", torch.float64), ("fp32", torch.float32), ("tensor_bf16", torch.bfloat16)]
        return [(unit, kind, False) for unit, kind in plain]
    types = [("fp32", torch.float32, False), ("tensor_fp16", torch.float16, False)]
    # Ampere, 8.0, is the first with TF32 and bfloat16.
    if torch.cuda.get_device_capability()[0] >= 8:
        types += [("tensor_tf32", torch.float32, True), ("tensor_bf16", torch.bfloat16, False)]
    return types + [
        # cuBLAS multiplies doubles on tensor cores where a GPU has them: A100 (8.0) and H100 (9.0); elsewhere the
        # product measures the FP64 cores.
        ("tensor_fp64" if torch.cuda.get_device_capability() in ((8, 0), (9, 0)) else "fp64", torch.float64, False)
    ]


def _matmul_rate(torch: Any, clock: Clock, device: str, size: int, kind: Any) -> float:
    a, b = (torch.rand(size, size, device=device).to(kind) for _ in range(2))
    # An n x n product is n^3 multiplications and as many additions.
    return 2 * size**3 / clock(lambda: a @ b)


def _convolution_rate(torch: Any, clock: Clock, size: int, kind: Any) -> float:
    """Return the FLOP/s of a 3x3 convolution on a CPU; size: 6 times its channels, kind: its type."""
    channels, side = size // 6, 64
    image, weight = (torch.rand(shape).to(kind) for shape in ((1, channels, side, side), (channels, channels, 3, 3)))
    seconds = clock(lambda: torch.conv2d(image, weight, padding=1))
    # 9 taps for each of the pixels and pairs of channels, each a multiplication and an addition; padding keeps the
    # size.
    return 2 * 9 * channels**2 * side**2 / seconds


def _best_seconds(torch: Any, device: str, repeats: int, call: Callable[[], Any]) -> float:
    """Return the best of some timed calls after one that is not: other programs can only slow a roof down."""
    times = []
    for number in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if number:
            times.append(time.perf_counter() - start)
    return min(times)
