"""DETR's transformer: encoder over the feature map, decoder from object queries (section 3.2 and appendix A.3).

It differs from the one of Vaswani et al. in three ways: position encodings are added to queries and keys in every
attention, not once at the input; the decoder sees all queries at once, without a causal mask; and every decoder
layer's output is returned, normalised by one shared norm, for the auxiliary losses.

Shapes: B images, S = h * w feature cells, Q queries, D channels, L decoder layers.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.dist.precision import wide_dtype
from util.profiling import annotate

from .attention import MultiheadAttention

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "glu": F.glu}


class Transformer(nn.Module):
    """Encoder and decoder.

    Args:
        d_model: channels D.
        nhead: heads of every attention.
        num_encoder_layers, num_decoder_layers: how many layers.
        dim_feedforward: width of the hidden layer of the feed-forward networks.
        dropout: probability, after every attention and inside and after every feed-forward network.
        activation: `relu`, `gelu` or `glu`.
        normalize_before: layer norms before each block (pre-norm) instead of after it; adds a norm to the encoder.
        return_intermediate_dec: return every decoder layer's output, not only the last.
    """

    def __init__(
        self,
        *,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        normalize_before: bool = False,
        return_intermediate_dec: bool = False,
    ) -> None:
        super().__init__()
        layer = dict(
            d_model=d_model,
            nhead=nhead,
            dim_feedforward=dim_feedforward,
            dropout=dropout,
            activation=activation,
            normalize_before=normalize_before,
        )
        self.encoder = TransformerEncoder(
            [TransformerEncoderLayer(**layer) for _ in range(num_encoder_layers)],
            norm=nn.LayerNorm(d_model) if normalize_before else None,
        )
        self.decoder = TransformerDecoder(
            [TransformerDecoderLayer(**layer) for _ in range(num_decoder_layers)],
            norm=nn.LayerNorm(d_model),
            return_intermediate=return_intermediate_dec,
        )
        self.d_model = d_model
        self.nhead = nhead
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self, src: Tensor, mask: Tensor | None, query_embed: Tensor, pos_embed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Decode objects from a feature map.

        Args:
            src: features (B, D, h, w).
            mask: (B, h, w), True on padding, which no attention then sees; None for no padding.
            query_embed: learned positions of the object queries (Q, D); their content starts at zero.
            pos_embed: position encoding (B, D, h, w).

        Returns:
            decoder outputs (L, B, Q, D), L = 1 without `return_intermediate_dec`, and encoder memory (B, D, h, w).
        """
        b, _, h, w = src.shape
        cells = src.flatten(2).transpose(1, 2).to(wide_dtype(src))
        pos = pos_embed.flatten(2).transpose(1, 2)
        padding = None if mask is None else mask.flatten(1)
        query_pos = query_embed.expand(b, -1, -1)
        with annotate("encoder"):
            memory = self.encoder(cells, padding=padding, pos=pos)
        with annotate("decoder"):
            hs = self.decoder(torch.zeros_like(query_pos), memory, padding=padding, pos=pos, query_pos=query_pos)
        return hs, memory.transpose(1, 2).unflatten(2, (h, w))


class TransformerEncoder(nn.Module):
    """A stack of encoder layers, with a final norm only when pre-norm asks for one."""

    def __init__(self, layers: list["TransformerEncoderLayer"], *, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(self, src: Tensor, *, padding: Tensor | None, pos: Tensor) -> Tensor:
        """Encode cells (B, S, D) with positions (B, S, D); `padding` (B, S) is True where there is no image."""
        for layer in self.layers:
            src = layer(src, padding=padding, pos=pos)
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(nn.Module):
    """A stack of decoder layers and one norm that every returned output passes."""

    def __init__(
        self, layers: list["TransformerDecoderLayer"], *, norm: nn.Module, return_intermediate: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.return_intermediate = return_intermediate

    def forward(self, tgt: Tensor, memory: Tensor, *, padding: Tensor | None, pos: Tensor, query_pos: Tensor) -> Tensor:
        """Decode queries (B, Q, D) from memory (B, S, D): outputs (L, B, Q, D)."""
        outputs = []
        memory_pos = memory + pos
        for layer in self.layers:
            tgt = layer(tgt, memory, memory_pos=memory_pos, padding=padding, query_pos=query_pos)
            outputs.append(tgt)
        return self.norm(torch.stack(outputs if self.return_intermediate else outputs[-1:]))


class _Layer(nn.Module):
    """What encoder and decoder layers share: attention, a feed-forward network, and residual blocks around them.

    Modules are made in the original's order, because a checkpoint's optimizer state goes by that order.
    """

    def __init__(
        self,
        *,
        d_model: int,
        nhead: int,
        dim_feedforward: int,
        dropout: float,
        activation: str,
        normalize_before: bool,
        cross_attention: bool,
    ) -> None:
        super().__init__()
        self.self_attn = MultiheadAttention(d_model, nhead, dropout=dropout)
        if cross_attention:
            self.multihead_attn = MultiheadAttention(d_model, nhead, dropout=dropout)
        self.linear1 = nn.Linear(d_model, dim_feedforward)
        # A gated linear unit halves its input: half of it gates the other half.
        self.linear2 = nn.Linear(dim_feedforward // 2 if activation == "glu" else dim_feedforward, d_model)
        self.norm1 = nn.LayerNorm(d_model)
        self.norm2 = nn.LayerNorm(d_model)
        if cross_attention:
            self.norm3 = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]
        self.normalize_before = normalize_before

    def feed_forward(self, x: Tensor) -> Tensor:
        """The position-wise network, (..., D) to (..., D)."""
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def residual(self, x: Tensor, norm: nn.Module, block: Callable[[Tensor], Tensor]) -> Tensor:
        """x + block(norm(x)) for pre-norm, norm(x + block(x)) for post-norm."""
        if self.normalize_before:
            return x + self.dropout(block(norm(x)))
        return norm(x + self.dropout(block(x)))


class TransformerEncoderLayer(_Layer):
    """Self-attention over the feature cells, then a feed-forward network."""

    def __init__(self, **sizes) -> None:
        super().__init__(**sizes, cross_attention=False)

    def forward(self, src: Tensor, *, padding: Tensor | None, pos: Tensor) -> Tensor:
        """One layer over cells (B, S, D): positions enter queries and keys, never values."""

        def self_attention(x: Tensor) -> Tensor:
            q = k = x + pos
            return self.self_attn(q, k, x, key_padding_mask=padding)[0]

        src = self.residual(src, self.norm1, self_attention)
        return self.residual(src, self.norm2, self.feed_forward)


class TransformerDecoderLayer(_Layer):
    """Self-attention among the queries, attention to the encoder's memory, then a feed-forward network."""

    def __init__(self, **sizes) -> None:
        super().__init__(**sizes, cross_attention=True)

    def forward(
        self, tgt: Tensor, memory: Tensor, *, memory_pos: Tensor, padding: Tensor | None, query_pos: Tensor
    ) -> Tensor:
        """One layer over queries (B, Q, D); keys are `memory_pos` (memory plus positions), values `memory` (B, S, D)."""

        def self_attention(x: Tensor) -> Tensor:
            q = k = x + query_pos
            return self.self_attn(q, k, x)[0]

        def cross_attention(x: Tensor) -> Tensor:
            return self.multihead_attn(x + query_pos, memory_pos, memory, key_padding_mask=padding)[0]

        tgt = self.residual(tgt, self.norm1, self_attention)
        tgt = self.residual(tgt, self.norm2, cross_attention)
        return self.residual(tgt, self.norm3, self.feed_forward)
