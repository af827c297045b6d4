"""Gradients of 1 x 1 convolutions as matrix products on the CPU, where they are faster.

Over maps with the channels of a pixel side by side such a convolution is the product of a matrix of pixels (P, C) and
one of weights. oneDNN's gradient for the weights is slower in bfloat16, and its threads wait for each other by
spinning: beside other programs on the machine seconds instead of milliseconds. In float32 products are faster with a
stride, and where the weight has many numbers for few pixels (`benchmarks/convolutions.py` measures all).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .products import product

#: Numbers of a weight for each pixel, from which products in float32 are faster.
FLOAT32_SHARE = 16


def suits_products(
    x: Tensor, weight: Tensor, *, stride: tuple[int, ...], padding: Any, groups: int, dtype: torch.dtype
) -> bool:
    """Tell if `pointwise_conv` is for a convolution of x (B, C, H, W) that is computed in `dtype`."""
    plain = weight.shape[-2:] == (1, 1) and padding in (0, (0, 0)) and groups == 1
    if not (plain and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)):
        return False
    # B * H * W, of all images.
    pixels = x.numel() // x.shape[1]
    share = weight.numel() > FLOAT32_SHARE * pixels
    return dtype == torch.bfloat16 or (dtype == torch.float32 and (share or any(step != 1 for step in stride)))


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor, *, stride: tuple[int, ...]) -> Tensor:
    """Convolve x (B, C, H, W) with a weight (D, C, 1, 1), whose bias (D,) is constant; all of the same type."""
    return _Pointwise.apply(x, weight, bias, stride)


class _Pointwise(torch.autograd.Function):
    """PyTorch's convolution forward, products backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: tuple[int, ...]) -> Tensor:
        """Return the convolution (B, D, h, w) of x (B, C, H, W)."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return torch.conv2d(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and the weight for one of (B, D, h, w)."""
        x, weight = ctx.saved_tensors
        return *product_gradients(gradient, x, weight, stride=ctx.stride, wanted=ctx.needs_input_grad[:2]), None, None


def product_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, *, stride: tuple[int, ...], wanted: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients for x (B, C, H, W) and weight (D, C, 1, 1), those that are wanted, of `gradient` (B, D, h, w)."""
    g = _pixels(gradient)  # (P, D)
    vertical, horizontal = stride
    # With a stride the pixels between take no part.
    seen = x[:, :, ::vertical, ::horizontal]
    to_x = to_weight = None
    if wanted[1]:
        to_weight = product(g.t(), _pixels(seen)).view_as(weight)  # (D, P) (P, C)
    if wanted[0]:
        # (P, D) (D, C), and from pixels to a map (B, C, h, w) with channels last: a view.
        to_seen = product(g, weight.flatten(1)).view(len(x), *seen.shape[2:], -1).permute(0, 3, 1, 2)
        to_x = to_seen
        if stride != (1, 1):
            to_x = torch.zeros_like(x)
            to_x[:, :, ::vertical, ::horizontal] = to_seen
    return to_x, to_weight


def _pixels(maps: Tensor) -> Tensor:
    """Pixels (B * H * W, C) of maps (B, C, H, W): a view where the channels of a pixel lie side by side."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])
