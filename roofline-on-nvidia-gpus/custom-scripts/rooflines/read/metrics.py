"""The metrics of Nsight Compute that a roofline needs, and the names they had over the versions.

A reader asks `column_of(name)` for each metric it meets and keeps only those with a column. Names were looked up with
`ncu --query-metrics` of 2024.1 for compute capability 7.0 to 9.0 and in the section files of 2025.3 for 10.0 and later.
"""

import re
from functools import cache

TIME = "gpu__time_duration.sum"
CYCLES = "sm__cycles_elapsed.avg"
CLOCK = "sm__cycles_elapsed.avg.per_second"
TENSOR_INST = "sm__inst_executed_pipe_tensor.sum"
HFMA2_INST = "sm__inst_executed_pipe_tensor_op_hmma_type_hfma2.sum"
DRAM, DRAM_READ, DRAM_WRITE = "dram__bytes.sum", "dram__bytes_read.sum", "dram__bytes_write.sum"
L2, L2_SM_SECTORS = "lts__t_bytes.sum", "lts__t_sectors_srcunit_tex.sum"
L1 = "l1tex__t_bytes.sum"
L1_TMA = ("l1tex__m_xbar2l1tex_read_bytes_pipe_tma.sum", "l1tex__m_l1tex2xbar_write_bytes_pipe_tma.sum")
DRAM_RATE = "dram__bytes.sum.per_second"
OPS_PATH = "sm__ops_path_tensor_"
PEAK, PEAK_RATE = ".sum.peak_sustained", ".sum.peak_sustained_elapsed.per_second"
DEVICE = "device__attribute_"
DEVICE_NAME = "device__attribute_display_name"


def thread_inst(op: str) -> str:
    """Return the metric that counts an operation of the CUDA cores (dadd, fmul, hfma, ...) over threads."""
    return f"sm__sass_thread_inst_executed_op_{op}_pred_on.sum"


# Without --metrics, ncu prints labels (--page details): the few that help.
_LABELS = {
    "Duration": TIME,
    "Elapsed Cycles": CYCLES,
    "SM Frequency": CLOCK,
    "Memory Throughput": DRAM_RATE,
}
_PLAIN = {
    TIME,
    CYCLES,
    CLOCK,
    TENSOR_INST,
    HFMA2_INST,
    DRAM,
    DRAM_READ,
    DRAM_WRITE,
    L2,
    L2_SM_SECTORS,
    L1,
    *L1_TMA,
    DRAM_RATE,
    "dram__cycles_elapsed.avg.per_second",
    "lts__cycles_elapsed.avg.per_second",
    "l1tex__cycles_elapsed.avg.per_second",
    DEVICE_NAME,
    f"{DEVICE}clock_rate",
    f"{DEVICE}compute_capability_major",
    f"{DEVICE}compute_capability_minor",
    *(thread_inst(kind + op) for kind in "dfh" for op in ("add", "mul", "fma")),
}
_ALIASES = {
    "gpu__time_duration.avg": TIME,
    "gpu__time_duration.max": TIME,
    "sm__cycles_elapsed.max": CYCLES,
    "sm__cycles_elapsed.max.per_second": CLOCK,
    "smsp__cycles_elapsed.avg.per_second": CLOCK,
}
_PEAK_OF = re.compile(
    r"(dram__bytes|lts__lts2xbar_cycles_active|l1tex__lsu_writeback_active(_mem_lgd?s?)?"
    r"|sm__sass_thread_inst_executed_op_[dfh]fma_pred_on|sm__ops_path_tensor_\w+)"
    r"\.sum\.peak_sustained(_elapsed\.per_second)?$"
)
_OPS = re.compile(r"sm__ops_path_tensor_\w+\.sum$")


@cache
def column_of(metric: str) -> str | None:
    """Return the name under which a metric is kept, None if a roofline does not need it."""
    name = _ALIASES.get(metric, metric)
    name = _LABELS.get(name, name)
    if name.startswith("smsp__sass_thread_inst"):  # the same count, summed over the SM's partitions
        name = name.replace("smsp__", "sm__", 1)
    return name if name in _PLAIN or _OPS.match(name) or _PEAK_OF.match(name) else None
