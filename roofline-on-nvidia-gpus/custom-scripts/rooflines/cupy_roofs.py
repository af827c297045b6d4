"""A GPU's roofs by kernels that CuPy compiles at run time: L1, L2 and HBM by reads, CUDA cores by chains of FMA.

The method of the Empirical Roofline Toolkit: 16 KiB per block, a quarter of L2, and 1 GiB are read again and again;
FP64, FP32 and FP16 compute in registers.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from .roofs import Roofs

#: From a call to its seconds.
Clock = Callable[[Callable[[], None]], float]

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


def measure_by_cupy(cupy: Any, *, repeats: int) -> Roofs:
    """Return L1, L2, HBM and the rates of the CUDA cores; `repeats`: timed calls of each kernel."""
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    sms, l2 = properties["multiProcessorCount"], properties["l2CacheSize"]
    clock = partial(_median_seconds, cupy, repeats)
    bandwidth = {
        # 16 KiB a block, two blocks an SM: 32 KiB fit even the smallest L1 beside shared memory. A quarter of L2, for
        # where it has two halves (A100) data may lie in both. 1 GiB or 8 times L2 is far more than any cache keeps.
        "L1": _read_rate(cupy, clock, sms, bytes_per_block=16384, total=0),
        "L2": _read_rate(cupy, clock, sms, bytes_per_block=0, total=l2 // 4, bypass=True),
        "HBM": _read_rate(cupy, clock, sms, bytes_per_block=0, total=max(1 << 30, 8 * l2), bypass=True),
    }
    # FLOP/s by unit; bandwidth above in byte/s.
    peak = {unit: _fma_rate(cupy, clock, sms, kind) for unit, kind in _FMA_TYPES.items()}
    name = properties["name"].decode()
    return Roofs(name, bandwidth, peak, source=f"measured on this {name} with CuPy {cupy.__version__} (cores, memory)")


def _read_rate(cupy: Any, clock: Clock, sms: int, *, bytes_per_block: int, total: int, bypass: bool = False) -> float:
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
    seconds = clock(lambda: kernel((blocks,), (threads,), (data, out, cupy.int64(per_block), cupy.int32(passes))))
    return passes * (blocks * bytes_per_block if bytes_per_block else total) / seconds


def _fma_rate(cupy: Any, clock: Clock, sms: int, kind: tuple[str, str, str, str, int]) -> float:
    """Return FLOP/s of chains of FMA in registers; kind: one of `_FMA_TYPES`."""
    name, make, fused, header, flops = kind
    code = _FMA.replace("HEADER", header).replace("TYPE", name).replace("MAKE", make).replace("FUSED", fused)
    kernel = cupy.RawKernel(code, "fma_chain", options=("--std=c++14",))
    # Never written, for `steps` is not negative; the compiler cannot know that and has to keep the chains.
    out = cupy.zeros(4096, dtype=cupy.float64)
    # 8 blocks of 256 threads fill an SM; 4,096 steps of 8 chains outlast the launch.
    blocks, threads, steps = sms * 8, 256, 4096
    seconds = clock(lambda: kernel((blocks,), (threads,), (out, cupy.int32(steps))))
    # `flops` is 2 for an FMA, 4 for one of two halves at once.
    return blocks * threads * steps * 8 * flops / seconds


def _median_seconds(cupy: Any, repeats: int, call: Callable[[], None]) -> float:
    """Return the median seconds of a call on the device, the first one (compilation) left out."""
    times = []
    for number in range(repeats + 1):
        start, end = cupy.cuda.Event(), cupy.cuda.Event()
        start.record()
        call()
        end.record()
        end.synchronize()
        if number:
            # CUDA's events count milliseconds.
            times.append(cupy.cuda.get_elapsed_time(start, end) / 1e3)
    return statistics.median(times)
