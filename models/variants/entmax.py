"""Probabilities with exact zeros: sparsemax (Martins and Astudillo 2016), 1.5- and alpha-entmax (Peters et al. 2019).

All are p_j = [(alpha - 1) z_j - t]_+ ^ (1 / (alpha - 1)) with the t for which the p_j add up to 1: sparsemax at alpha
2, 1.5-entmax at 1.5, and the softmax as alpha nears 1. The published ways to t sort the scores or halve an interval.
Here, with n = 1 / (alpha - 1) and r = [(alpha - 1) z - t]_+, t is where the n-norm of r is 1. For n >= 1 a norm is
convex in t, so Newton's method from below the root never steps over it, and each step divides the product of the
distance from 1 and the slope by four at least: a fixed number of steps suffices for any scores. Mostly six or so do.

Shapes: N rows of S scores.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Newton steps at most. Distance and slope are at most S at the start, and the slope is never below 1: 24 steps reach
#: the last bit of float32 for 4,096 scores, 40 that of float64.
STEPS = {torch.float32: 24, torch.float64: 40}
#: Scores at a time on the CPU: about what one core's cache holds of them and of two results.
CHUNK = 2**17
#: Of a power: smaller ones are no different beside a largest one of at least 1 / S.
LEAST_LOGARITHM = -80.0


def sparsemax(z: Tensor) -> Tensor:
    """Return the point of the simplex that is nearest to scores (..., S); float32 or float64."""
    return _Entmax.apply(z, 2.0)


def entmax15(z: Tensor) -> Tensor:
    """Return the 1.5-entmax of scores (..., S); float32 or float64."""
    return _Entmax.apply(z, 1.5)


def alpha_entmax(z: Tensor, alpha: Tensor) -> Tensor:
    """Return the alpha-entmax of scores (..., S); float32 or float64.

    Args:
        z: the scores; a row of minus infinity alone gives zeros.
        alpha: above 1 and at most 2, in a shape that broadcasts to (..., 1); it has a gradient, too. At less than 1.01
            that loses its digits.
    """
    return _Entmax.apply(z, alpha)


class _Entmax(torch.autograd.Function):
    """Keeps no more than the probabilities, and alpha where it is learned, for the backward pass."""

    @staticmethod
    def forward(z: Tensor, alpha: Tensor | float) -> Tensor:
        """Return the probabilities of scores z (..., n)."""
        rows, of_rows = z.reshape(-1, z.shape[-1]), _for_rows(alpha, z)
        if not _in_parts(z):
            return _probabilities(rows, of_rows).view(z.shape)
        result = torch.empty_like(rows)
        for part in _parts(rows):
            result[part] = _probabilities(rows[part], of_rows[part] if isinstance(of_rows, Tensor) else of_rows)
        return result.view(z.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor | float], output: Tensor) -> None:
        """Keep the probabilities, and alpha as a tensor where it wants a gradient."""
        alpha = inputs[1]
        ctx.alpha = None if isinstance(alpha, Tensor) else alpha
        ctx.save_for_backward(output, *([alpha] if isinstance(alpha, Tensor) else []))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of the scores (..., n) and of a learned alpha."""
        p, *learned = ctx.saved_tensors
        alpha = learned[0] if learned else ctx.alpha
        # p (..., n) as rows (m, n): each is a distribution of its own.
        rows, of_rows = p.reshape(-1, p.shape[-1]), _for_rows(alpha, p)
        gradient = gradient.reshape(rows.shape)
        if _in_parts(p):
            to_z, to_alpha = torch.empty_like(rows), torch.empty_like(rows[:, :1])
            for part in _parts(rows):
                own = of_rows[part] if isinstance(of_rows, Tensor) else of_rows
                to_z[part], to_alpha[part] = _gradients(rows[part], gradient[part], own)
        else:
            to_z, to_alpha = _gradients(rows, gradient, of_rows)
        if not learned:
            return to_z.view(p.shape), None
        # An alpha was broadcast over many rows (one for each head, say): its gradient is the sum of theirs.
        return to_z.view(p.shape), to_alpha.view(*p.shape[:-1], 1).sum_to_size(alpha.shape)


