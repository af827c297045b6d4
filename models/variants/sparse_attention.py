"""Attention that gives most keys exactly nothing (`--cross_attention` and its two sisters), in place of the softmax.

Sparse normalisers for DETR: sparsemax, 1.5-entmax, alpha-entmax with an alpha that each head learns (Correia et al.
2019), and the softmax over the N largest scores. Parameters are named as in plain attention, so that checkpoints of
either load; a learned alpha comes on top. Fused kernels know the softmax alone: scores are kept, as where somebody asks
for the weights.

Shapes: B images, L queries, S keys.
"""

import math

import torch
from torch import Tensor, nn

from util.dist.precision import without_autocast

from ..attention import MultiheadAttention
from ..transformer import Transformer
from .entmax import alpha_entmax, entmax15, sparsemax

#: A learned alpha lies between these: gradients lose their digits near 1, and 2 is the sparsemax.
LEAST_ALPHA, MOST_ALPHA = 1.01, 2.0


class Normalizer(nn.Module):
    """Makes scores (B, heads, L, S) to weights that add up to 1 over S; minus infinity and very low scores get 0.

    Computes in float32 whatever the scores are in: in half precision rows would add up to 1.04 (or stay float64).
    """

    def forward(self, scores: Tensor) -> Tensor:
        """Return the weights (B, heads, L, S)."""
        with without_autocast(scores.device):
            return self.normalize(scores if scores.dtype == torch.float64 else scores.float())

    def normalize(self, scores: Tensor) -> Tensor:
        """Return the weights of wide scores."""
        raise NotImplementedError


class Sparsemax(Normalizer):
    """The sparsemax."""

    def normalize(self, scores: Tensor) -> Tensor:
        """Return the nearest points of the simplex."""
        return sparsemax(scores)


class Entmax15(Normalizer):
    """The 1.5-entmax."""

    def normalize(self, scores: Tensor) -> Tensor:
        """Return what lies halfway between softmax and sparsemax."""
        return entmax15(scores)


class AlphaEntmax(Normalizer):
    """The alpha-entmax; every head learns how sparse it is, and starts as the 1.5-entmax."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        # The logit of the place of 1.5 in the range: `alpha` below inverts it.
        share = (1.5 - LEAST_ALPHA) / (MOST_ALPHA - LEAST_ALPHA)
        self.alpha_logits = nn.Parameter(torch.full((heads,), math.log(share / (1 - share))))

    def alpha(self) -> Tensor:
        """Return the alpha of each head (heads,)."""
        return LEAST_ALPHA + (MOST_ALPHA - LEAST_ALPHA) * self.alpha_logits.sigmoid()

    def normalize(self, scores: Tensor) -> Tensor:
        """Return the alpha-entmax by head."""
        # (heads, 1, 1) against (B, heads, L, 1).
        return alpha_entmax(scores, self.alpha()[:, None, None])


class TopK(Normalizer):
    """The softmax over the `count` largest scores of each query; of equal ones at the border, any."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def normalize(self, scores: Tensor) -> Tensor:
        """Return weights of which `count` at most are not 0."""
        values, keys = scores.topk(min(self.count, scores.shape[-1]), dim=-1)
        hidden = values[..., :1] == -math.inf  # the largest: a row without any key to see
        weights = values.masked_fill(hidden, 0).softmax(-1).masked_fill(hidden, 0)
        # (B, heads, L, S) again: the kept weights at their keys, exact zeros elsewhere.
        return torch.zeros_like(scores).scatter(-1, keys, weights)


def make_normalizer(name: str, *, heads: int, topk: int) -> Normalizer | None:
    """Return the normaliser of a name of `util.choices.ATTENTIONS`; None for the softmax, which needs none."""
    if name == "alpha_entmax":
        return AlphaEntmax(heads)
    if name == "topk":
        return TopK(topk)
    if name == "softmax":
        return None
    return {"sparsemax": Sparsemax, "entmax15": Entmax15}[name]()


def set_normalizers(transformer: Transformer, *, encoder: str, decoder_self: str, cross: str, topk: int) -> None:
    """Give the attentions of a transformer, which may be a variant's, the normalisers of these names."""
    places = [(layer.self_attn, encoder) for layer in transformer.encoder.layers]
    for layer in transformer.decoder.layers:
        places += [(layer.self_attn, decoder_self), (layer.multihead_attn, cross)]
    for attention, name in places:
        assert isinstance(attention, MultiheadAttention)
        attention.normalizer = make_normalizer(name, heads=attention.num_heads, topk=topk)


def learned_alphas(model: nn.Module) -> dict[str, list[float]]:
    """Return the alphas of a model's heads, by the name of their attention."""
    modules = model.named_modules()
    return {name.removesuffix(".normalizer"): m.alpha().tolist() for name, m in modules if isinstance(m, AlphaEntmax)}
