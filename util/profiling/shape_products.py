"""FLOPs of a model's products by shapes alone, in a fraction of a step's time: no numbers, no operators, no device.

The model runs forward on tensors of the device "meta". What computes is answered with an empty tensor of the right
shape. A product counts 2 FLOPs for each of its multiply-adds, and as many again for the gradient of each operand that
needs one. What a step computes a second time (--grad_checkpoint) is not counted: the work of the model, as the "model
FLOPs utilization" of PaLM (arXiv 2204.02311, appendix B) has it.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

#: They return what they are given in another form of the same shape; no product is in them.
_UNCHANGED = frozenset(
    [F.batch_norm, F.layer_norm, F.group_norm, F.dropout, F.relu, F.gelu, F.silu, F.hardtanh, F.relu6, torch.relu]
)


class ProductCounter(TorchFunctionMode):
    """Counts the FLOPs, forward and backward, of the products of what runs in its context on "meta" tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func in _UNCHANGED:
            return args[0]
        if func not in _PRODUCTS:
            return func(*args, **(kwargs or {}))
        result, flops = _PRODUCTS[func](func, *args, **(kwargs or {}))
        self.flops += flops
        return result


def shape_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a model on "meta", in float32 and without hooks: its weights are not copied."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        # Hooks are of profilers and of others who would count this pass as theirs.
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        memo |= {id(hook): OrderedDict() for hook in hooks}
    for tensor in (*model.parameters(), *model.buffers()):
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        empty = torch.empty(tensor.shape, dtype=dtype, device="meta")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo)


class _Made(torch.autograd.Function):
    """An empty tensor of a shape that needs a gradient if one of its parents does."""

    @staticmethod
    def forward(ctx: Any, shape: tuple[int, ...], *parents: Tensor | None) -> Tensor:
        return torch.empty(shape, device="meta")


def _gradients(*operands: Tensor) -> int:
    """Return how many times a product is computed: forward, and for each operand that needs a gradient."""
    return 1 + sum(operand.requires_grad for operand in operands)


def _linear(func: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, int]:
    result = _Made.apply((*x.shape[:-1], weight.shape[0]), x, weight, bias)
    return result, 2 * x.numel() * weight.shape[0] * _gradients(x, weight)


def _convolution(func: Callable, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, int]:
    result = func(x, weight, *args, **kwargs)
    # Each weight meets each place (H, W) of each image's result.
    places = result.shape[0] * math.prod(result.shape[2:])
    return result, 2 * places * weight.numel() * _gradients(x, weight)


def _matmul(func: Callable, a: Tensor, b: Tensor, **kwargs: Any) -> tuple[Tensor, int]:
    result = func(a, b, **kwargs)
    return result, 2 * result.numel() * a.shape[-1] * _gradients(a, b)


def _added_matmul(func: Callable, added: Tensor, a: Tensor, b: Tensor, **kwargs: Any) -> tuple[Tensor, int]:
    result = func(added, a, b, **kwargs)
    return result, 2 * result.numel() * a.shape[-1] * _gradients(a, b)


def _einsum(func: Callable, equation: str, a: Tensor, b: Tensor) -> tuple[Tensor, int]:
    sizes = dict(zip(equation.replace(",", "").partition("->")[0], (*a.shape, *b.shape)))
    return func(equation, a, b), 2 * math.prod(sizes.values()) * _gradients(a, b)


def _attention(func: Callable, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, int]:
    # q k^T (..., L, S) and p v: p needs a gradient where q or k does.
    scores = q.shape[:-1].numel() * k.shape[-2]
    times = 1 + int(v.requires_grad) + int(q.requires_grad or k.requires_grad)
    flops = 2 * scores * (q.shape[-1] * _gradients(q, k) + v.shape[-1] * times)
    return _Made.apply((*q.shape[:-1], v.shape[-1]), q, k, v), flops


_PRODUCTS: dict[Any, Callable[..., tuple[Tensor, int]]] = {
    F.linear: _linear,
    torch.conv1d: _convolution,
    torch.conv2d: _convolution,
    torch.matmul: _matmul,
    Tensor.matmul: _matmul,
    Tensor.__matmul__: _matmul,
    torch.mm: _matmul,
    torch.bmm: _matmul,
    torch.addmm: _added_matmul,
    torch.baddbmm: _added_matmul,
    torch.einsum: _einsum,
    F.scaled_dot_product_attention: _attention,
}
