"""Queries that are boxes, refined by every decoder layer (`--queries dab`; DAB-DETR, Liu et al. 2022).

A query's position is the sine encoding of its box. Cross-attention compares contents and positions apart, as in
Conditional DETR, and a query looks wider where it expects a larger object. Each layer moves the box and the next one
starts from there; gradients do not pass from layer to layer through the boxes.

Shapes: B images, S = h * w cells, Q queries, D channels, L decoder layers.
"""

from collections.abc import MutableSequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..attention import MultiheadAttention, asking
from ..detector import MLP
from ..fast.products import run_linear
from ..layers import Layer, with_positions
from ..transformer import Stack
from .local_attention import bias_inside
from .sine import encode_boxes, logit

#: Sides are divided by no less than this: the position of a thin box would grow without bound.
SMALLEST_SIDE = 0.02


class Scene(NamedTuple):
    """The encoder's cells and their positions (B, S, D); the padding (B, h, w), True where there is no image."""

    memory: Tensor
    pos: Tensor
    padding: Tensor


class Queries(NamedTuple):
    """Contents (B, Q, D) and boxes (B, Q, 4) of queries; `hidden` (B, Q) ones are seen by none and answer nothing.

    `apart` (Q, Q) is True where a query does not see another.
    """

    content: Tensor
    boxes: Tensor
    hidden: Tensor | None = None
    apart: Tensor | None = None


class AnchorAttention(MultiheadAttention):
    """Attention whose scores are those of contents plus those of positions (Conditional DETR, section 3.3).

    Contents use the parameters of plain attention; positions have two matrices of their own.
    """

    def __init__(self, embed_dim: int, num_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__(embed_dim, num_heads, dropout=dropout)
        self.query_position = nn.Linear(embed_dim, embed_dim)
        self.key_position = nn.Linear(embed_dim, embed_dim)

    def look(self, query: Tensor, sine: Tensor, scene: Scene, **named: Any) -> Tensor:
        """Attend from contents (B, Q, D) at positions `sine` (B, Q, D) to the cells of a scene."""
        q, k, v = self._project(query, scene.memory, scene.memory)
        at = (run_linear(self.query_position, sine), run_linear(self.key_position, scene.pos))
        q_at, k_at = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in at)
        # (B, heads, Q or S, 2 D / heads): the product of joined vectors is the sum of both products.
        joined = (torch.cat([q, q_at], -1), torch.cat([k, k_at], -1))
        return self._attend(*joined, v, scene.padding.flatten(1), **named)[0]


class AnchorDecoderLayer(Layer):
    """A decoder layer whose cross-attention gets the positions of queries apart from their contents."""

    cross_attention = True
    multihead_attn: AnchorAttention

    def __init__(self, d_model: int, nhead: int, *sizes: Any, **named: Any) -> None:
        super().__init__(d_model, nhead, *sizes, **named)
        self.multihead_attn = AnchorAttention(d_model, nhead, dropout=self.dropout.p)

    def forward(
        self,
        tgt: Tensor,
        scene: Scene,
        *,
        query_pos: Tensor,
        sine: Tensor,
        hidden: Tensor | None,
        apart: Tensor | None,
        bias: Tensor | None,
        attention: MutableSequence[Tensor] | None = None,
    ) -> Tensor:
        """One layer over contents (B, Q, D) at `query_pos` among each other and `sine` in the scene, both (B, Q, D)."""

        def self_attention(x: Tensor) -> Tensor:
            # (B, Q, D). Hidden queries are no keys, and `apart` (Q, Q) keeps groups from seeing each other.
            q = k = with_positions(x, query_pos)
            return self.self_attn(q, k, x, key_padding_mask=hidden, attn_mask=apart)[0]

        def cross_attention(x: Tensor) -> Tensor:
            # `sine` encodes the anchor as the positions of cells are encoded: near means alike.
            return self.multihead_attn.look(x, sine, scene, attn_mask=bias, **asking(attention))

        tgt = self.residual(tgt, self.norm1, self_attention)
        tgt = self.residual(tgt, self.norm2, cross_attention)
        return self.residual(tgt, self.norm3, self.feed_forward)


class AnchorDecoder(Stack):
    """Decoder layers with a box for each query that every layer refines.

    Args:
        layers: the layers, batches first.
        d_model: channels D, a multiple of 4.
        local: each query sees the cells inside its box only (see `local_attention`).
    """

    def __init__(self, layers: list[AnchorDecoderLayer], d_model: int, *, local: bool = False) -> None:
        super().__init__(layers, len(layers), nn.LayerNorm(d_model))
        self.norm: nn.LayerNorm
        self.local = local
        # The names are DAB-DETR's.
        self.ref_point_head = MLP(2 * d_model, d_model, d_model, 2)
        self.query_scale = MLP(d_model, d_model, d_model, 2)
        self.ref_anchor_head = MLP(d_model, d_model, 2, 2)

    def forward(
        self,
        queries: Queries,
        scene: Scene,
        refine: nn.Module,
        *,
        attention: MutableSequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Decode queries; `refine` maps a normalised output (B, Q, D) to what is added to its box before the sigmoid.

        Returns:
            normalised outputs (L, B, Q, D) and boxes (L, B, Q, 4) of every layer.
        """
        content, boxes = queries.content, queries.boxes
        outputs, refined = [], []
        for i, layer in enumerate(self.layers):
            sine = encode_boxes(boxes, content.shape[-1], scene.padding)  # (B, Q, 2D): y, x, w, h
            content = self.run(
                layer,
                content,
                scene,
                query_pos=self.ref_point_head(sine),
                sine=self._place(sine, content, boxes, first=i == 0),
                hidden=queries.hidden,
                apart=queries.apart,
                bias=bias_inside(boxes, scene.padding) if self.local else None,
                **asking(attention),
            )
            # The layer's own `content` goes on without this norm, as in the plain decoder.
            normed = self.norm(content)
            # Steps add up before the sigmoid: a box cannot leave 0..1 however large the step.
            moved = (refine(normed) + logit(boxes)).sigmoid()
            outputs.append(normed)
            refined.append(moved)
            boxes = moved.detach()  # each layer learns its own step
        return torch.stack(outputs), torch.stack(refined)

    def _place(self, sine: Tensor, content: Tensor, boxes: Tensor, *, first: bool) -> Tensor:
        """Positions (B, Q, D) for cross-attention: scaled by content, and flatter along a side that is long."""
        # The first half of `sine`; the second encodes the sides, which cells do not have.
        y, x = sine[..., : content.shape[-1]].chunk(2, dim=-1)  # (B, Q, D/2) each
        expected = self.ref_anchor_head(content).sigmoid()  # width and height that the content speaks of
        sides = boxes[..., 2:].clamp(min=SMALLEST_SIDE)
        flat_x, flat_y = (expected / sides).unsqueeze(-1).unbind(-2)  # (B, Q, 1)
        # DAB-DETR's modulated attention: dividing by the side widens the reach along it.
        place = torch.cat([y * flat_y, x * flat_x], dim=-1)
        # As in DAB-DETR: before the first layer the contents have seen nothing of the image.
        return place if first else place * self.query_scale(content)
