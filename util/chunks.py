"""A function of many rows, run a few rows at a time so that its intermediate results are few, too."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(function: Callable[..., Tensor], *rows: Tensor, chunk: int) -> Tensor:
    """`function(*rows)` of tensors (N, ...) with the same N, whose result (N, ...) it computes row by row.

    With more than `chunk` rows (0: no limit) it is called several times, and each part is computed again in the
    backward pass instead of kept: memory for one part, time for one forward pass more. `function` must draw nothing
    random. Results and gradients are those of a single call up to rounding.
    """
    # One part also for no rows at all: the function then says which shape its empty result has.
    parts = list(zip(*(tensor.split(chunk or max(1, len(tensor))) for tensor in rows), strict=True))
    if len(parts) == 1:
        return function(*rows)
    return torch.cat([checkpoint(function, *p, use_reentrant=False, preserve_rng_state=False) for p in parts])
