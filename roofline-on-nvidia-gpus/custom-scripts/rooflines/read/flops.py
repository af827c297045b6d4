"""Floating-point operations of each kernel launch, and the source of each count.

CUDA cores: add + mul + 2 fma over threads whose predicate is true; FP16 instructions work on two lanes, so twice that
(ncu 2025.3's own sections: hadd x2 + hmul x2 + hfma x4). Tensor cores, the first of these that the report allows:

1. `sm__ops_path_tensor_*`: operations counted by the hardware, one FMA is 2. Of one type, the total is taken; else the
   sum of its sparsity parts; else the sum of its instruction kinds. They overlap, so never more than one of the three.
2. Warp instructions on the tensor pipe times 2 M N K of the matrix instruction that the kernel's name gives.
3. On capability 7.0 (V100), 512 per instruction: HMMA.884 in four steps.
4. A name without a shape, on 8.x, whose tensor instructions cannot be HFMA2.MMA (no HFMA at all): 16x8x16 for 16-bit
   types, 16x8x8 for TF32, as the estimate that it is.

`HFMA2.MMA` runs on the tensor pipe of A100 and later but is a half2 FMA, and the compiler uses it to load constants:
copy kernels count thousands. In a kernel whose name gives no matrix shape, tensor instructions are these, and count 0
unless it computes in half precision. The raw counts stay in the table.

No counter tells these apart: half to float conversions are HADD2.F32 and count as FP16 additions; exponentials, roots
and comparisons are no FLOPs.
"""

import re

import numpy as np
import pandas as pd

from ..columns import FLOP_COLUMNS
from .kernel_names import does_half_math, flop_per_inst, has_half_type, tensor_type
from .metrics import HFMA2_INST, OPS_PATH, TENSOR_INST, THREAD_INST, thread_inst

FLOP_SOURCES = {
    "cores": "instructions of the CUDA cores; no tensor work",
    "cores_only": "instructions of the CUDA cores; tensor work was not counted",
    "ops_path": "sm__ops_path_tensor_*, counted by the hardware",
    "inst_x_shape": "tensor instructions x 2MNK of the shape in the kernel's name",
    "inst_x_512": "tensor instructions x 512 (V100)",
    "inst_x_assumed_shape": "tensor instructions x the usual shape: an estimate",
    "tensor_unknown": "tensor instructions that cannot be turned into FLOPs; their FLOPs are missing",
    "constants_excluded": "HFMA2.MMA that load constants are counted as 0",
    "missing": "the report has no FLOP metric",
    "hfma_unknown": "HFMA that may load constants or compute: counted as 0, their FLOPs may be missing",
    "analytic": "formulas on shapes, not measured",
    "analytic_bytes_only": "an operator without a formula: bytes counted, FLOPs missing",
}
_ESTIMATED_SHAPE = {"tensor_tf32": 2 * 16 * 8 * 8, "tensor_fp64": 2 * 8 * 8 * 4}  # others: 16x8x16
_V100 = 512
_FEW_PER_THREAD = 64  # constants that a thread may load; a real softmax on half loads 23
_OPS_NAME = re.compile(
    OPS_PATH
    + r"(?P<op>op_\w+?_)?src_(?P<type>int\d|[a-z0-9_]+?)(?:_dst_(?P<dst>\w+?))?(?P<part>_sparsity_(?:on|off))?\.sum$"
)


