"""Convolution, addition and ReLU as one pass over the map, on the CPU.

PyTorch hands a convolution to oneDNN, and reads and writes its result once more for an addition and twice more for a
ReLU: at stride 4 a map of ResNet-50 has 55 MB an image. oneDNN does both while it writes the result; PyTorch has
operators for that, which its compiler uses. In float32 the numbers are those of the three layers to the last bit; with
one thread, where PyTorch takes another way for 1 x 1 convolutions, to rounding. In bfloat16 the sum is rounded once
instead of twice.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .onednn import takes_its_operators

#: Operators that joining takes.
OPERATORS = ("_convolution_pointwise", "_convolution_pointwise_", "_is_mkldnn_bf16_supported")


@dataclass(frozen=True)
class Join:
    """Work of a convolution beside its own: it adds a map (B, D, h, w), which is overwritten, and takes the ReLU."""

    add: Tensor | None = None
    relu: bool = True


def can_join(x: Tensor, dtype: torch.dtype) -> bool:
    """Tell if convolutions of x (B, C, H, W) that are computed in `dtype` can do more than their own work."""
    if not takes_its_operators(x, *OPERATORS) or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    return dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def pack_weight(weight: Tensor, convolution: nn.Conv2d, size: torch.Size) -> Tensor:
    """Lay out a weight once as oneDNN wants it for maps of a size (B, C, H, W); for others it is right, too."""
    c = convolution
    how = (c.padding, c.stride, c.dilation, c.groups)
    return torch.ops.aten.mkldnn_reorder_conv2d_weight(weight.detach().to_mkldnn(), *how, size)


def joined_conv(x: Tensor, weight: Tensor, bias: Tensor, convolution: nn.Conv2d, join: Join) -> Tensor:
    """Convolve x (B, C, H, W) as `convolution` says, with a weight and bias of the type of x, and do what `join` says.

    The weight may be packed. Where something is added the result lies in its memory.
    """
    c = convolution
    how = (c.padding, c.stride, c.dilation, c.groups)
    after = "relu" if join.relu else "none"
    if join.add is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *how, after, [], None)
    # Sum first, then what comes after it: None stands for nothing here.
    then = after if join.relu else None
    return torch.ops.mkldnn._convolution_pointwise_.binary(join.add, x, weight, bias, *how, "add", 1.0, then, [], None)
