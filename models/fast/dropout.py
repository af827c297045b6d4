"""Dropout on the CPU in fewer passes, with a byte a number kept and 16 random bits a decision.

PyTorch takes 64 bits of its generator, which runs in one thread, for one decision after the other, and then multiplies
by 0 or 1 / (1 - p). Here four decisions share a random number, vector instructions compare them, and what is dropped is
cleared by AND: a branch at every random mask entry (`masked_fill_`) costs five times as much. The probability becomes a
multiple of 2^-16, and what is kept is scaled by the share that really is, so that the mean stays exact.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Decisions at a time: their 16 bits each lie in a core's cache.
CHUNK = 2**20
#: Values of the bits of a decision.
VALUES = 2**16
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
        kept = draw_kept(torch.empty(x.shape, dtype=torch.int8), p)
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


def kept_share(p: float) -> float:
    """Share of numbers that dropout keeps: 1 - p, where p is rounded to a multiple of 2^-16."""
    return 1 - _dropped_values(p) / VALUES


def kept_scale(dtype: torch.dtype, p: float) -> Tensor:
    """Return what a kept number is multiplied by, in the type of the numbers."""
    return torch.ones((), dtype=dtype).div_(kept_share(p))


def draw_kept(out: Tensor, p: float) -> Tensor:
    """Draw what dropout keeps into `out`, int8 without gaps: all bits set, or none where an entry is dropped."""
    entries = out.view(-1)
    words = torch.empty(-(-min(CHUNK, len(entries)) // 4), dtype=torch.int64)
    bits = words.view(torch.int16)
    # Numbers with a sign: the lowest of the 2^16 values begin at -2^15.
    dropped = _dropped_values(p) - VALUES // 2
    for part in entries.split(CHUNK):
        fill_randomly(words[: -(-len(part) // 4)])
        torch.ge(bits[: len(part)], dropped, out=part).neg_()
    return out


def fill_randomly(words: Tensor) -> None:
    """Fill int64 with the generator's numbers: with these bounds `random_` takes all of their 64 bits."""
    words.random_(-(2**63), None)


def as_mask(kept: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the draws of `draw_kept` as whole numbers as wide as `dtype`, for `clear_dropped`."""
    # A number with a sign becomes wider by repeating it: all bits stay set.
    return kept.to(_INTEGERS[dtype.itemsize])


def clear_dropped(x: Tensor, mask: Tensor) -> Tensor:
    """Set x to 0 in place where the mask has no bits, and return it; the rest stays as it is to the bit."""
    x.view(mask.dtype).bitwise_and_(mask)
    return x


def _dropped_values(p: float) -> int:
    """Return how many values of a decision drop a number; never all, for what is kept is divided by its share."""
    return min(round(p * VALUES), VALUES - 1)
