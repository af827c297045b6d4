"""DETRs whose queries begin with boxes, have company in training, or look nearby: what differs is `decode`."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from util.dist.precision import wide_dtype, without_autocast
from util.profiling import annotate
from util.targets import Target

from ..attention import AttentionMaps, asking
from ..detector import DETR, Decoded
from ..transformer import Transformer
from .anchors import AnchorDecoder, AnchorDecoderLayer, Queries, Scene
from .denoising import Denoising, Noised
from .encoder_queries import NOTHING, EncoderQueries, start_at_zero
from .groups import Blocks, first_group, join
from .local_attention import bias_inside
from .sine import logit

#: Sides of the boxes that learned queries start from, relative to the image's.
FIRST_SIDE = 0.15
#: Spread of the contents of further groups where the first one's start at zero: equal groups would stay equal.
SPREAD = 0.1


class LearnedDETR(DETR):
    """A DETR with DETR's queries.

    Args:
        parts: as `DETR`.
        local: from the second decoder layer on, queries see the cells inside their box of the layer before.
        groups: sets of queries in training; those beyond the first are in `group_queries`.
    """

    def __init__(self, *parts: Any, local: bool = False, groups: int = 1) -> None:
        super().__init__(*parts)
        self.local, self.groups = local, groups
        if groups > 1:
            self.group_queries = nn.Embedding((groups - 1) * self.num_queries, self.transformer.d_model)

    def decode(
        self, src: Tensor, mask: Tensor | None, pos: Tensor, *, attention: AttentionMaps | None = None
    ) -> Decoded:
        """Decode as `DETR` does, with local cross-attention, and in training with all groups."""
        queries, groups = self.query_embed.weight, self.groups if self.training else 1
        if groups > 1:
            # (K * Q, D), the detecting group first.
            queries = torch.cat([queries, self.group_queries.weight])
        blocks = Blocks([self.num_queries] * groups, matched=groups)
        padding = _padding(src, mask)

        def look(queries: Tensor) -> Tensor:
            with without_autocast(queries.device):
                # Detached: where to look next is no path for gradients, and the box has its own loss.
                boxes = self.bbox_embed(queries.detach().to(wide_dtype(queries))).sigmoid()
            return bias_inside(boxes, padding)

        masks = {"tgt_mask": blocks.apart(src.device), "look": look if self.local else None}
        hs, memory, *_ = self.transformer(src, mask, queries, pos, **masks, **asking(attention))
        return first_group(self.answer(hs, memory), blocks, aux_loss=self.aux_loss)


class AnchorDETR(DETR):
    """A DETR whose queries are boxes: learned ones, or with `propose` those that the encoder's cells propose.

    `query_embed` holds the queries' contents; `anchor_embed`, without `propose`, their boxes before the sigmoid.

    Args:
        backbone, transformer, num_classes, num_queries, aux_loss: as in `DETR`; the transformer's decoder is an
            `AnchorDecoder`.
        propose: let the encoder propose the queries' boxes.
        groups: sets of queries in training; those beyond the first have contents in `group_queries` and, without
            `propose`, boxes in `group_anchors`.
        denoising: how often the objects of an image are noised in training (see `Denoising`).
    """

    transformer: Transformer

    def __init__(self, *parts: Any, propose: bool = False, groups: int = 1, denoising: int = 0) -> None:
        super().__init__(*parts)
        hidden_dim, num_classes = self.transformer.d_model, self.class_embed.out_features - 1
        # Contents start equal; the boxes tell the queries apart.
        nn.init.zeros_(self.query_embed.weight)
        start_at_zero(self.bbox_embed)
        self.proposals = EncoderQueries(hidden_dim, num_classes) if propose else None
        if not propose:
            self.anchor_embed = nn.Embedding(self.num_queries, 4)
            with torch.no_grad():
                self.anchor_embed.weight.copy_(grid_of_boxes(self.num_queries).logit())
        self.groups = groups
        if groups > 1:
            self._add_groups((groups - 1) * self.num_queries, propose=propose)
        more = {"groups": denoising, "most": self.num_queries}
        self.denoising = Denoising(hidden_dim, num_classes, **more) if denoising else None

    def decode(
        self,
        src: Tensor,
        mask: Tensor | None,
        pos: Tensor,
        *,
        attention: AttentionMaps | None = None,
        targets: Sequence[Target] | None = None,
    ) -> Decoded:
        """Encode, take or choose queries, and decode them; boxes come from the decoder, layer by layer.

        In training, groups and noised `targets` come along; what they answer is in `more`, for the criterion.
        """
        memory, cell_pos, _ = self.transformer.encode(src, mask, pos, attention=attention)
        scene = Scene(memory, cell_pos, _padding(src, mask))
        with without_autocast(src.device):
            parts, more = self._queries(scene)
            blocks, noised = Blocks([p.boxes.shape[1] for p in parts], matched=len(parts)), None
            if self.training and self.denoising is not None and targets is not None:
                noised, n = self.denoising(targets), self.denoising.groups
                parts.append(noised.queries)
                blocks = Blocks([*blocks.sizes, *[noised.queries.boxes.shape[1] // n] * n], blocks.matched)
            queries = join(parts, blocks.apart(src.device))
        with annotate("decoder"):
            wanted = {} if attention is None else asking(attention.decoder)
            hs, boxes = self.transformer.decoder(queries, scene, self._refine, **wanted)  # an AnchorDecoder's
        with annotate("heads"), without_autocast(hs.device):
            hs = hs.to(wide_dtype(hs))
            logits = self.class_embed(hs)
        if queries.hidden is not None:
            # Before the losses and the top scores: a query on padding must win neither.
            logits = logits.masked_fill(queries.hidden[..., None], NOTHING)  # (L, B, Q, C+1)
        if noised is not None:
            more["denoising"] = noised.answers(*_last(noised, logits, boxes), aux_loss=self.aux_loss)
        decoded = Decoded(logits, boxes, hs, memory.transpose(1, 2).unflatten(2, src.shape[-2:]), more)
        return first_group(decoded, blocks, aux_loss=self.aux_loss)

    def _queries(self, scene: Scene) -> tuple[list[Queries], dict[str, Any]]:
        """Contents and boxes to start from, of each group, and what the criterion needs of the proposals."""
        b, content = scene.memory.shape[0], self.query_embed.weight  # len() would fix the size of an exported batch
        # K - 1 times (Q, D).
        contents = self.group_queries.weight.split(self.num_queries) if self.training and self.groups > 1 else ()
        if self.proposals is None:
            anchors = [self.anchor_embed.weight]
            anchors += self.group_anchors.weight.split(self.num_queries) if contents else []
            pairs = zip((content, *contents), anchors)
            return [Queries(c.expand(b, -1, -1), box.sigmoid().expand(b, -1, -1)) for c, box in pairs], {}
        proposals = self.proposals(scene.memory.to(wide_dtype(scene.memory)), scene.padding, content)
        cells = {"pred_logits": proposals.logits, "pred_boxes": proposals.boxes, "hidden": scene.padding.flatten(1)}
        first, features = proposals.queries, proposals.features
        # All groups start from the surest cells; further ones would find most objects taken.
        others = [first._replace(content=c[: features.shape[1]] + features) for c in contents]
        return [first, *others], {"enc_outputs": cells, "hidden": first.hidden}

    def _add_groups(self, count: int, *, propose: bool) -> None:
        """Make the queries of further groups: `count` contents, and boxes with centres at random."""
        self.group_queries = nn.Embedding(count, self.transformer.d_model)
        nn.init.normal_(self.group_queries.weight, std=SPREAD)
        if not propose:
            self.group_anchors = nn.Embedding(count, 4)
            boxes = torch.cat([torch.rand(count, 2), torch.full((count, 2), FIRST_SIDE)], 1)
            with torch.no_grad():
                self.group_anchors.weight.copy_(logit(boxes))

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
        # Drawn anew, as the constructor of `Transformer` does for the layers that it makes.
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    return transformer


def grid_of_boxes(count: int) -> Tensor:
    """Return boxes (count, 4) whose centres cover the image evenly, row by row."""
    # As square as the count allows; the last row may be short.
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    index = torch.arange(count)
    x, y = (index % columns + 0.5) / columns, (index // columns + 0.5) / rows
    return torch.stack([x, y, torch.full_like(x, FIRST_SIDE), torch.full_like(x, FIRST_SIDE)], dim=1)


def _last(noised: Noised, *answers: Tensor) -> list[Tensor]:
    """Answers (L, B, T, ...) of the noised objects' places, which are the last of T."""
    return [answer[:, :, -noised.queries.boxes.shape[1] :] for answer in answers]


def _padding(src: Tensor, mask: Tensor | None) -> Tensor:
    return mask if mask is not None else src.new_zeros(len(src), *src.shape[-2:], dtype=torch.bool)
