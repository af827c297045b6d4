"""Attention with dropout for training on the CPU, where PyTorch's fused kernel has no dropout.

PyTorch falls back to whole matrices of scores (B * heads, L, S), passed over a dozen times in memory. Here a few heads
at a time go through all passes while their scores lie in the cache.

Shapes: N = B * heads, L queries and S keys of width d.
"""

import math
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .dropout import as_mask, clear_dropped, draw_kept, kept_share
from .products import batch_product, linear, suits_onednn

#: Bytes of scores at a time: about what a core's cache and its share of the common one hold.
CHUNK = 2**22


def attend_with_dropout(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias) with entries dropped, times v: as `F.scaled_dot_product_attention` in training.

    Args:
        q, k, v: (B, heads, L or S, d); gradients flow to these, once. Values may be of another width.
        bias: added to the scores, broadcast to (B, heads, 1, S).
        dropout: probability, rounded to a multiple of 2^-16; what is kept is scaled up accordingly.
    """
    rows = None if bias is None else bias.expand(*q.shape[:2], 1, -1).flatten(0, 1)
    return _Attention.apply(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), rows, dropout).view(
        *q.shape[:-1], v.shape[-1]
    )


class _Attention(torch.autograd.Function):
    """Keeps which scores were dropped, a byte each, and computes the probabilities again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        """Attend with q (N, L, d), k (N, S, d), v (N, S, e) and a bias (N, 1, S) of the N heads of all images."""
        ctx.scale, ctx.kept = 1 / math.sqrt(q.shape[-1]), kept_share(dropout)
        out = v.new_empty(len(q), q.shape[1], v.shape[2])
        # All bits of a byte, or none where a score is dropped.
        kept = torch.empty(len(q), q.shape[1], k.shape[1], dtype=torch.int8, device=q.device)  # (N, L, S)
        for q_, k_, v_, rows_, out_, kept_ in _parts(q, k, v, _rows(bias, q), out, kept, scores=kept):
            probability = _probability(q_, k_, rows_, ctx.scale)
            mask = as_mask(draw_kept(kept_, dropout), q.dtype)
            _multiply_into(out_, clear_dropped(probability, mask), v_)
        ctx.save_for_backward(q, k, v, bias, kept)
        # Once on the result (N, L, d) instead of on the scores (N, L, S), which are S / d times as many.
        return out.div_(ctx.kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of q, k and v for that of the result (N, L, e)."""
        q, k, v, bias, kept = ctx.saved_tensors
        # Not in place: autograd may hand the same gradient to others.
        gradient = gradient / ctx.kept
        to_q, to_k, to_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        parts = _parts(q, k, v.transpose(1, 2), _rows(bias, q), kept, gradient, to_q, to_k, to_v, scores=kept)
        for q_, k_, columns, rows_, kept_, g, to_q_, to_k_, to_v_ in parts:
            mask = as_mask(kept_, q.dtype)
            # To the last bit those of the forward pass: the same operations on the same heads.
            probability = _probability(q_, k_, rows_, ctx.scale)
            # d(P v)/dv = P^T g with the dropped entries at zero.
            used = (probability.view(mask.dtype) & mask).view(q.dtype)
            _multiply_into(to_v_, used.transpose(1, 2), g)
            # g v^T (., L, S), and nothing through what was dropped; in the place of what is not wanted any more.
            to_probability = clear_dropped(batch_product(g, columns, memory=used), mask)
            # The softmax's own output is wanted here, dropped entries included.
            to_scores = torch._softmax_backward_data(to_probability, probability, -1, probability.dtype)
            _multiply_into(to_q_, to_scores, k_)
            _multiply_into(to_k_, to_scores.transpose(1, 2), q_)
        # The scale stands in the scores, so the chain rule brings it to queries and keys but not to values.
        return to_q.mul_(ctx.scale), to_k.mul_(ctx.scale), to_v, None, None


def _parts(q: Tensor, *tensors: Tensor | None, scores: Tensor) -> Iterator[tuple[Any, ...]]:
    """Parts of tensors (N, ...) that belong together, with about `CHUNK` of the scores (N, L, S) each; None stays."""
    # Whole heads at a time, at least one, however large its matrix. Scores have the type of q.
    step = max(1, CHUNK // max(1, scores[0].numel() * q.itemsize))
    tensors = (q, *tensors)
    if step >= len(scores):
        return iter([tensors])
    return zip(*(repeat(None) if tensor is None else tensor.split(step) for tensor in tensors))


def _rows(bias: Tensor | None, q: Tensor) -> Tensor | None:
    """A bias (N, 1, S) for every query of q (N, L, d): a view (N, L, S)."""
    return None if bias is None else bias.expand(-1, q.shape[1], -1)


def _probability(q: Tensor, k: Tensor, rows: Tensor | None, scale: float) -> Tensor:
    """softmax(q k^T * scale + rows), (., L, S)."""
    if suits_onednn(q, math.prod(q.shape[1:]) * k.shape[1]):
        # The rows of a head are one and the same.
        of_heads = repeat(None) if rows is None else rows[:, 0]
        scores = [linear(*head) for head in zip(q * scale, k, of_heads)]
        return (scores[0][None] if len(scores) == 1 else torch.stack(scores)).softmax(-1)
    if rows is None:
        # beta=0: the first argument is not read.
        return torch.baddbmm(q.new_zeros(1), q, k.transpose(1, 2), beta=0, alpha=scale).softmax(-1)
    return torch.baddbmm(rows, q, k.transpose(1, 2), alpha=scale).softmax(-1)


def _multiply_into(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Multiply matrices a (B, M, K) by b (B, K, N) into `out` (B, M, N)."""
    result = batch_product(a, b, memory=out)
    if result is not out:  # oneDNN's operator takes no memory
        out.copy_(result)
