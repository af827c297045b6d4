"""Meaning of kernel names: readable names, kinds of work, matrix shapes and types."""

import pytest
from rooflines.read.kernel_names import family, mma_shape, readable, tensor_type

from tests.roofline.ncu_files import CAT, CONV, MUL


@pytest.mark.parametrize(
    ("kernel", "name", "kind"),
    [
        (CONV, "conv fprop tf32 128x128 indexed", "convolution"),
        (CAT, "cat long", "copy"),
        (MUL, "elementwise mul", "elementwise"),
        ("ampere_sgemm_32x128_tn", "gemm fp32 32x128 tn", "matrix product"),
        ("void cudnn::ops::nchwToNhwcKernel<__half, __half, float>(T1)", "nchw to nhwc half", "layout"),
        ("void <unnamed>::softmax_warp_forward<float, float>(T2 *)", "softmax_warp_forward", "softmax"),
        ("void at::native::cdist_kernel_cuda_impl<float>(T1 *)", "cdist", "matcher cost"),
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL", "NCCL", "communication"),
        ("my_own_kernel(int)", "my_own", "other"),
        ("", "", "other"),
    ],
)
def test_names(kernel: str, name: str, kind: str) -> None:
    assert (readable(kernel), family(kernel)) == (name, kind)


@pytest.mark.parametrize(
    ("kernel", "shape", "unit"),
    [
        (CONV, (16, 8, 8), "tensor_tf32"),
        ("cutlass_80_tensorop_s1688gemm_64x64", (16, 8, 8), "tensor_tf32"),
        ("ampere_fp16_s1688gemm_fp16_256x64", (16, 8, 8), "tensor_fp16"),
        ("cutlass_80_tensorop_bf16_s16816gemm_bf16", (16, 8, 16), "tensor_bf16"),
        ("cutlass_80_tensorop_d884gemm_64x64", (8, 8, 4), "tensor_fp64"),
        ("ampere_sgemm_32x128_tn", None, "tensor_fp16"),
        ("cutlass_tensorop_f16_s16816fprop_optimized_f16_128x128", (16, 8, 16), "tensor_fp16"),
    ],
)
def test_matrix_shapes_and_types(kernel: str, shape: tuple | None, unit: str) -> None:
    assert mma_shape(kernel) == shape
    assert tensor_type(kernel) == unit


def test_before_ampere_there_is_no_tf32() -> None:
    assert tensor_type("turing_s1688gemm_128x128", "7.5") == "tensor_fp16"
