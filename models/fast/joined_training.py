"""Convolution, addition and ReLU as one pass over the map in training, with a backward pass of its own.

Kept are the input, the weight and the output, as by the single layers. In float32 output and gradients are theirs to
the last bit, except with one thread (see `joined_conv`); in bfloat16 the sum is rounded once instead of twice.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .pointwise import product_gradients


def joined_conv_with_gradients(
    x: Tensor, weight: Tensor, bias: Tensor, convolution: nn.Conv2d, *, add: Tensor | None, products: bool
) -> Tensor:
    """relu(convolution of x + add), where `joined_conv.can_join` allows it.

    Args:
        x: (B, C, H, W).
        weight: of the type of x.
        bias: (D,), constant.
        convolution: says stride, padding, dilation and groups.
        add: (B, D, h, w), which is left as it is; None for nothing.
        products: compute the gradients of a 1 x 1 convolution as matrix products.
    """
    c = convolution
    return _Joined.apply(x, weight, bias, add, (c.padding, c.stride, c.dilation, c.groups), products)


class _Joined(torch.autograd.Function):
    """A convolution, what is added to it and the ReLU in one operator of oneDNN; keeps no map but x and the result."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, add: Tensor | None, how: tuple[Any, ...], products: bool
    ) -> Tensor:
        """Return relu(conv(x) + add) (B, D, h, w) of x (B, C, H, W)."""
        operator = torch.ops.mkldnn._convolution_pointwise
        if add is None:
            out = operator(x, weight, bias, *how, "relu", [], None)
        else:
            out = operator.binary(x, add, weight, bias, *how, "add", 1.0, "relu", [], None)
        ctx.save_for_backward(x, weight, out)
        ctx.how, ctx.products = how, products
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, the weight and what was added; the bias is constant."""
        x, weight, out = ctx.saved_tensors
        padding, stride, dilation, groups = ctx.how
        wanted = ctx.needs_input_grad
        # Nothing where the ReLU has cut off: there `out` is 0.
        gradient = torch.ops.aten.threshold_backward(gradient, out, 0)
        if ctx.products:
            to_x, to_weight = product_gradients(gradient, x, weight, stride=stride, wanted=wanted[:2])
        else:
            # As PyTorch's own backward pass calls it: not transposed, and no gradient for the bias.
            how = (stride, padding, dilation, False, [0, 0], groups)
            to_x, to_weight, _ = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, *how, [*wanted[:2], False]
            )
        # What was added gets the same gradient.
        return to_x, to_weight, None, gradient if wanted[3] else None, None, None
