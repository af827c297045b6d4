"""Meaning of kernel names: readable names, kinds of work, matrix shapes and types."""

import pytest
from rooflines.read.kernel_names import family, flop_per_inst, mma_shape, readable, tensor_type

from tests.roofline.ncu_files import CAT, CONV, MUL

FORWARD = "attention forward fp16 64x64x64"


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
        (
            "cudnn_generated_fort_native_sdpa_sm80_flash_fprop_wmma_f16_knob_7_64x64x64_4x1x1_kernel0_0",
            FORWARD,
            "attention",
        ),
        (
            "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_bf16_kernel0_0",
            "attention backward bf16",
            "attention",
        ),
        ("void vllm::paged_attention_v1_kernel<__half, (int)64>(T1 *)", "attention paged v1 fp16 64", "attention"),
        ("triton_per_fused_attention_0", "triton_per_fused_attention_0", "reduction"),
        ("kernel(int const*, int*)", "kernel", "other"),
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


def test_instances_of_a_convolution_keep_different_names() -> None:
    kernels = [f"void implicit_convolve_sgemm<float, float, (int){n}, (int)5, (int)5>(int)" for n in (128, 512, 1024)]
    assert [readable(kernel) for kernel in kernels] == [
        f"conv implicit_convolve_sgemm {n}x5x5" for n in (128, 512, 1024)
    ]


@pytest.mark.parametrize(
    ("kernel", "capability", "flops"),
    [
        ("cutlass_75_wmma_tensorop_s161616gemm_f16_16x16_128x2_nn", "7.0", 512),
        ("cutlass_75_wmma_tensorop_s161616gemm_f16_16x16_128x2_nn", "7.5", 2 * 16 * 8 * 8),
        ("cutlass_75_wmma_tensorop_s161616gemm_f16_16x16_128x2_nn", "8.6", 2 * 16 * 8 * 16),
        ("void wmma_kernel_16x16x16(half *)", "8.0", 2 * 16 * 8 * 16),
    ],
)
def test_instructions_of_a_wmma_operation(kernel: str, capability: str, flops: float) -> None:
    assert flop_per_inst(kernel, capability) == flops
