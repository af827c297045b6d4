"""DETRs whose queries begin with boxes, or whose cross-attention is local: what differs from `DETR` is `decode`."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from util.dist.precision import wide_dtype, without_autocast
from util.profiling import annotate

from ..attention import AttentionMaps, asking
from ..detector import DETR, Decoded
from ..transformer import Transformer
from .anchors import AnchorDecoder, AnchorDecoderLayer, Queries, Scene
from .encoder_queries import NOTHING, EncoderQueries, start_at_zero
from .local_attention import bias_inside

#: Sides of the boxes that learned queries start from, relative to the image's.
FIRST_SIDE = 0.15


class LocalDETR(DETR):
    """A DETR whose queries see, from the second decoder layer on, the cells inside their box of the layer before."""

    def decode(
        self, src: Tensor, mask: Tensor | None, pos: Tensor, *, attention: AttentionMaps | None = None
    ) -> Decoded:
        """Decode as `DETR` does, with local cross-attention."""
        padding = _padding(src, mask)

        def look(queries: Tensor) -> Tensor:
            with without_autocast(queries.device):
                boxes = self.bbox_embed(queries.detach().to(wide_dtype(queries))).sigmoid()
            return bias_inside(boxes, padding)

        transformer = partial(self.transformer, look=look)
        hs, memory, *_ = transformer(src, mask, self.query_embed.weight, pos, **asking(attention))
        return self.answer(hs, memory)


class AnchorDETR(DETR):
    """A DETR whose queries are boxes: learned ones, or with `propose` those that the encoder's cells propose.

    `query_embed` holds the queries' contents; `anchor_embed`, without `propose`, their boxes before the sigmoid.

    Args:
        backbone, transformer, num_classes, num_queries, aux_loss: as in `DETR`; the transformer's decoder is an
            `AnchorDecoder`.
        propose: let the encoder propose the queries' boxes.
    """

    transformer: Transformer

    def __init__(self, *parts: Any, propose: bool = False) -> None:
        super().__init__(*parts)
        hidden_dim, num_classes = self.transformer.d_model, self.class_embed.out_features - 1
        nn.init.zeros_(self.query_embed.weight)
        start_at_zero(self.bbox_embed)
        self.proposals = EncoderQueries(hidden_dim, num_classes) if propose else None
        if not propose:
            self.anchor_embed = nn.Embedding(self.num_queries, 4)
            with torch.no_grad():
                self.anchor_embed.weight.copy_(grid_of_boxes(self.num_queries).logit())

    def decode(
        self, src: Tensor, mask: Tensor | None, pos: Tensor, *, attention: AttentionMaps | None = None
    ) -> Decoded:
        """Encode, take or choose queries, and decode them; boxes come from the decoder, layer by layer."""
        memory, cell_pos, _ = self.transformer.encode(src, mask, pos, attention=attention)
        scene = Scene(memory, cell_pos, _padding(src, mask))
        with without_autocast(src.device):
            queries, more = self._queries(scene)
        with annotate("decoder"):
            wanted = {} if attention is None else asking(attention.decoder)
            hs, boxes = self.transformer.decoder(queries, scene, self._refine, **wanted)  # an AnchorDecoder's
        with annotate("heads"), without_autocast(hs.device):
            hs = hs.to(wide_dtype(hs))
            logits = self.class_embed(hs)
        if queries.hidden is not None:
            logits = logits.masked_fill(queries.hidden[..., None], NOTHING)  # (L, B, Q, C+1)
        return Decoded(logits, boxes, hs, memory.transpose(1, 2).unflatten(2, src.shape[-2:]), more)

    def _queries(self, scene: Scene) -> tuple[Queries, dict[str, Any]]:
        """Contents and boxes to start from, and what the criterion needs of the proposals."""
        b, content = scene.memory.shape[0], self.query_embed.weight  # len() would fix the size of an exported batch
        if self.proposals is None:
            boxes = self.anchor_embed.weight.sigmoid().expand(b, -1, -1)
            return Queries(content.expand(b, -1, -1), boxes), {}
        proposals = self.proposals(scene.memory.to(wide_dtype(scene.memory)), scene.padding, content)
        cells = {"pred_logits": proposals.logits, "pred_boxes": proposals.boxes, "hidden": scene.padding.flatten(1)}
        return proposals.queries, {"enc_outputs": cells, "hidden": proposals.queries.hidden}

    def _refine(self, queries: Tensor) -> Tensor:
        with without_autocast(queries.device):
            return self.bbox_embed(queries.to(wide_dtype(queries)))


def anchor_transformer(architecture: Any, *, dropout: float) -> Transformer:
    """Build the transformer of an `Architecture` with an `AnchorDecoder`."""
    a = architecture
    sizes: tuple[Any, ...] = (a.hidden_dim, a.nheads, a.dim_feedforward, dropout, "relu", a.pre_norm)
    # Of the plain decoder nothing stays: one layer of it is made, and replaced.
    transformer = Transformer(
        a.hidden_dim, a.nheads, a.enc_layers, 1, a.dim_feedforward, dropout, normalize_before=a.pre_norm
    )
    layers = [AnchorDecoderLayer(*sizes, batch_first=True) for _ in range(a.dec_layers)]
    decoder = AnchorDecoder(layers, a.hidden_dim, local=a.local_attention)
    transformer.decoder = decoder  # type: ignore[assignment]
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return transformer


def grid_of_boxes(count: int) -> Tensor:
    """Return boxes (count, 4) whose centres cover the image evenly, row by row."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    index = torch.arange(count)
    x, y = (index % columns + 0.5) / columns, (index // columns + 0.5) / rows
    return torch.stack([x, y, torch.full_like(x, FIRST_SIDE), torch.full_like(x, FIRST_SIDE)], dim=1)


def _padding(src: Tensor, mask: Tensor | None) -> Tensor:
    return mask if mask is not None else src.new_zeros(len(src), *src.shape[-2:], dtype=torch.bool)
