"""Gradients of 1 x 1 convolutions as matrix products, in bfloat16 on the CPU.

Over maps with the channels of a pixel side by side such a convolution is the product of a matrix of pixels (P, C) and
one of weights. oneDNN's gradient for the weights is slower there, and its threads wait for each other by spinning:
beside other programs on the machine seconds instead of milliseconds.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def suits_products(x: Tensor, weight: Tensor, *, padding: Any, groups: int) -> bool:
    """Tell if `pointwise_conv` is for a convolution of x (B, C, H, W) that is computed in bfloat16."""
    plain = weight.shape[-2:] == (1, 1) and padding in (0, (0, 0)) and groups == 1
    return plain and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor, *, stride: tuple[int, ...]) -> Tensor:
    """Convolve x (B, C, H, W) with a weight (D, C, 1, 1), whose bias (D,) is constant; all of the same type."""
    return _Pointwise.apply(x, weight, bias, stride)


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return torch.conv2d(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        g = _pixels(gradient)  # (P, D)
        vertical, horizontal = ctx.stride
        # With a stride the pixels between take no part.
        seen = x[:, :, ::vertical, ::horizontal]
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (g.t() @ _pixels(seen)).view_as(weight)  # (D, P) (P, C)
        if ctx.needs_input_grad[0]:
            # (P, D) (D, C), and from pixels to a map (B, C, h, w) with channels last: a view.
            to_seen = (g @ weight.flatten(1)).view(len(x), *seen.shape[2:], -1).permute(0, 3, 1, 2)
            to_x = to_seen
            if ctx.stride != (1, 1):
                to_x = torch.zeros_like(x)
                to_x[:, :, ::vertical, ::horizontal] = to_seen
        return to_x, to_weight, None, None


def _pixels(maps: Tensor) -> Tensor:
    """Pixels (B * H * W, C) of maps (B, C, H, W): a view where the channels of a pixel lie side by side."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
