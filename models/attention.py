"""Multi-head attention as DETR uses it, with the parameter names of `torch.nn.MultiheadAttention`."""

import math
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .fast.dropout_attention import attend_with_dropout
from .fast.head_attention import attend_by_heads, suits_heads
from .fast.products import linear, run_linear


@dataclass
class AttentionMaps:
    """The attention weights of one forward pass, where a model is asked for them: `model(images, attention=maps)`.

    Layers append their weights to the lists, the first layer's first: (B, heads, S, S) from cell to cell in the
    encoder, (B, heads, Q, S) from query to cell in the decoder. Each row sums to 1; padding has the weight 0. A list of
    another kind may keep less than it is given: at stride 16 an encoder's weights take gigabytes.

    Attributes:
        encoder, decoder: the weights.
        padding: (B, h, w) over the S = h * w cells, True where there is no image.
    """

    encoder: MutableSequence[Tensor] = field(default_factory=list)
    decoder: MutableSequence[Tensor] = field(default_factory=list)
    padding: Tensor | None = None


def asking(attention: Any) -> dict[str, Any]:
    """Keywords for a module that is asked for its weights, and none otherwise: other people's modules know none."""
    return {} if attention is None else {"attention": attention}


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over `num_heads` heads (Vaswani et al. 2017, section 3.2.2).

    Parameters are named and shaped as in `nn.MultiheadAttention`, so DETR's checkpoints load; batches come first.

    Attributes:
        need_weights: also return the attention map, averaged over heads. False, so that the fused kernel runs, until
            somebody registers a forward hook: public notebooks read the map from a hook's `output[1]`.
        normalizer: makes scores (B, heads, L, S) to weights; None for the softmax.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"--hidden_dim {embed_dim} must be a multiple of --nheads {num_heads}")
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.need_weights = False
        self.normalizer: nn.Module | None = None
        # Queries', keys' and values' matrices below each other, (3D, D), as in PyTorch's state dict.
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def register_forward_hook(self, hook: Callable[..., Any], **kwargs: Any) -> RemovableHandle:
        """Register a hook as every module does, and switch `need_weights` on for it."""
        self.need_weights = True
        return super().register_forward_hook(hook, **kwargs)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool | None = None,
        attn_mask: Tensor | None = None,
        *,
        attention: MutableSequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from `query` (B, L, D) to `key` and `value` (B, S, D).

        Args:
            key_padding_mask: (B, S), True hides a key from all queries of an image.
            need_weights: return the map; by default as the attribute says.
            attn_mask: (L, S) or (B * heads, L, S), True hides a key from a query; or numbers that are added to scores,
                in these shapes or in one that broadcasts to (B, heads, L, S).
            attention: the weights of every head (B, heads, L, S) are appended to it.

        Returns:
            The output (B, L, D) and, where it is needed, the map (B, L, S); None elsewhere.
        """
        q, k, v = self._project(query, key, value)  # (B, heads, L or S, D / heads)
        return self._attend(
            q, k, v, key_padding_mask, need_weights=need_weights, attn_mask=attn_mask, attention=attention
        )

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        key_padding_mask: Tensor | None,
        *,
        need_weights: bool | None = None,
        attn_mask: Tensor | None = None,
        attention: MutableSequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with projected queries, keys and values (B, heads, L or S, width); the rest as in `forward`."""
        bias = _additive_mask(key_padding_mask, dtype=q.dtype)
        per_query = attn_mask is not None
        if attn_mask is not None:
            allowed = _as_bias(attn_mask, self.num_heads, dtype=q.dtype)
            bias = allowed if bias is None else bias + allowed
        # A number and no module: the fused kernel draws its own mask, and must be told when not to.
        dropout = self.dropout if self.training else 0.0
        attention_map = None
        need_weights = self.need_weights if need_weights is None else need_weights
        if need_weights or attention is not None or self.normalizer is not None:
            # (B, heads, L, S): the fused kernels never hold this matrix, so a map costs time and memory.
            scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + (0 if bias is None else bias)
            weights = scores.softmax(-1) if self.normalizer is None else self.normalizer(scores)
            # Dropout falls on weights after the softmax, as in PyTorch's module: rows then sum to 1 only on average.
            heads = F.dropout(weights, dropout) @ v
            if attention is not None:
                attention.append(weights.detach())
            if need_weights:
                # (B, L, S): the mean over heads, which is what `nn.MultiheadAttention` returns and notebooks plot.
                attention_map = weights.mean(1)
        elif 0 < dropout < 1 and q.device.type == "cpu" and not per_query and not torch.compiler.is_compiling():
            heads = attend_with_dropout(q, k, v, bias, dropout)  # the CPU's fused kernel has no dropout
        elif dropout == 0 and not per_query and suits_heads(q, k):
            heads = attend_by_heads(q, k, v, bias)
        else:
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)
        # (B, heads, L, D / heads) to (B, L, D): the channels of one head lie side by side, as in PyTorch's weights.
        return run_linear(self.out_proj, heads.transpose(1, 2).flatten(2)), attention_map

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values, each (B, heads, L or S, D / heads); equal inputs share one product."""
        project = partial(linear, owner=self.in_proj_weight)
        if query is key:
            # Queries' and keys' rows lie one after the other in the weight.
            sizes = [2 * len(self.in_proj_weight) // 3, len(self.in_proj_weight) // 3]
            weights, biases = self.in_proj_weight.split(sizes), self.in_proj_bias.split(sizes)
            both = project(query, weights[0], biases[0])
            projected = [*both.chunk(2, dim=-1), project(value, weights[1], biases[1])]
        else:
            weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
            projected = [project(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]
        # A view: the channels of head i are i * D / heads and the following ones.
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]


def _additive_mask(key_padding_mask: Tensor | None, *, dtype: torch.dtype) -> Tensor | None:
    """-inf on hidden keys, 0 elsewhere, shaped (B, 1, 1, S) to broadcast over heads and queries."""
    if key_padding_mask is None:
        return None
    bias = torch.zeros(key_padding_mask.shape, dtype=dtype, device=key_padding_mask.device)
    # By shape, not by `len`, which would fix the number of images in an exported model.
    return bias.masked_fill_(key_padding_mask, -math.inf).view(bias.shape[0], 1, 1, -1)


def _as_bias(attn_mask: Tensor, heads: int, *, dtype: torch.dtype) -> Tensor:
    """A mask (L, S) or (B * heads, L, S) as numbers to add to scores (B, heads, L, S)."""
    if attn_mask.dtype == torch.bool:
        hidden, shape = attn_mask, attn_mask.shape
        attn_mask = torch.zeros(shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -math.inf)
    # PyTorch's order for three axes: image 0 with all its heads, then image 1.
    return attn_mask.to(dtype).unflatten(0, (-1, heads)) if attn_mask.dim() == 3 else attn_mask.to(dtype)
