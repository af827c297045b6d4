"""Dropout on the CPU with PyTorch's random numbers and values, in fewer passes and with a byte a number kept.

PyTorch asks its generator for one decision after the other and then multiplies by 0 or 1 / (1 - p). Here the same 64
bits a decision are drawn as a whole, compared by vector instructions, and what is dropped is cleared by AND: a branch
at every random mask entry (`masked_fill_`) costs five times as much.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Decisions at a time: their 64 bits each lie in a core's cache.
CHUNK = 2**18
#: Whole numbers as wide as a type's.
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def dropout(x: Tensor, p: float) -> Tensor:
    """`F.dropout(x, p)` of training, 0 < p < 1; on the CPU gradients flow once."""
    return _Dropout.apply(x, p) if x.device.type == "cpu" else F.dropout(x, p)


class _Dropout(torch.autograd.Function):
    """Keeps a byte for each entry, where PyTorch keeps a number of the entry's type."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        """Return x with entries at zero with probability p, and the others scaled up."""
        kept = draw_kept(x.shape, p)
        ctx.save_for_backward(kept)
        ctx.p = p
        return clear_dropped(x * kept_scale(x.dtype, p), as_mask(kept, x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of x: scaled as the entries were, and zero where they were dropped."""
        (kept,) = ctx.saved_tensors
        scaled = gradient * kept_scale(gradient.dtype, ctx.p)
        return clear_dropped(scaled, as_mask(kept, scaled.dtype)), None


def kept_scale(dtype: torch.dtype, p: float) -> Tensor:
    """1 / (1 - p), rounded as PyTorch's dropout on the CPU rounds it."""
    return torch.ones((), dtype=dtype).div_(1 - p)


def draw_kept(shape: torch.Size, p: float) -> Tensor:
    """Draw what dropout keeps, int8: all bits set, or none where an entry is dropped.

    To the bit the decisions of `bernoulli_(1 - p)`: the lowest 53 bits of each random number, as a share, below 1 - p.
    """
    kept = torch.empty(shape, dtype=torch.int8)
    bound = math.ceil((1 - p) * 2**53)  # the product is exact
    entries = kept.view(-1)
    words = torch.empty(min(CHUNK, len(entries)), dtype=torch.int64)
    for part in entries.split(CHUNK):
        # `random_` with these bounds takes all 64 bits of the generator.
        bits = words[: len(part)].random_(-(2**63), None).bitwise_and_(2**53 - 1)
        torch.lt(bits, bound, out=part)
    return kept.neg_()


def as_mask(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the draws of `draw_kept` as whole numbers as wide as `dtype`, for `clear_dropped`."""
    # A number with a sign becomes wider by repeating it: all bits stay set.
    return kept.to(_INTEGERS[dtype.itemsize])


def clear_dropped(x: Tensor, mask: Tensor) -> Tensor:
    """Set x to 0 in place where the mask has no bits, and return it; the rest stays as it is to the bit."""
    x.view(mask.dtype).bitwise_and_(mask)
    return x
