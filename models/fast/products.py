"""Products of float32 matrices by oneDNN, on processors where PyTorch's choice takes twice as long.

PyTorch hands such products to Intel's MKL. On AMD's processors MKL keeps to AVX2, half the width of their AVX-512.
oneDNN, which PyTorch brings for convolutions, does not: 110 and 245 GFLOP/s of a core of an EPYC 9005. Elsewhere, and
for small products, PyTorch computes as ever. The two round differently, in the last digits.

Shapes: M rows and K columns of the first matrix, N columns of the second.
"""

import functools
import math
import platform
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from util.dist.precision import in_autocast, product_dtype

from .onednn import takes_its_operators
from .packed_weights import PACK, packed_weight

#: Multiplications, M * K * N, from which oneDNN computes: smaller products keep their numbers on every processor.
LEAST = 2**24
#: The same for weights that are packed, which no training meets: the products of DETR's decoder, 100 queries wide.
LEAST_PACKED = 2**22
#: Makers of processors with AVX-512, as these name themselves, on which MKL does not use it.
SLOW_WITH_MKL = ("AuthenticAMD", "HygonGenuine")
OPERATOR = "_linear_pointwise"


def suits_onednn(x: Tensor, multiplications: int, *, types: Container[torch.dtype] = (torch.float32,)) -> bool:
    """Tell if oneDNN computes a product of x with so many multiplications here, where x is of one of the `types`."""
    # First: a compiler follows no question about the processor, and has products of its own.
    if torch.compiler.is_compiling():
        return False
    # The cheap questions before the others: most products are small.
    if multiplications <= LEAST or x.dtype not in types or not mkl_is_slow():
        return False
    return takes_its_operators(x, OPERATOR)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Multiply a (M, K) by b (K, N); gradients do not flow."""
    if not suits_onednn(a, a.numel() * b.shape[1]):
        return a @ b
    if a.is_contiguous() or a.numel() <= b.numel():
        return multiply_onednn(a, b.t(), None)
    # oneDNN copies a first matrix that lies in columns: of the two ways to compute, that with the smaller copy.
    return multiply_onednn(b.t(), a, None).t().contiguous()


def batch_product(a: Tensor, b: Tensor, *, memory: Tensor | None = None) -> Tensor:
    """Multiply each of the matrices a (B, M, K) by its b (B, K, N); `memory` (B, M, N) may be taken for the result."""
    if not suits_onednn(a, math.prod(a.shape[1:]) * b.shape[2]):
        return torch.bmm(a, b, out=memory)
    results = [product(*pair) for pair in zip(a, b)]
    return results[0][None] if len(results) == 1 else torch.stack(results)


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, owner: nn.Parameter | None = None, relu: bool = False
) -> Tensor:
    """`F.linear`: x (..., K) times the transpose of a weight (N, K), plus a bias (N,).

    Args:
        owner: the parameter that the weight is, or is rows of; without gradients its order in memory is then kept.
        relu: take the ReLU of the result.
    """
    if owner is not None and _suits_packing(x, weight, owner):
        dtype = product_dtype(x)
        packed = packed_weight(weight, owner, dtype, rows=x.numel() // x.shape[-1])
        return multiply_onednn(x.to(dtype), packed, None if bias is None else bias.to(dtype), relu=relu)
    suits = suits_onednn(x, x.numel() * len(weight)) and weight.dtype == torch.float32
    if not suits or product_dtype(x) != torch.float32:
        out = F.linear(x, weight, bias)
    elif torch.is_grad_enabled():
        out = _Linear.apply(x, weight, bias)
    else:
        return multiply_onednn(x, weight, bias, relu=relu)
    return F.relu(out) if relu else out


def run_linear(layer: nn.Module, x: Tensor, *, relu: bool = False) -> Tensor:
    """Run a linear layer on x (..., K); a layer of another class, or one that somebody has hooked, as it is."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    if type(layer) is not nn.Linear or hooked:
        return F.relu(layer(x)) if relu else layer(x)
    # Not a parameter where somebody computes the weight anew, as weight norm does.
    owner = layer.weight if isinstance(layer.weight, nn.Parameter) else None
    return linear(x, layer.weight, layer.bias, owner=owner, relu=relu)


def _suits_packing(x: Tensor, weight: Tensor, owner: nn.Parameter) -> bool:
    """Tell if a packed weight pays for x."""
    # First, as in `suits_onednn`.
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.numel() * len(weight) <= LEAST_PACKED:
        return False
    if owner.is_inference():  # PyTorch does not count its changes
        return False
    if torch.float64 in (x.dtype, weight.dtype):  # autocast leaves it alone
        return False
    dtype = product_dtype(x)
    # Under autocast a weight of any type is cast; else types that differ are an error, which F.linear reports.
    if (weight.dtype != dtype and not in_autocast(x.device)) or not takes_its_operators(x, OPERATOR, PACK):
        return False
    if dtype == torch.bfloat16:  # PyTorch has these computed by oneDNN, too
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 and mkl_is_slow()


#: What computes in the place of operators by which these functions are counted.
COMPUTED_BY: dict[Callable, Callable] = {
    torch.ops.aten.mm.default: product,
    torch.ops.aten.bmm.default: batch_product,
    torch.ops.aten.addmm.default: lambda bias, a, b: linear(a, b.t(), bias),
}


class _Linear(torch.autograd.Function):
    """A linear layer whose products, forward and backward, are oneDNN's; keeps what PyTorch's keeps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return x (..., K) times the weight (N, K) transposed, plus the bias (N,)."""
        ctx.save_for_backward(x, weight)
        return multiply_onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, the weight and the bias for one of (..., N)."""
        x, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])  # (M, N)
        to_x = product(rows, weight).view_as(x) if wanted[0] else None
        to_weight = product(rows.t(), x.reshape(-1, x.shape[-1])) if wanted[1] else None  # (N, M) (M, K)
        return to_x, to_weight, rows.sum(0) if wanted[2] else None


@functools.cache
def mkl_is_slow() -> bool:
    """True where PyTorch's float32 products take AVX2 though the processor knows AVX-512."""
    if not torch.backends.mkl.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    # Linux lists the processors; elsewhere Python tells the maker.
    known = Path("/proc/cpuinfo")
    text = known.read_text(errors="replace") if known.is_file() else platform.processor()
    return any(maker in text for maker in SLOW_WITH_MKL)


def multiply_onednn(x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> Tensor:
    """x (..., K) times the transpose of a weight (N, K), which may be packed, plus a bias (N,), and the ReLU of it."""
    if not (weight.is_mkldnn or weight.is_contiguous() or weight.t().is_contiguous()):
        # For rows with gaps, such as a head's of all channels, oneDNN has no fast way: a hundred times as long.
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
