"""Metrics of Nsight Compute that a roofline needs, by compute capability, the GPU's own peaks and clocks included.

Each name was looked up with `ncu --query-metrics --chips` of 2024.1 for 7.0 to 9.0 (gv100, tu102, ga100, ga102, ad102,
gh100), and in the section files of 2025.3 for 10.0 and later, where `collect.py` also asks the ncu at hand which of
them it knows.
"""

from .. import RoofError
from ..read.metrics import (
    CLOCK,
    CYCLES,
    DEVICE,
    DEVICE_NAME,
    DRAM_READ,
    DRAM_WRITE,
    HFMA2_INST,
    L1,
    L1_TMA,
    L2,
    L2_SM_SECTORS,
    OPS_PATH,
    PEAK,
    TENSOR_INST,
    TIME,
    thread_inst,
)

Capability = tuple[int, int]

#: Attributes that tell one GPU from another; they are in every report and need not be collected.
DEVICE_ATTRIBUTES = (
    DEVICE_NAME,
    f"{DEVICE}clock_rate",
    f"{DEVICE}compute_capability_major",
    f"{DEVICE}compute_capability_minor",
)

_BASE = (TIME, CYCLES, CLOCK)
_CORES = tuple(thread_inst(kind + op) for kind in "dfh" for op in ("add", "mul", "fma"))
_UNIT_PEAKS = tuple(thread_inst(op).removesuffix(".sum") + PEAK for op in ("ffma", "dfma", "hfma"))
_CLOCKS = tuple(f"{unit}__cycles_elapsed.avg.per_second" for unit in ("lts", "l1tex"))

_AMPERE = ("fp16_dst_fp16", "fp16_dst_fp32", "bf16_dst_fp32", "tf32_dst_fp32", "fp64")
_BLACKWELL = (*_AMPERE, "fp4_dst_fp32", "fp4_fp6_fp8_dst_fp16", "fp4_fp6_fp8_dst_fp32")
_SPARSE_KINDS = ("fp8_dst_fp16", "fp8_dst_fp32", "fp4_dst_fp32", "fp4_fp6_dst_fp16", "fp4_fp6_dst_fp32")
_GEFORCE_BLACKWELL = (*_AMPERE, *(f"{kind}_sparsity_{state}" for kind in _SPARSE_KINDS for state in ("off", "on")))
#: Operations of tensor cores by source and result type: totals only, for the parts of a total overlap it.
#: A GPU has the kinds of the newest capability that is not newer than its own.
_TENSOR_KINDS: dict[Capability, tuple[str, ...]] = {
    (7, 0): ("fp16_dst_fp16", "fp16_dst_fp32"),
    (7, 5): ("fp16_bf16_tf32_dst_fp32", "fp16_dst_fp16"),
    (8, 0): _AMPERE,
    (8, 9): (*_AMPERE, "fp8"),
    (9, 0): ("fp16", "bf16_dst_fp32", "tf32_dst_fp32", "fp64", "fp8"),
    (10, 0): _BLACKWELL,
    (12, 0): _GEFORCE_BLACKWELL,
}
#: GPUs whose memory is the host's: they have no counters of their own for it.
_WITHOUT_DRAM = {(8, 7), (11, 0), (12, 1)}
#: Names of DRAM_READ and DRAM_WRITE from capability 12.0 on.
_DRAM_12 = ("dram__bytes_op_read.sum", "dram__bytes_op_write.sum")
#: GPUs on which a half2 FMA runs on the tensor pipe, with a counter that tells it apart.
_WITH_HFMA2_COUNTER = {(8, 0), (9, 0)}


def parse_capability(text: str) -> Capability:
    """Return (8, 0) for "8.0". Raises RoofError for anything else, and for GPUs before the tensor cores' counters."""
    major, dot, minor = text.strip().partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise RoofError(f"--compute_capability {text}: give it as 8.0 (A100), 9.0 (H100), ...")
    capability = int(major), int(minor)
    if capability < (7, 0):
        raise RoofError(f"compute capability {text}: Nsight Compute profiles 7.0 (V100) and later")
    return capability


def metric_set(capability: Capability) -> list[str]:
    """Return the full names of the metrics to collect, each once."""
    tensor = [f"{OPS_PATH}src_{kind}" for kind in _tensor_kinds(capability)]
    # Counters of what ran come first, the peaks below.
    names = [*_BASE, *_CORES, L1, L2, L2_SM_SECTORS, *(f"{name}.sum" for name in tensor), TENSOR_INST]
    # From Hopper on, copies by TMA pass by the counters of ordinary loads: without these L1 has too few bytes.
    names += L1_TMA if capability >= (9, 0) else ()
    names += [HFMA2_INST] if capability in _WITH_HFMA2_COUNTER else []
    names += [*_CLOCKS, f"lts__lts2xbar_cycles_active{PEAK}", _l1_writeback(capability) + PEAK]
    names += [*_UNIT_PEAKS, *(f"{OPS_PATH}{kind}{PEAK}" for kind in _dense_kinds(capability))]
    if capability not in _WITHOUT_DRAM:
        names += _DRAM_12 if capability >= (12, 0) else (DRAM_READ, DRAM_WRITE)
        names += [f"dram__bytes{PEAK}", "dram__cycles_elapsed.avg.per_second"]
    return names


def base_name(metric: str) -> str:
    """Return a metric without its suffixes, as `ncu --query-metrics` lists it."""
    return metric.partition(".")[0]


def _tensor_kinds(capability: Capability) -> tuple[str, ...]:
    # Capabilities are pairs, so 8.6 and 8.7 find 8.0's row, and 12.1 that of 12.0.
    return _TENSOR_KINDS[max(known for known in _TENSOR_KINDS if known <= capability)]


def _dense_kinds(capability: Capability) -> list[str]:
    """Return the kinds whose peaks are those of dense matrices; a total's peak is that of sparse ones, twice as high.

    Capability 9.0 has no total without sparsity: wgmma's is its highest. What 10.0 and later have in its place could
    not be looked up: `roofs.py` halves the totals' peaks.
    """
    kinds = _tensor_kinds(capability)
    if not (8, 0) <= capability < (10, 0):
        return [f"src_{kind}" for kind in kinds]
    by_op = "op_hgmma_" if capability >= (9, 0) else ""
    return [
        f"src_{kind}" if kind == "fp64" else f"{'' if kind == 'fp8' else by_op}src_{kind}_sparsity_off"
        for kind in kinds
    ]


def _l1_writeback(capability: Capability) -> str:
    """Return the counter of L1's path back to the cores, whose name follows what it counts beside global memory."""
    part = "" if capability <= (7, 2) else "_mem_lg" if capability < (9, 0) else "_mem_lgds"
    return f"l1tex__lsu_writeback_active{part}"
