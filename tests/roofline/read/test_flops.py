"""FLOPs against exact integers: shapes of layers multiplied out, vectors of real A100 and H100 reports."""

from pathlib import Path

import pandas as pd
import pytest
from rooflines.read.counters import tabulate
from rooflines.read.csv import read_ncu_csv
from rooflines.read.flops import FLOP_SOURCES
from rooflines.table import tensor_flop, total_flop

from tests.roofline.ncu_files import CAT, CONV, MUL, TENSOR, Kernel, long_rows

CONV_F16 = CONV.replace("tf32f32_tf32f32_f32", "f16f16_f16f32_f32").replace("16x8x8", "16x8x16")
GEMM_1688 = "ampere_fp16_s1688gemm_fp16_256x64_ldg8_relu_f2f_stages_32x1_tn"
HFMA2 = "sm__inst_executed_pipe_tensor_op_hmma_type_hfma2.sum"


def table(tmp_path: Path, *kernels: Kernel) -> pd.DataFrame:
    """The tidy rows, one per kernel in order."""
    for place, kernel in enumerate(kernels):
        kernel.id = place
    path = tmp_path / "output.csv"
    path.write_text("\n".join(long_rows(list(kernels))) + "\n")
    return tabulate(read_ncu_csv(path), per_launch=True)


@pytest.mark.parametrize(
    ("name", "instructions", "column", "flops"),
    [
        (CONV, 2_340_864, "tensor_tf32_flop", 4_794_089_472),  # 127 * 128 * 128 * (128 * 9) * 2
        (CONV, 2_322_432, "tensor_tf32_flop", 4_756_340_736),  # 252 * 256 * 64 * (64 * 9) * 2
        (CONV, 13_602_816, "tensor_tf32_flop", 27_858_567_168),  # 1476 * 256 * 64 * (64 * 9) * 2 in TF32
        (CONV_F16, 6_801_408, "tensor_fp16_flop", 27_858_567_168),  # and the same layer in FP16
        (GEMM_1688, 67_584, "tensor_fp16_flop", 138_412_032),  # 2 * 2112 * 512 * 64
        ("ampere_fp16_s16816gemm_fp16_64x64_nn", 10_240, "tensor_fp16_flop", 41_943_040),  # 2 * 640 * 64 * 512
        (
            "void cutlass::Kernel<cutlass_80_tensorop_s1688gemm_64x64_16x6_nn_align4>(T1::Params)",
            45_056,
            "tensor_tf32_flop",
            92_274_688,
        ),
    ],
)
def test_tensor_instructions_times_shape(tmp_path: Path, name: str, instructions: int, column: str, flops: int) -> None:
    rows = table(tmp_path, Kernel.counted(name, tensor=instructions))
    assert rows[column].tolist() == [flops]
    assert tensor_flop(rows).tolist() == [flops]
    assert rows["flop_source"].tolist() == ["inst_x_shape"]


@pytest.mark.parametrize(
    ("name", "counts", "flops"),
    [
        (CAT, {"tensor": 6_913, "hfma": 221_186}, 0),
        (MUL, {"tensor": 1_511_424, "hfma": 48_365_568, "fmul": 24_182_784}, 24_182_784),
        ("vectorized_layer_norm_kernel<float, float>", {"tensor": 184_512, "hfma": 5_719_872, "ffma": 100}, 200),
        ("wgrad_alg0_engine<float, (int)128>", {"tensor": 34_560, "hfma": 1_105_920, "ffma": 262_144_000}, 524_288_000),
        (
            "CatArrayBatchedCopy<c10::Half, unsigned int>",
            {"tensor": 13_832, "hfma": 442_528, "grid": "(216, 4, 1)", "block": "(512, 1, 1)"},
            0,
        ),
    ],
)
def test_constant_loads_on_the_tensor_pipe_are_no_tensor_work(
    tmp_path: Path, name: str, counts: dict, flops: int
) -> None:
    rows = table(tmp_path, Kernel.counted(name, **counts))
    assert tensor_flop(rows).tolist() == [0]
    assert total_flop(rows).tolist() == [flops]
    assert rows["flop_source"].tolist() == ["constants_excluded"]
    assert rows["tensor_inst"].tolist() == [counts["tensor"]], "the raw count stays"


def test_half_precision_counts_two_lanes(tmp_path: Path) -> None:
    rows = table(tmp_path, Kernel.counted("void axpy_half2(__half2 *)", hadd=10, hmul=20, hfma=100))
    assert rows["fp16_flop"].tolist() == [2 * 10 + 2 * 20 + 4 * 100]


def test_half2_arithmetic_on_the_tensor_pipe_is_not_lost(tmp_path: Path) -> None:
    many = Kernel.counted("void axpy<__half>(T1 *)", tensor=128, hfma=32 * 128, grid="(1, 1, 1)", block="(32, 1, 1)")
    rows = table(tmp_path, many, Kernel.counted("ampere_hgemm_128x64_tn", tensor=128, hfma=32 * 128))
    assert rows["fp16_flop"].tolist() == [4 * 32 * 128] * 2
    assert tensor_flop(rows).tolist() == [0, 0]


def test_cuda_cores_count_an_fma_twice(tmp_path: Path) -> None:
    rows = table(tmp_path, Kernel.counted(fadd=1, fmul=2, ffma=10, dadd=3, dmul=4, dfma=100))
    assert rows["fp32_flop"].tolist() == [23]
    assert rows["fp64_flop"].tolist() == [207]
    assert rows["flop_source"].tolist() == ["cores"]


