"""The processing units whose work a roofline counts, and the levels of the memory hierarchy: keys, names, order."""

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
UNIT_NAMES = UNITS | {MEMORY_ONLY: "no FLOPs"}

#: Level -> column of the tidy table, nearest to the cores first.
LEVELS = {"L1": "bytes_l1", "L2": "bytes_l2", "HBM": "bytes_hbm"}

SECTIONS = ("forward", "loss", "backward", "optimizer_step")