def _probabilities(z: Tensor, alpha: Tensor | float) -> Tensor:
    """Solve for t in every row of scores (N, S), with alpha (N, 1) or one for all, and return the probabilities."""
    tiny = torch.finfo(z.dtype).tiny
    x = z * (alpha - 1)
    # From the largest score down, so that t lies in -1..0; of a row that is hidden altogether, finite.
    # -inf - -inf would be NaN; -inf less the least finite number stays -inf, which becomes probability 0.
    x = x - x.amax(-1, keepdim=True).clamp_min_(torch.finfo(z.dtype).min)
    # The largest score is 0 now: at t = -1 its r alone is 1, so the norm is 1 or more and t is at or below the root.
    t = torch.full_like(x[:, :1], -1.0)
    enough = 4 * torch.finfo(z.dtype).eps
    for _ in range(STEPS[z.dtype]):
        step = _newton((x - t).clamp_min_(0), alpha, tiny)
        t = t + step
        # A look at the numbers: free on the CPU, and elsewhere it would wait for the device.
        if _in_parts(z) and not bool((step > enough).any()):
            break
    r = (x - t).clamp_min_(0)
    if isinstance(alpha, float):
        # The outer power is 1 / (alpha - 1): 1 for alpha 2, 2 for alpha 1.5.
        return r if alpha == 2.0 else r.square_()
    p = _power(r, (2 - alpha) / (alpha - 1)).mul_(r)
    # The power, up to 100, enlarges what is left of t's rounding.
    return p / p.sum(-1, keepdim=True).clamp_min(tiny)


def _newton(r: Tensor, alpha: Tensor | float, tiny: float) -> Tensor:
    """Step (N, 1) of t toward a norm of 1 of what lies above it, r (N, S); never back, for rounding alone would."""
    if isinstance(alpha, float) and alpha == 2.0:
        excess, pace = r.sum(-1, keepdim=True) - 1, r.sign().sum(-1, keepdim=True).clamp_min_(1).reciprocal_()
    elif isinstance(alpha, float):
        norm = torch.linalg.vector_norm(r, dim=-1, keepdim=True)
        excess, pace = norm - 1, norm / r.sum(-1, keepdim=True).clamp_min_(tiny)
    else:
        slopes = _power(r, (2 - alpha) / (alpha - 1))  # r^(n-1)
        total = (slopes * r).sum(-1, keepdim=True)
        norm = total ** (alpha - 1)
        excess, pace = norm - 1, total / (norm * slopes.sum(-1, keepdim=True)).clamp_min_(tiny)
    return (excess * pace).clamp_min_(0)


def _gradients(p: Tensor, gradient: Tensor, alpha: Tensor | float) -> tuple[Tensor, Tensor]:
    """Gradients of scores (N, S) and of alpha (N, 1) from that of the probabilities.

    With s = p^(2 - alpha) on the support and q = s / sum(s), dp/dz = diag(s) - s q^T. Of the gradient g, h = g - <g, q>
    then counts alone, for alpha, too: dp/dalpha = (p - q) / (alpha - 1)^2 - (p log p - q sum(p log p)) / (alpha - 1)
    sums to 0, and <h, q> is 0.
    """
    tiny = torch.finfo(p.dtype).tiny
    if isinstance(alpha, float):
        # p / sqrt(p) is the root, and exactly 0 at 0, of which the CPU's root is slow.
        s = p.sign() if alpha == 2.0 else p / p.clamp_min(tiny).sqrt_()
    else:
        s = _power(p, 2 - alpha)
    # A row that is hidden altogether has s = 0, and its gradient stays 0.
    h = gradient - (gradient * s).sum(-1, keepdim=True) / s.sum(-1, keepdim=True).clamp_min_(tiny)
    to_alpha = torch.zeros_like(p[:, :1])
    if isinstance(alpha, Tensor):
        logarithm = p.clamp_min(tiny).log_()
        to_alpha = (h * p * ((alpha - 1) ** -2 - logarithm / (alpha - 1))).sum(-1, keepdim=True)
    return h.mul_(s), to_alpha


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    """base ** exponent, and 0 at 0 whatever the exponent: several times as fast on the CPU as `torch.pow`."""
    # The clamps keep logarithm and power of 0 in the vector units, whose results near the least number are slow.
    logarithm = base.clamp_min(torch.finfo(base.dtype).tiny).log_()
    return (logarithm * exponent).clamp_min_(LEAST_LOGARITHM).exp_().mul_(base.sign())


def _for_rows(alpha: Tensor | float, z: Tensor) -> Tensor | float:
    """Alpha of each row (N, 1), or the same for all."""
    return alpha.expand(*z.shape[:-1], 1).reshape(-1, 1).to(z.dtype) if isinstance(alpha, Tensor) else alpha


def _in_parts(z: Tensor) -> bool:
    """True where a few rows at a time are faster: a compiler, and a GPU, take them all."""
    return z.device.type == "cpu" and not torch.compiler.is_compiling()


def _parts(rows: Tensor) -> Iterator[slice]:
    """Slices of rows (N, S) with about `CHUNK` scores each."""
    step = max(1, CHUNK // max(1, rows.shape[1]))
    return (slice(i, i + step) for i in range(0, len(rows), step))
