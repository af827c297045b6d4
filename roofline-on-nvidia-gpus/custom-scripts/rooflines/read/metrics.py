"""The metrics of Nsight Compute that a roofline needs, and the names they had over the versions.

A reader asks `column_of(name)` for each metric it meets and keeps only those with a column. Names were looked up with
`ncu --query-metrics` of 2024.1 for compute capability 7.0 to 9.0 and in the section files of 2025.3 for 10.0 and later.
"""

import re
from functools import cache

TIME = "gpu__time_duration.sum"
CYCLES = "sm__cycles_elapsed.avg"
CLOCK = "sm__cycles_elapsed.avg.per_second"
#: The slowest SM's: taken only where the mean was not collected. Sums per cycle are per mean cycle.
CYCLES_MAX, CLOCK_MAX = "sm__cycles_elapsed.max", "sm__cycles_elapsed.max.per_second"
TENSOR_INST = "sm__inst_executed_pipe_tensor.sum"
#: Parts of TENSOR_INST by kind of matrix instruction, in the sections of versions that do not collect the whole.
TENSOR_PARTS = tuple(f"sm__inst_executed_pipe_tensor_op_{kind}.sum" for kind in ("hmma", "imma", "dmma"))
HFMA2_INST = "sm__inst_executed_pipe_tensor_op_hmma_type_hfma2.sum"
DRAM, DRAM_READ, DRAM_WRITE = "dram__bytes.sum", "dram__bytes_read.sum", "dram__bytes_write.sum"
L2, L2_SM_SECTORS = "lts__t_bytes.sum", "lts__t_sectors_srcunit_tex.sum"
L1 = "l1tex__t_bytes.sum"
L1_TMA = ("l1tex__m_xbar2l1tex_read_bytes_pipe_tma.sum", "l1tex__m_l1tex2xbar_write_bytes_pipe_tma.sum")
OPS_PATH = "sm__ops_path_tensor_"
PEAK, PEAK_RATE = ".sum.peak_sustained", ".sum.peak_sustained_elapsed.per_second"
#: A sum can be given per cycle of its unit's clock, or per second: the sections of `--set` have these forms.
PER_CYCLE, PER_SECOND = ".per_cycle_elapsed", ".per_second"
DEVICE = "device__attribute_"
DEVICE_NAME = "device__attribute_display_name"


def thread_inst(op: str) -> str:
    """Return the metric that counts an operation of the CUDA cores (dadd, fmul, hfma, ...) over threads."""
    return f"sm__sass_thread_inst_executed_op_{op}_pred_on.sum"


def unit_clock(unit: str) -> str:
    """Return the metric of the clock that a unit (sm, dram, lts, l1tex) counts its cycles in."""
    return f"{unit}__cycles_elapsed.avg.per_second"


THREAD_INST = tuple(thread_inst(kind + op) for kind in "dfh" for op in ("add", "mul", "fma"))
_SUMS = {
    TIME,
    TENSOR_INST,
    *TENSOR_PARTS,
    HFMA2_INST,
    DRAM,
    DRAM_READ,
    DRAM_WRITE,
    L2,
    L2_SM_SECTORS,
    L1,
    *L1_TMA,
    *THREAD_INST,
}
_PLAIN = {
    CYCLES,
    CYCLES_MAX,
    CLOCK_MAX,
    *(unit_clock(unit) for unit in ("sm", "dram", "lts", "l1tex")),
    DEVICE_NAME,
    *(DEVICE + name for name in ("clock_rate", "compute_capability_major", "compute_capability_minor")),
}
#: Without --metrics, ncu prints labels (--page details): the few that help. "Memory Throughput" is both a share in
#: percent and a rate: the unit decides.
_LABELS = {
    "Duration": TIME,
    "Elapsed Cycles": CYCLES,
    "SM Frequency": CLOCK,
    "Memory Throughput": DRAM + PER_SECOND,
}
_ALIASES = {
    **{f"gpu__time_duration.{kind}": TIME for kind in ("avg", "max")},
    "dram__bytes_op_read": "dram__bytes_read",  # its name on capability 12.x
    "dram__bytes_op_write": "dram__bytes_write",
}
_PEAK_OF = re.compile(
    r"(dram__bytes|lts__lts2xbar_cycles_active|l1tex__lsu_writeback_active(_mem_lgd?s?)?"
    r"|sm__sass_thread_inst_executed_op_[dfh]fma_pred_on|sm__ops_path_tensor_\w+)"
    r"\.sum\.peak_sustained(_elapsed\.per_second)?$"
)
_OPS = re.compile(r"sm__ops_path_tensor_\w+\.sum$")
# A multiple that a section file derives: derived__smsp__sass_thread_inst_executed_op_ffma_pred_on_x2 is per cycle.
_DERIVED = re.compile(r"derived__smsp__(?P<base>sass_thread_inst_executed_op_[dfh](?:add|mul|fma)_pred_on)_x\d$")
# Counts of the SM's partitions, summed over them, are the SM's.
_PARTITION = re.compile(r"smsp__(?=sass_thread_inst|inst_executed_pipe_tensor|cycles_elapsed|ops_path_tensor)")


@cache
def column_of(metric: str) -> str | None:
    """Return the name under which a metric is kept, None if a roofline does not need it.

    Forms of a sum per cycle and per second keep their ending; `forms.complete` turns them into the sum.
    """
    if metric in _LABELS:
        return _LABELS[metric]
    if match := _DERIVED.match(metric):
        return f"sm__{match['base']}.sum{PER_CYCLE}"
    # An SM has four partitions (smsp); sums over either are the same count.
    name = _PARTITION.sub("sm__", metric, count=1)
    base, dot, ending = name.partition(".")
    name = _ALIASES.get(name, _ALIASES.get(base, base) + dot + ending)
    total = name.removesuffix(PER_CYCLE).removesuffix(PER_SECOND)
    known = name in _PLAIN or total in _SUMS or _OPS.match(total) or _PEAK_OF.match(name)
    return name if known else None


@cache
def factor_of(metric: str) -> float:
    """Return the factor that a derived multiple (`..._x2`) is to be multiplied by, 1 for every other metric."""
    return 1 / int(metric[-1]) if _DERIVED.match(metric) else 1.0


@cache
def dimension_of(column: str) -> str:
    """Return what a column counts: "time", "byte", "count" (of anything else), "text"; with "/time" or "/cycle" where
    it is a rate. A value in a unit of another dimension is another quantity under the same label.
    """
    if column == DEVICE_NAME:
        return "text"
    # Clocks, in hertz.
    if column.endswith("cycles_elapsed.avg.per_second") or column == DEVICE + "clock_rate":
        return "count/time"
    kind = "time" if column.startswith("gpu__time") else "byte" if "bytes" in column.partition(".")[0] else "count"
    if column.endswith((PER_CYCLE, ".peak_sustained")):
        return f"{kind}/cycle"
    return f"{kind}/time" if column.endswith(PER_SECOND) else kind
