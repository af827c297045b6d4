"""Measure this machine's roofs and write them as a roofs file for postprocess.py.

    python ceilings.py -o roofs.toml               on a GPU with CuPy: kernels compiled at run time
    python ceilings.py --device cpu                torch's matrix products, convolutions and copies
    python ceilings.py --device cpu --details      also by size of the data, number type and threads
    python ceilings.py --device cpu --details --shapes costs.csv    also on a model's own convolutions and products
    python ceilings.py --ranks 2 -o RUN/bus.toml   only the bus between processes: NCCL on GPUs, gloo on a CPU

With CuPy: L1, L2 and HBM by kernels that read 16 KiB per block, a quarter of L2, and 1 GiB again and again; FP64, FP32,
FP16 by chains of FMA in registers (the method of the Empirical Roofline Toolkit,
https://crd.lbl.gov/departments/computer-science/par/research/roofline/software/ert/); tensor types by cuBLAS through
torch. Without CuPy, and on a CPU, torch does what it can: copies for
memory, matrix products for FP64, FP32 and tensor types; L1 and L2 stay unmeasured. The file says which it was.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rooflines import RoofError, atomic_file
from rooflines.bus import measure_bus, write_bus
from rooflines.charts.style import si
from rooflines.columns import UNITS
from rooflines.command_line import FlagParser, one_line_errors
from rooflines.cpu_rates import Rate, measure_rates
from rooflines.model_shapes import largest_shapes, measure_shapes
from rooflines.roofs import Roofs, write_roofs

REPEATS = 7
#: Operators of a model that --shapes measures: those with most FLOPs.
_SHAPES = 12

#: Every thread of a block reads the block's own part of the buffer `passes` times; the sum keeps the compiler honest.
_READ = r"""
extern "C" __global__ void read_again(const float4* __restrict__ data, float* out, long long per_block, int passes) {
    const float4* mine = data + (per_block ? (long long)blockIdx.x * per_block : 0);
    long long count = per_block ? per_block : (long long)COUNT;
    long long step = per_block ? blockDim.x : (long long)blockDim.x * gridDim.x;
    long long first = per_block ? threadIdx.x : (long long)blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0.f;
    for (int pass = 0; pass < passes; ++pass)
        for (long long i = first; i < count; i += step) {
            float4 v;
            asm volatile("ld.global.LOAD.v4.f32 {%0,%1,%2,%3}, [%4];"
                         : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(mine + i));
            sum += v.x + v.y + v.z + v.w;
        }
    if (sum == 12345.678f) out[0] = sum;
}
"""
#: Eight independent chains of FMA a thread, enough to hide the unit's latency.
_FMA = r"""
HEADER
extern "C" __global__ void fma_chain(TYPE* out, int steps) {
    TYPE a = MAKE(1.0001f), b = MAKE(0.0001f), x[8];
    #pragma unroll
    for (int k = 0; k < 8; ++k) x[k] = MAKE(0.5f + threadIdx.x + k);
    for (int i = 0; i < steps; ++i) {
        #pragma unroll
        for (int k = 0; k < 8; ++k) x[k] = FUSED(x[k], a, b);
    }
    TYPE sum = x[0];
    #pragma unroll
    for (int k = 1; k < 8; ++k) sum = FUSED(x[k], a, sum);
    if (steps < 0) out[threadIdx.x] = sum;
}
"""
_FMA_TYPES = {  # type, constructor, fma, header, FLOPs per call
    "fp64": ("double", "double", "fma", "", 2),
    "fp32": ("float", "float", "fmaf", "", 2),
    "fp16": ("__half2", "__float2half2_rn", "__hfma2", "#include <cuda_fp16.h>", 4),
}


def measure(device: str, *, size: int | None = None) -> Roofs:
    """Return the measured roofs of "cuda" or "cpu". size: side of torch's matrices (default: 8192, on a CPU 1536)."""
    if device == "cpu":
        return _measure_torch("cpu", size or 1536)
    tensor = _measure_torch("cuda", size or 8192)
    try:
        import cupy
    except ImportError:
        print("CuPy is not installed (pip install cupy-cuda12x): torch measures what it can, L1 and L2 stay unmeasured")
        return tensor
    # Rates of cores and memory come from the compiled kernels; torch's only fill what those do not have, the tensor
    # types.
    return _measure_cupy(cupy).merged(tensor)


