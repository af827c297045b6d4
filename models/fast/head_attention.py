"""Attention without gradients, head by head, by oneDNN's products where those are the faster ones (`products`).

PyTorch's fused kernel for the CPU never holds a whole matrix of scores, but multiplies by MKL. Here the scores of one
head are held, always in float32: in bfloat16 they would be rounded to 2 or 3 digits.

Shapes: B images, L queries and S keys of width d, values of width e.
"""

import math

import torch
from torch import Tensor

from .products import multiply_onednn, suits_onednn

#: Types for which scores in float32 lose nothing.
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def suits_heads(q: Tensor, k: Tensor) -> bool:
    """Tell if `attend_by_heads` is for queries (B, heads, L, d) and keys (B, heads, S, d)."""
    # L * d * S, of one head.
    return not torch.is_grad_enabled() and suits_onednn(q, math.prod(q.shape[2:]) * k.shape[2], types=TYPES)


def attend_by_heads(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) v, as `F.scaled_dot_product_attention`: (B, heads, L, e).

    Args:
        q, k, v: (B, heads, L or S, d or e).
        bias: added to the scores, broadcast to (B, heads, 1, S).
    """
    # Copied once for all heads: rows with gaps are slow, and values are wanted as columns (., e, S).
    queries = (q.float() / math.sqrt(q.shape[-1])).flatten(0, 1)
    keys, columns = k.float().flatten(0, 1).contiguous(), v.float().transpose(2, 3).flatten(0, 1).contiguous()
    rows = [None] * len(keys) if bias is None else bias.float().expand(*q.shape[:2], 1, -1).flatten(0, 1)[:, 0]
    out = v.new_empty(len(keys), q.shape[2], v.shape[3])
    for i in range(len(keys)):
        weights = multiply_onednn(queries[i], keys[i], rows[i]).softmax(-1)
        out[i] = multiply_onednn(weights, columns[i], None)
    return out.view(*q.shape[:3], v.shape[3])
