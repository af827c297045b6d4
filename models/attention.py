"""Multi-head attention as DETR uses it, with the parameter names of `torch.nn.MultiheadAttention`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .fast.dropout_attention import attend_with_dropout


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention over `num_heads` heads (Vaswani et al. 2017, section 3.2.2).

    Parameters are named and shaped as in `nn.MultiheadAttention`, so DETR's checkpoints load. The attention map is
    only computed when somebody listens: a forward hook on this module gets `(output, map)` with the map averaged over
    heads, (B, L, S); without hooks the fused kernel runs and the second item is None.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"--hidden_dim {embed_dim} must be a multiple of --nheads {num_heads}")
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, *, key_padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from `query` (B, L, D) to `key` and `value` (B, S, D); True in the mask (B, S) hides a key.

        Returns the output (B, L, D) and, only when a forward hook is registered, the map (B, L, S).
        """
        q, k, v = self._project(query, key, value)
        bias = _additive_mask(key_padding_mask, dtype=q.dtype)
        dropout = self.dropout if self.training else 0.0
        if self._forward_hooks:
            weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + (0 if bias is None else bias)).softmax(-1)
            heads, attention_map = F.dropout(weights, dropout) @ v, weights.mean(1)
        elif 0 < dropout < 1 and q.device.type == "cpu" and not torch.compiler.is_compiling():
            heads, attention_map = attend_with_dropout(q, k, v, bias, dropout), None
        else:
            heads, attention_map = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout), None
        return self.out_proj(heads.transpose(1, 2).flatten(2)), attention_map

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values, each (B, heads, L or S, D / heads); equal inputs share one product."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        if query is key:
            d = len(weights[0])
            both = F.linear(query, self.in_proj_weight[: 2 * d], self.in_proj_bias[: 2 * d])
            projected = [*both.chunk(2, dim=-1), F.linear(value, weights[2], biases[2])]
        else:
            projected = [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases)]
        return [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in projected]


def _additive_mask(key_padding_mask: Tensor | None, *, dtype: torch.dtype) -> Tensor | None:
    """-inf on hidden keys, 0 elsewhere, shaped (B, 1, 1, S) to broadcast over heads and queries."""
    if key_padding_mask is None:
        return None
    bias = torch.zeros(key_padding_mask.shape, dtype=dtype, device=key_padding_mask.device)
    return bias.masked_fill_(key_padding_mask, -math.inf)[:, None, None]