def _measure_cupy(cupy: Any) -> Roofs:
    """Return L1, L2, HBM and the rates of the CUDA cores by kernels compiled at run time."""
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    sms, l2 = properties["multiProcessorCount"], properties["l2CacheSize"]
    bandwidth = {
        # 16 KiB a block, two blocks an SM: 32 KiB fit even the smallest L1 beside shared memory. A quarter of L2, for
        # where it has two halves (A100) data may lie in both. 1 GiB or 8 times L2 is far more than any cache keeps.
        "L1": _read_rate(cupy, sms, bytes_per_block=16384, total=0),
        "L2": _read_rate(cupy, sms, bytes_per_block=0, total=l2 // 4, bypass=True),
        "HBM": _read_rate(cupy, sms, bytes_per_block=0, total=max(1 << 30, 8 * l2), bypass=True),
    }
    # FLOP/s by unit; bandwidth above in byte/s.
    peak = {unit: _fma_rate(cupy, sms, *kind) for unit, kind in _FMA_TYPES.items()}
    name = properties["name"].decode()
    return Roofs(name, bandwidth, peak, source=f"measured on this {name} with CuPy {cupy.__version__} (cores, memory)")


def _read_rate(cupy: Any, sms: int, *, bytes_per_block: int, total: int, bypass: bool = False) -> float:
    """Return byte/s of reads that fit a level: a few KiB per block for L1, a buffer common to all blocks otherwise."""
    # Two blocks of 1,024 threads fill the 2,048 places of an SM of A100 and H100.
    blocks, threads = sms * 2, 1024
    total = total or blocks * bytes_per_block
    # ld.global.cg passes by L1, ld.global.ca goes through it: without the first, L2 and HBM would partly measure L1.
    code = _READ.replace("LOAD", "cg" if bypass else "ca").replace("COUNT", str(total // 16))
    kernel = cupy.RawKernel(code, "read_again")
    # float4 is 16 bytes, float32 is 4: counts in the kernel are of the first, the buffer is of the second.
    data = cupy.zeros(total // 4, dtype=cupy.float32)
    out = cupy.zeros(1, dtype=cupy.float32)
    per_block = bytes_per_block // 16
    # 8 GiB of reads in any case: long beside the launch of a kernel.
    passes = max(1, (1 << 33) // (blocks * bytes_per_block if bytes_per_block else total))
    seconds = _cupy_time(
        cupy, lambda: kernel((blocks,), (threads,), (data, out, cupy.int64(per_block), cupy.int32(passes)))
    )
    return passes * (blocks * bytes_per_block if bytes_per_block else total) / seconds


def _fma_rate(cupy: Any, sms: int, kind: str, make: str, fused: str, header: str, flops: int) -> float:
    code = _FMA.replace("HEADER", header).replace("TYPE", kind).replace("MAKE", make).replace("FUSED", fused)
    kernel = cupy.RawKernel(code, "fma_chain", options=("--std=c++14",))
    # Never written, for `steps` is not negative; the compiler cannot know that and has to keep the chains.
    out = cupy.zeros(4096, dtype=cupy.float64)
    # 8 blocks of 256 threads fill an SM; 4,096 steps of 8 chains outlast the launch.
    blocks, threads, steps = sms * 8, 256, 4096
    seconds = _cupy_time(cupy, lambda: kernel((blocks,), (threads,), (out, cupy.int32(steps))))
    # `flops` is 2 for an FMA, 4 for one of two halves at once.
    return blocks * threads * steps * 8 * flops / seconds


def _cupy_time(cupy: Any, call: Callable[[], None]) -> float:
    """Return the median seconds of a call on the device, the first one (compilation) left out."""
    times = []
    for number in range(REPEATS + 1):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        end.record()
        end.synchronize()
        if number:
            # CUDA's events count milliseconds.
            times.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    return statistics.median(times)


def _measure_torch(device: str, size: int) -> Roofs:
    """Return memory bandwidth by a copy, and matrix product rates, by torch."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise RoofError("--device cuda: torch sees no GPU here; --device cpu measures this CPU")
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    peak = {}
    for unit, kind, tf32 in _torch_types(torch, device):
        # float32 products run on tensor cores or not by this switch alone, so it is set for every one of them.
        torch.backends.cuda.matmul.allow_tf32 = tf32
        peak[unit] = _matmul_rate(torch, device, size, kind)
    if device == "cpu":  # two libraries: on some CPUs oneDNN's convolutions are twice as fast as the BLAS' products
        for unit, kind in (("fp32", torch.float32), ("tensor_bf16", torch.bfloat16)):
            peak[unit] = max(peak[unit], _convolution_rate(torch, size, kind))
    # 1 GiB on a GPU, 256 MiB on a CPU: more than caches hold.
    source = torch.zeros((1 << 28) if device == "cuda" else (1 << 26), device=device)
    target = torch.empty_like(source)
    seconds = _torch_time(torch, device, lambda: target.copy_(source))
    # A copy reads and writes each byte.
    rate = 2 * source.numel() * source.element_size() / seconds
    kinds = f"matrix products, {'convolutions, ' if device == 'cpu' else ''}copies"
    how = f"measured on this {name} with torch {torch.__version__} ({kinds})"
    return Roofs(name, {"HBM": rate}, peak, source=how)


def _torch_types(torch: Any, device: str) -> list[tuple[str, Any, bool]]:
    """Return the units that a matrix product of a type exercises; a CPU may have instructions for bfloat16."""
    if device == "cpu":
        types = [("fp64", torch.float64), ("fp32", torch.float32), ("tensor_bf16", torch.bfloat16)]
        return [(unit, kind, False) for unit, kind in types]
    types = [("fp32", torch.float32, False), ("tensor_fp16", torch.float16, False)]
    # Ampere, 8.0, is the first with TF32 and bfloat16.
    if torch.cuda.get_device_capability()[0] >= 8:
        types += [("tensor_tf32", torch.float32, True), ("tensor_bf16", torch.bfloat16, False)]
    return types + [
        # cuBLAS multiplies doubles on tensor cores where a GPU has them: A100 (8.0) and H100 (9.0); elsewhere the
        # product measures the FP64 cores.
        ("tensor_fp64" if torch.cuda.get_device_capability() in ((8, 0), (9, 0)) else "fp64", torch.float64, False)
    ]


def _matmul_rate(torch: Any, device: str, size: int, kind: Any) -> float:
    a, b = (torch.rand(size, size, device=device).to(kind) for _ in range(2))
    # An n x n product is n^3 multiplications and as many additions.
    return 2 * size**3 / _torch_time(torch, device, lambda: a @ b)


def _convolution_rate(torch: Any, size: int, kind: Any) -> float:
    """Return the FLOP/s of a 3x3 convolution on a CPU; size: 6 times its channels, kind: its type."""
    channels, side = size // 6, 64
    image, weight = (torch.rand(shape).to(kind) for shape in ((1, channels, side, side), (channels, channels, 3, 3)))
    seconds = _torch_time(torch, "cpu", lambda: torch.conv2d(image, weight, padding=1))
    # 9 taps for each of the pixels and pairs of channels, each a multiplication and an addition; padding keeps the
    # size.
    return 2 * 9 * channels**2 * side**2 / seconds


def _torch_time(torch: Any, device: str, call: Callable[[], Any]) -> float:
    """Return the best of some timed calls after one that is not: other programs can only slow a roof down."""
    times = []
    for number in range(REPEATS + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        if number:
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Measure, print, and write the file."""
    parser = FlagParser(description=__doc__)
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("roofs.toml"), help="roofs file (default: %(default)s)"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda where torch sees one, else cpu")
    parser.add_argument("--size", type=int, help="side of torch's matrices (default: 8192; on a CPU 1536)")
    parser.add_argument(
        "--details",
        action="store_true",
        help="on a CPU also copy and triad by size of the data, products by number type, by threads",
    )
    parser.add_argument(
        "--shapes",
        type=Path,
        metavar="FILE",
        help="with --details: also the 12 convolutions and products with most FLOPs in a table of --count_costs",
    )
    parser.add_argument(
        "--ranks", type=int, metavar="N", help="measure only all-reduces among N processes, each on a GPU of its own"
    )
    args = parser.parse_args()
    if args.ranks is not None and (args.ranks < 2 or args.details):
        parser.error("--ranks needs 2 processes or more, and measures nothing else")
    with one_line_errors():
        device = args.device or _default_device()
        if args.details and device != "cpu":
            parser.error("--details is about a CPU: add --device cpu")
        if args.shapes and not args.details:
            parser.error("--shapes adds to --details: give both")
        shapes = largest_shapes(args.shapes, _SHAPES) if args.shapes else None
        if args.ranks:
            _measure_bus(args.ranks, device, args.output)
            return
        roofs = measure(device, size=args.size)
        write_roofs(roofs, args.output)
        if args.details:
            _add_details(args.output, args.size or 1536, shapes)
    print(roofs.source)
    for level, rate in roofs.bandwidth.items():
        print(f"  {level if roofs.device.find('CPU') < 0 else 'memory':<12} {si(rate, 'B/s')}")
    for unit, rate in roofs.peak.items():
        print(f"  {UNITS[unit]:<12} {si(rate, 'FLOP/s')}")
    print(f"wrote {args.output}")


def _add_details(path: Path, side: int, shapes: Any) -> None:
    """Measure a CPU's rates, print them and add them to the roofs file, whose readers leave them out."""
    import torch

    rates: list[Rate] = measure_rates(torch, side=side, repeats=REPEATS)
    if shapes is not None:
        rates += measure_shapes(torch, shapes, repeats=REPEATS)
    for rate in rates:
        over = f" over {si(rate.size, 'B')}" if rate.size else ""
        print(f"  {rate.threads} threads: {rate.what} {rate.type}{over} {si(rate.value, rate.unit)}")
    text = path.read_text(encoding="utf-8") + "\n" + "\n".join(rate.toml() for rate in rates)
    with atomic_file(path) as file:
        file.write(text.encode())


def _measure_bus(ranks: int, device: str, path: Path) -> None:
    """Measure all-reduces among processes, print and write them."""
    bus = measure_bus(ranks, device)
    write_bus(bus, path)
    print(f"all-reduce among {ranks} processes by {bus.backend}, byte/s of the bus:")
    for size, rate in bus.rates.items():
        print(f"  {si(size, 'B'):>8}  {si(rate, 'B/s')}")
    print(f"wrote {path}")


def _default_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    print("torch sees no GPU: measuring the CPU")
    return "cpu"


if __name__ == "__main__":
    main()
