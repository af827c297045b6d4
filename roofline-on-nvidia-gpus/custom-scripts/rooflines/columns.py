"""Columns of the tidy table, and the vocabulary they come from: processing units, memory levels, sections of a step.

This is the one place that knows them. A source that does not know a column leaves it out: `table.tidy` adds it.
"""

#: Key in the tidy table (column `<key>_flop`) and in roof files -> name in charts and texts.
UNITS = {
    "fp64": "FP64",
    "fp32": "FP32",
    "fp16": "FP16",
    "tensor_fp64": "FP64 tensor",
    "tensor_tf32": "TF32 tensor",
    "tensor_bf16": "BF16 tensor",
    "tensor_fp16": "FP16 tensor",
    "tensor_fp8": "FP8 tensor",
    "tensor_fp4": "FP4/FP6 tensor",
}
FLOP_COLUMNS = {key: f"{key}_flop" for key in UNITS}
TENSOR_UNITS = tuple(key for key in UNITS if key.startswith("tensor_"))

#: A kernel that counts no floating-point operation at all: copies, casts, indexing, integer work.
MEMORY_ONLY = "none"
#: A kernel whose operations were not counted: it may do many.
UNMEASURED = "unmeasured"
UNIT_NAMES = UNITS | {MEMORY_ONLY: "no FLOPs", UNMEASURED: "FLOPs not measured"}

#: Level -> column of the tidy table, nearest to the cores first.
LEVELS = {"L1": "bytes_l1", "L2": "bytes_l2", "HBM": "bytes_hbm"}

#: Section of a step -> the direction of the modules' work in it; "recompute" is told by ranges.
DIRECTIONS = {"forward": "forward", "loss": "forward", "backward": "backward", "optimizer_step": "optimizer"}
SECTIONS = tuple(DIRECTIONS)

TEXT_COLUMNS = {
    "run": "name of the run, e.g. bs8_optimized",
    "rank": "number of the process among several; empty if not known",
    "section": "forward, loss, backward, optimizer_step, or another NVTX range; empty if not known",
    "module": "innermost range of a module, e.g. backbone or transformer.encoder; empty outside any module",
    "direction": "forward, backward, recompute (--grad_checkpoint) or optimizer; empty if not known",
    "operator": "torch's operator that started the kernel, e.g. aten::convolution; empty if not known",
    "kernel": "full name of the kernel or operator",
    "name": "readable name",
    "family": "kind of work, e.g. convolution, elementwise",
    "device": "name of the GPU or CPU, or its number where the report has no name",
    "compute_capability": "e.g. 8.0; empty on a CPU",
    "grid": "launch grid, or the operator's shapes",
    "block": "thread block",
    "flop_source": "how the FLOPs were counted, see FLOP_SOURCES in read/flops.py",
    "source": "ncu, analytic, torch (a trace of torch.profiler) or nsys",
}
NUMBER_COLUMNS = {
    "first": "number of the first launch in its file: the order in time",
    "launches": "number of launches summed in this row",
    "time_s": "seconds on the device",
    "clock_hz": "clock of the cores while this ran, weighted by time",
    "nvml_clock_hz": "clock of the cores while the report was made, mean of a reading each second (NVML)",
    "memory_clock_hz": "clock of the GPU's memory, likewise",
    "temperature_c": "the GPU's highest temperature in the meantime, degrees Celsius (NVML)",
    **{column: "floating-point operations; an FMA counts 2" for column in FLOP_COLUMNS.values()},
    "tensor_int_op": "integer operations of the tensor cores; no FLOPs, in no sum",
    **{column: f"bytes between the cores and {level}" for level, column in LEVELS.items()},
    "tensor_inst": "raw: warp instructions on the tensor pipe, constant loads included",
    "hfma_inst": "raw: thread instructions HFMA and HFMA2, constant loads included",
}
COLUMNS = (*TEXT_COLUMNS, *NUMBER_COLUMNS)
#: The GPU's state that collect.py notes in a report's record.
GPU_STATE = ("nvml_clock_hz", "memory_clock_hz", "temperature_c")
#: Columns that are no sums over launches: means weighted by time, and highest values.
MEANS = ("clock_hz", "nvml_clock_hz", "memory_clock_hz")
HIGHEST = ("temperature_c",)
