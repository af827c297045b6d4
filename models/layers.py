"""Layers of DETR's transformer, by the original's arguments (section 3.2 and appendix A.3 of the DETR paper).

A layer takes sequences first, (S, B, D), as the original's do, unless it is made with `batch_first`: (B, S, D).
Shapes: B images, S feature cells, Q queries, D channels.
"""

from collections.abc import Callable, MutableSequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import MultiheadAttention, asking
from .fast.dropout import dropout
from .fast.packed_weights import forget
from .fast.products import run_linear
from .fast.relu_dropout import relu_dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "glu": F.glu}


class Layer(nn.Module):
    """Common parts of both kinds of layer: attention, a feed-forward network, and residual blocks around them.

    Modules are made in the original's order, because a checkpoint's optimizer state goes by that order.
    """

    #: Set by the decoder layer.
    cross_attention = False

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        normalize_before: bool = False,
        *,
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        # Attention first, then the linear layers, then the norms: the order of the original's parameters.
        self.self_attn = MultiheadAttention(d_model, nhead, dropout=dropout)
        if self.cross_attention:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout=dropout)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        # A gated linear unit halves its input: half of it gates the other half.
        self.linear2 = nn.Linear(dim_feedforward // 2 if activation == "glu" else dim_feedforward, d_model)
        # One norm for each residual block: two in the encoder's layers, three in the decoder's.
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        if self.cross_attention:
            self.norm3 = nn.LayerNorm(d_model)
        # One module for all places: it holds no state. The original has dropout, dropout1, ..., which have no keys
        # either.
        self.dropout = nn.Dropout(dropout)
        self.activation = _get_activation_fn(activation)
        self.normalize_before = normalize_before
        self.batch_first = batch_first

    def with_pos_embed(self, tensor: Tensor, pos: Tensor | None) -> Tensor:
        """Add positions, where there are any."""
        return with_positions(tensor, pos)

    def feed_forward(self, x: Tensor) -> Tensor:
        """Run the position-wise network, (..., D) to (..., D)."""
        return run_linear(self.linear2, self._hidden(x))

    def train(self, mode: bool = True) -> "Layer":
        """Switch to training or evaluation."""
        forget(self.parameters())
        return super().train(mode)

    def _hidden(self, x: Tensor) -> Tensor:
        """Inner numbers (..., F), after activation and dropout."""
        if self.activation is not F.relu:
            return self.dropout(self.activation(run_linear(self.linear1, x)))
        if self._drops() and torch.is_grad_enabled():
            # The widest map of a layer, (B, L, F) with F = 8 D in DETR: kept once instead of three times.
            return relu_dropout(run_linear(self.linear1, x), self.dropout.p)
        return self.dropout(run_linear(self.linear1, x, relu=True))

    def _drop(self, x: Tensor) -> Tensor:
        """Drop numbers of a block's output (..., D)."""
        return dropout(x, self.dropout.p) if self._drops() else self.dropout(x)

    def _drops(self) -> bool:
        """True where functions of `models.fast` may take the place of the dropout module."""
        drops = type(self.dropout) is nn.Dropout and self.dropout.training and 0 < self.dropout.p < 1
        return drops and not torch.compiler.is_compiling()

    def residual(self, x: Tensor, norm: nn.Module, block: Callable[[Tensor], Tensor]) -> Tensor:
        """x + block(norm(x)) for pre-norm, norm(x + block(x)) for post-norm."""
        if self.normalize_before:
            # Pre-norm: the sum itself is never normalised, so a final norm follows the stack.
            return x + self._drop(block(norm(x)))
        return norm(x + self._drop(block(x)))


class TransformerEncoderLayer(Layer):
    """Self-attention over the feature cells, then a feed-forward network; arguments as in `Transformer`."""

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        *,
        attention: MutableSequence[Tensor] | None = None,
    ) -> Tensor:
        """One layer over cells (S, B, D): positions enter queries and keys, never values.

        Args:
            src_mask: (S, S), as the `attn_mask` of an attention.
            src_key_padding_mask: (B, S), True where there is no image.
            pos: positions, shaped as `src`.
            attention: the weights of its self-attention (B, heads, S, S) are appended to it.
        """
        if not self.batch_first:
            src, pos = swap_first_axes(src), swap_first_axes(pos)

        def self_attention(x: Tensor) -> Tensor:
            # One tensor for both: the attention sees that they are the same and multiplies once.
            q = k = with_positions(x, pos)
            masks = {"key_padding_mask": src_key_padding_mask, "attn_mask": src_mask}
            return self.self_attn(q, k, x, **masks, **asking(attention))[0]

        src = self.residual(src, self.norm1, self_attention)
        src = self.residual(src, self.norm2, self.feed_forward)
        return src if self.batch_first else swap_first_axes(src)


class TransformerDecoderLayer(Layer):
    """Self-attention among the queries, attention to the encoder's memory, then a feed-forward network.

    Arguments as in `Transformer`.
    """

    cross_attention = True

    def forward(  # noqa: PLR0913 - DETR's signature
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        pos: Tensor | None = None,
        query_pos: Tensor | None = None,
        *,
        memory_pos: Tensor | None = None,
        attention: MutableSequence[Tensor] | None = None,
    ) -> Tensor:
        """One layer over queries (Q, B, D); values are `memory` (S, B, D), keys that plus positions.

        Args:
            tgt_mask, memory_mask: (Q, Q) and (Q, S), as the `attn_mask` of an attention.
            tgt_key_padding_mask, memory_key_padding_mask: (B, Q) and (B, S), True hides a key.
            pos, query_pos: positions, shaped as `memory` and `tgt`.
            memory_pos: memory plus positions, where the caller has added them up.
            attention: the weights of its attention to the memory (B, heads, Q, S) are appended to it.
        """
        if memory_pos is None:
            memory_pos = with_positions(memory, pos)
        if not self.batch_first:
            tgt, memory, memory_pos, query_pos = map(swap_first_axes, (tgt, memory, memory_pos, query_pos))

        def self_attention(x: Tensor) -> Tensor:
            q = k = with_positions(x, query_pos)
            return self.self_attn(q, k, x, key_padding_mask=tgt_key_padding_mask, attn_mask=tgt_mask)[0]

        def cross_attention(x: Tensor) -> Tensor:
            # Keys carry positions, values do not: where a cell is decides who looks at it, not what is seen there.
            q, masks = with_positions(x, query_pos), (memory_key_padding_mask, None, memory_mask)
            return self.multihead_attn(q, memory_pos, memory, *masks, **asking(attention))[0]

        tgt = self.residual(tgt, self.norm1, self_attention)
        tgt = self.residual(tgt, self.norm2, cross_attention)
        tgt = self.residual(tgt, self.norm3, self.feed_forward)
        return tgt if self.batch_first else swap_first_axes(tgt)


def with_positions(x: Tensor, pos: Tensor | None) -> Tensor:
    """Add positions, where there are any."""
    return x if pos is None else x + pos


def swap_first_axes(x: Any) -> Any:
    """Sequences first to batches first, and back: a view. None stays."""
    return None if x is None else x.transpose(0, 1)


def _get_activation_fn(activation: str) -> Callable[[Tensor], Tensor]:
    """Return the function of a name. Raises ValueError for one that is not known."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, not {activation}")
    return ACTIVATIONS[activation]