def count_flops(launches: pd.DataFrame) -> pd.DataFrame:
    """Return, per launch, the `<unit>_flop` columns, tensor_int_op, flop_source, tensor_inst and hfma_inst.

    launches: the frame of `launches.Report`.
    """
    result = pd.DataFrame(0.0, index=launches.index, columns=[*FLOP_COLUMNS.values(), "tensor_int_op"])
    inst = {kind + op: _metric(launches, thread_inst(kind + op)) for kind in "dfh" for op in ("add", "mul", "fma")}
    # A predicated-off thread executes nothing, so its lanes are not in these counts.
    result["fp64_flop"] = inst["dadd"] + inst["dmul"] + 2 * inst["dfma"]
    result["fp32_flop"] = inst["fadd"] + inst["fmul"] + 2 * inst["ffma"]
    result["tensor_inst"] = tensor = _metric(launches, TENSOR_INST)
    result["hfma_inst"] = inst["hfma"]
    names = _describe(launches)
    constants = _constant_loads(launches, inst, tensor, names)
    # Two lanes an instruction; a half2 FMA is 4 FLOPs.
    result["fp16_flop"] = 2 * (inst["hadd"] + inst["hmul"] + 2 * np.where(constants, 0, inst["hfma"]))
    # Without the tensor pipe's counter nothing tells the few HFMA that load constants from those that compute.
    excluded = "constants_excluded" if TENSOR_INST in launches else "hfma_unknown"
    ops = _ops_path(launches)
    counted = "cores" if TENSOR_INST in launches or ops is not None else "cores_only"
    source = np.where(constants, excluded, counted).astype(object)
    if ops is not None:
        result[list(ops)] = ops
        # Kernels without tensor work keep the source of their cores' FLOPs.
        source[ops.sum(axis=1) > 0] = "ops_path"
    else:
        _count_instructions(result, source, launches, names, constants)
    counts = [column for column in launches if column in THREAD_INST or _OPS_NAME.match(column)]
    source[(launches[counts].isna().all(axis=1) & (tensor == 0)).to_numpy()] = "missing"
    result["flop_source"] = pd.Categorical(source)
    return result


def _metric(launches: pd.DataFrame, name: str) -> np.ndarray:
    """Return a metric with 0 where it is missing."""
    return launches[name].fillna(0).to_numpy() if name in launches else np.zeros(len(launches))


def _describe(launches: pd.DataFrame) -> pd.DataFrame:
    """Return facts in the names, per launch: FLOPs per matrix instruction (NaN for none), unit, half2 arithmetic."""
    # Names repeat thousands of times: each is parsed once.
    pairs = launches[["kernel", "compute_capability"]].drop_duplicates()
    both = [(kernel, str(capability)) for kernel, capability in zip(pairs["kernel"], pairs["compute_capability"])]
    pairs["per_inst"] = [flop_per_inst(kernel, capability) for kernel, capability in both]
    pairs["unit"] = [tensor_type(kernel, capability) for kernel, capability in both]
    pairs["half"] = [does_half_math(kernel) for kernel in pairs["kernel"]]
    pairs["half_type"] = [has_half_type(kernel) for kernel in pairs["kernel"]]
    merged = launches[["kernel", "compute_capability"]].merge(pairs, how="left", on=["kernel", "compute_capability"])
    return merged.set_index(launches.index)


def _constant_loads(
    launches: pd.DataFrame, inst: dict[str, np.ndarray], tensor: np.ndarray, names: pd.DataFrame
) -> np.ndarray:
    """Say per launch whether its HFMA are HFMA2.MMA that load constants.

    They are where the name gives no matrix shape and the tensor pipe executed enough warp instructions to hold them all
    (32 lanes each; fewer threads when some are predicated off): true for all of 100 kernels of an A100.
    Kernels that say hgemm or half2, and kernels on half types with more than a few HFMA per thread, compute with them.
    Without the tensor metric, no more than a few per thread can be constants. V100 has no HFMA2.MMA.
    """
    hfma = inst["hfma"]
    few = hfma <= _FEW_PER_THREAD * _threads(launches)
    # `hfma` counts threads, `tensor` warps of 32 of them.
    fits = hfma <= 32 * tensor if TENSOR_INST in launches else few
    volta = (launches["compute_capability"] == "7.0").to_numpy()
    many = names["half_type"].to_numpy(bool) & ~few
    shaped = names["per_inst"].notna().to_numpy()
    return (hfma > 0) & fits & ~shaped & ~names["half"].to_numpy(bool) & ~many & ~volta


