"""ReLU and dropout behind it as one step, which keeps nothing for the backward pass but what it returns.

Between the two linear layers of a feed-forward network PyTorch keeps three maps (B, L, F): the output of the ReLU, the
mask of the dropout and what the second layer is given. The last says all: a number above 0 was above 0 and was kept.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import as_mask, clear_dropped, draw_kept, kept_scale


def relu_dropout(x: Tensor, dropout: float) -> Tensor:
    """dropout(relu(x)) of training, 0 < dropout < 1."""
    return _ReluDropout.apply(x, dropout)


class _ReluDropout(torch.autograd.Function):
    """Keeps its result alone, whose zeros say where nothing flows back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropout: float) -> Tensor:
        """Return dropout(relu(x)), in the shape of x."""
        out = torch.relu(x)
        if x.device.type == "cpu":
            mask = as_mask(draw_kept(torch.empty(out.shape, dtype=torch.int8), dropout), out.dtype)
            clear_dropped(out.mul_(kept_scale(out.dtype, dropout)), mask)
        else:
            # Its mask is not kept: in the backward pass zeros of `out` say the same.
            out, _ = torch.native_dropout(out, dropout, True)
        ctx.dropout = dropout
        ctx.save_for_backward(out)  # the linear layer that follows keeps it, too
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x: that of the result, scaled where it was let through."""
        (out,) = ctx.saved_tensors
        if out.device.type == "cpu":  # rounded as in the forward pass
            scaled = gradient * kept_scale(out.dtype, ctx.dropout)
        else:
            scaled = gradient * (1 / (1 - ctx.dropout))
        # Nothing where `out` is 0: there x was negative, or dropped.
        return torch.ops.aten.threshold_backward(scaled, out, 0), None