def test_operations_counted_by_the_hardware_win(tmp_path: Path) -> None:
    kernel = Kernel.counted("sm90_xmma_gemm_bf16bf16_bf16f32", tensor=999, cc="9.0")
    ops = 25_769_803_776  # an H100's report: 2 * 2048 * 2048 * 3072
    kernel.metrics["sm__ops_path_tensor_src_bf16_dst_fp32.sum"] = (ops, "")
    kernel.metrics["sm__ops_path_tensor_op_hgmma_src_bf16_dst_fp32_sparsity_off.sum"] = (ops, "")
    kernel.metrics["gpu__time_duration.sum"] = (82_464, "nsecond")
    rows = table(tmp_path, kernel)
    assert rows["tensor_bf16_flop"].tolist() == [ops]
    assert rows["flop_source"].tolist() == ["ops_path"]
    assert ops / rows["time_s"].item() == pytest.approx(312.5e12, rel=1e-4)


@pytest.mark.parametrize(
    ("metrics", "column", "flops"),
    [
        ({"src_tf32_dst_fp32_sparsity_off": 10, "src_tf32_dst_fp32_sparsity_on": 5}, "tensor_tf32_flop", 15),
        ({"src_tf32_dst_fp32": 15, "src_tf32_dst_fp32_sparsity_off": 10}, "tensor_tf32_flop", 15),
        ({"src_fp16_dst_fp16": 3, "src_fp16_dst_fp32": 4}, "tensor_fp16_flop", 7),
        ({"src_fp16_bf16_tf32_dst_fp32": 8}, "tensor_fp16_flop", 8),
        ({"op_hmma_src_fp16_sparsity_off": 1, "op_hgmma_src_fp16_sparsity_off": 2}, "tensor_fp16_flop", 3),
        ({"src_fp64": 9}, "tensor_fp64_flop", 9),
        ({"src_fp8_sparsity_off": 9}, "tensor_fp8_flop", 9),
        ({"src_fp4_fp6_fp8_dst_fp32": 6}, "tensor_fp4_flop", 6),
        ({"src_int8": 5}, "tensor_int_op", 5),
    ],
)
def test_overlapping_ops_metrics_are_not_added_twice(tmp_path: Path, metrics: dict, column: str, flops: int) -> None:
    kernel = Kernel.counted(CONV)
    kernel.metrics |= {f"sm__ops_path_tensor_{name}.sum": (value, "") for name, value in metrics.items()}
    rows = table(tmp_path, kernel)
    assert rows[column].tolist() == [flops]
    assert total_flop(rows).tolist() == [0 if column == "tensor_int_op" else flops]


def test_v100_counts_512_an_instruction(tmp_path: Path) -> None:
    rows = table(tmp_path, Kernel.counted("volta_h884gemm_128x128_ldg8_nn", tensor=10, cc="7.0"))
    assert rows["tensor_fp16_flop"].tolist() == [5120]
    assert rows["flop_source"].tolist() == ["inst_x_512"]


def test_a_name_without_a_shape_is_an_estimate_or_unknown(tmp_path: Path) -> None:
    ampere = Kernel.counted("pytorch_flash::flash_fwd_kernel<cutlass::bfloat16_t>", tensor=10)
    hopper = Kernel.counted("flash_fwd_sm90<cutlass::bfloat16_t>", tensor=10, cc="9.0")
    rows = table(tmp_path, ampere, hopper)
    assert rows["tensor_bf16_flop"].tolist() == [10 * 4096, 0]
    assert rows["flop_source"].tolist() == ["inst_x_assumed_shape", "tensor_unknown"]


def test_constant_loads_counted_apart_are_subtracted(tmp_path: Path) -> None:
    kernel = Kernel.counted(CONV, tensor=1000)
    kernel.metrics[HFMA2] = (100, "inst")
    assert tensor_flop(table(tmp_path, kernel)).tolist() == [900 * 2048]


def test_a_report_without_flop_metrics_says_so(tmp_path: Path) -> None:
    rows = table(tmp_path, Kernel(metrics={"dram__bytes.sum": (5, "byte"), "gpu__time_duration.sum": (5, "ns")}))
    assert rows["flop_source"].tolist() == ["missing"]
    assert "missing" in FLOP_SOURCES


@pytest.mark.parametrize(("hfma", "flops", "source"), [(2**32, 4 * 2**32, "cores_only"), (4 * 128, 0, "hfma_unknown")])
def test_hfma_without_the_tensor_counter_is_never_a_silent_zero(
    hfma: int, flops: float, source: str, tmp_path: Path
) -> None:
    """Four blocks of 128 threads: a few HFMA a thread may load constants, millions compute."""
    kernel = Kernel.counted("triton_mm", hfma=hfma, cc="8.6")
    del kernel.metrics[TENSOR]
    path = tmp_path / "output_x.csv"
    path.write_text("\n".join(long_rows([kernel])) + "\n")
    row = tabulate(read_ncu_csv(path)).iloc[0]
    assert (row["fp16_flop"], row["flop_source"]) == (flops, source)


def test_a_matrix_kernel_without_the_tensor_counter_is_unknown(tmp_path: Path) -> None:
    kernel = Kernel.counted(CONV)
    del kernel.metrics[TENSOR]
    path = tmp_path / "output_x.csv"
    path.write_text("\n".join(long_rows([kernel])) + "\n")
    assert tabulate(read_ncu_csv(path))["flop_source"].tolist() == ["tensor_unknown"]