def _threads(launches: pd.DataFrame) -> np.ndarray:
    """Return the threads of each launch, infinitely many where the report has no grid or block."""
    counts = np.ones(len(launches))
    for name in ("grid", "block"):
        sizes = [[float(number) for number in re.findall(r"\d+", text)] for text in launches[name].cat.categories]
        products = np.array([float(np.prod(size)) if size else np.inf for size in sizes])
        # Blocks of the grid times threads of a block.
        counts = counts * products[launches[name].cat.codes.to_numpy()]
    return counts


def _count_instructions(
    result: pd.DataFrame, source: np.ndarray, launches: pd.DataFrame, names: pd.DataFrame, constants: np.ndarray
) -> None:
    """Fill the tensor columns from instruction counts (rules 2 to 4 above)."""
    # Warp instructions on the tensor pipe that are no HFMA2.MMA.
    matrix = result["tensor_inst"].to_numpy() - _metric(launches, HFMA2_INST)
    if TENSOR_INST not in launches:  # a kernel with matrix instructions in its name has executed some
        source[names["per_inst"].notna().to_numpy()] = "tensor_unknown"
    shaped = names["per_inst"].notna().to_numpy() & (matrix > 0)
    volta = (launches["compute_capability"] == "7.0").to_numpy() & (matrix > 0)
    # Where HFMA2.MMA were counted apart, what is left over is matrix work whatever the HFMA say.
    apart = HFMA2_INST in launches
    unshaped = ~shaped & ~volta & ~constants & (matrix > 0) & (apart | (result["hfma_inst"].to_numpy() == 0))
    usual = unshaped & launches["compute_capability"].astype(str).str.startswith("8.").to_numpy()
    assumed = names["unit"].map(_ESTIMATED_SHAPE).fillna(2.0 * 16 * 8 * 16).to_numpy()
    # Rule 3 before rule 2: on V100 the name's shape is done in four steps.
    per_inst = np.select([volta, shaped, usual], [np.full(len(matrix), _V100), names["per_inst"], assumed], 0.0)
    flops = np.where(per_inst > 0, matrix * per_inst, 0.0)
    for mask, text in (
        (shaped, "inst_x_shape"),
        (volta, "inst_x_512"),
        (unshaped, "tensor_unknown"),
        (usual, "inst_x_assumed_shape"),
    ):
        source[mask] = text
    for unit in names.loc[flops > 0, "unit"].unique():
        column = "tensor_int_op" if unit == "tensor_int" else FLOP_COLUMNS[unit]
        # Each launch has one type of matrix instruction, the one in its name.
        result[column] = np.where((names["unit"] == unit) & (flops > 0), flops, result[column])


def _ops_path(launches: pd.DataFrame) -> pd.DataFrame | None:
    """Return the tensor columns from `sm__ops_path_tensor_*`, None if the report has none of them."""
    found: dict[str, dict[str, list[str]]] = {}
    for column in launches.columns:
        match = _OPS_NAME.match(column)
        if match:
            rank = "op" if match["op"] else "part" if match["part"] else "total"
            key = f"{match['type']}>{match['dst'] or ''}"
            found.setdefault(key, {}).setdefault(rank, []).append(column)
    if not found:
        return None
    result = pd.DataFrame(0.0, index=launches.index, columns=[])
    for key, ranks in found.items():
        # Total, parts and kinds overlap: the first that is there, never two of them.
        columns = next(ranks[rank] for rank in ("total", "part", "op") if rank in ranks)
        target = _ops_column(key.partition(">")[0])
        result[target] = result.get(target, 0.0) + launches[columns].fillna(0).sum(axis=1)
    return result


def _ops_column(source_type: str) -> str:
    """Return the column for a source type in an ops_path metric's name: fp16_bf16_tf32 of Turing -> FP16."""
    if source_type.startswith("int"):
        return "tensor_int_op"
    first = source_type.split("_")[0]
    return {"fp6": "tensor_fp4_flop"}.get(first, FLOP_COLUMNS.get(f"tensor_{first}", "tensor_fp16_flop"))
