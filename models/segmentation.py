"""Masks on top of boxes: the head for instance and panoptic segmentation (section 4.4 and figure 8 of the DETR paper).

Every query looks at the encoder's features through its own attention maps; a small convolutional network turns these
maps into a mask at stride 4, guided by the finer feature maps of the backbone.

Shapes: B images, Q queries, N (image, query) pairs, D width, h w cells of the last feature map, A heads.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from util.dist.precision import autocast_of_now, wide_dtype
from util.profiling import annotate

from .attention import AttentionMaps, asking
from .detector import DETR, NO_SCRIPT
from .fast.lazy_masks import QueryMasks
from .mask_losses import dice_loss as dice_loss  # DETR's scripts import the losses and postprocessors from here
from .mask_losses import sigmoid_focal_loss as sigmoid_focal_loss
from .panoptic import PostProcessPanoptic as PostProcessPanoptic
from .postprocess import PostProcessSegm as PostProcessSegm


class DETRsegm(nn.Module):
    """A detector with a mask head.

    Args:
        detr: the detector; its backbone must return the maps of all four stages.
        freeze_detr: train the mask head alone. As in DETR, a frozen detector still drops out in training mode; its
            batch norms, where it has such, keep to their statistics.
        mask_chunk: compute at most so many masks at a time; 0: no limit.
    """

    def __init__(self, detr: DETR, freeze_detr: bool = False, *, mask_chunk: int = 0) -> None:
        super().__init__()
        self.detr = detr
        self.freeze_detr = freeze_detr
        self.mask_chunk = mask_chunk
        if freeze_detr:
            detr.requires_grad_(False)
        width, heads, channels = detr.transformer.d_model, detr.transformer.nhead, detr.backbone.num_channels
        self.bbox_attention = MHAttentionMap(width, width, heads)
        # Each stage of a ResNet has half the channels of the one after it.
        self.mask_head = MaskHeadSmallConv(width + heads, [channels // 2, channels // 4, channels // 8], width)

    def train(self, mode: bool = True) -> "DETRsegm":
        """Switch to training or evaluation; the statistics of a frozen detector's batch norms do not move."""
        super().train(mode)
        if self.freeze_detr:
            for module in self.detr.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def forward(self, samples: Any, *, attention: AttentionMaps | None = None, **more: Any) -> dict[str, Any]:
        """Detect and segment objects in a batch; arguments as those of `DETR`.

        Returns:
            DETR's outputs; `pred_masks` (B, Q, H/4, W/4), logits over the padded canvas, and `canvas` (2,), its height
            and width in pixels, on the CPU. In training mode `pred_masks` is a `QueryMasks`: it computes no more than
            the loss asks for.
        """
        outputs, seen = self.detr.detect(samples, **asking(attention), **more)
        with annotate("mask_attention"):
            maps = self.bbox_attention(seen.queries, seen.memory, mask=seen.mask)  # (B, Q, A, h, w)
            # All maps but the last, finest last: strides 16, 8, 4. `src` stands for the last one, at the transformer's
            # width.
            guide = self.mask_head.guide(seen.src, [features.tensors for features in seen.features[-2::-1]])

        autocast = autocast_of_now(maps.device)  # the loss asks for masks outside of the model's
        dtype = wide_dtype(maps)

        def compute(image: Tensor, query: Tensor) -> Tensor:
            with annotate("mask_head"), autocast():
                return self.mask_head.decode(guide, maps[image, query], image).to(dtype)

        images, queries = maps.shape[:2]
        masks = QueryMasks(compute, images=images, queries=queries, chunk=self.mask_chunk, device=maps.device)
        canvas = {} if seen.canvas is None else {"canvas": torch.tensor(seen.canvas)}
        return outputs | {"pred_masks": masks if self.training else masks.all} | canvas

    def __prepare_scriptable__(self) -> "DETRsegm":
        """Say what takes the place of `torch.jit.script`, which PyTorch has deprecated."""
        raise NotImplementedError(NO_SCRIPT)


class MHAttentionMap(nn.Module):
    """Multi-head attention maps alone: where each query looks, without anything being carried over."""

    def __init__(
        self, query_dim: int, hidden_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (hidden_dim / num_heads) ** -0.5
        self.dropout = nn.Dropout(dropout)
        self.q_linear = nn.Linear(query_dim, hidden_dim, bias=bias)
        self.k_linear = nn.Linear(query_dim, hidden_dim, bias=bias)
        for linear in (self.q_linear, self.k_linear):
            nn.init.xavier_uniform_(linear.weight)
            if bias:
                nn.init.zeros_(linear.bias)

    def forward(self, q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
        """Maps (B, Q, A, h, w) of queries (B, Q, D) over cells (B, D, h, w); `mask` (B, h, w) is True on padding.

        The softmax runs over heads and cells together: it is a head's share of the attention that guides the masks.
        """
        h, w = k.shape[-2:]
        # (B, Q, A, D / A), and keys (B, S, A, D / A).
        queries = self.q_linear(q).unflatten(-1, (self.num_heads, -1)) * self.scale
        keys = self.k_linear(k.flatten(2).transpose(1, 2)).unflatten(-1, (self.num_heads, -1))
        # (B, Q, A, S): channels of a head are summed over, heads stay apart.
        scores = torch.einsum("bqac,bsac->bqas", queries, keys)
        if mask is not None:
            scores = scores.masked_fill(mask.flatten(1)[:, None, None], -math.inf)
        # (B, Q, A * S) for the softmax, then (B, Q, A, h, w).
        return self.dropout(scores.flatten(2).softmax(-1)).unflatten(2, (self.num_heads, h, w))


class MaskHeadSmallConv(nn.Module):
    """Convolutions from attention maps to mask logits, doubling the resolution three times as a feature pyramid does.

    Args:
        dim: channels of the input: the width plus the heads.
        fpn_dims: channels of the backbone's maps at strides 16, 8 and 4.
        context_dim: the width D.

    Group norms have 8 groups as in DETR, fewer where the channels are not a multiple of 8.
    """

    #: The names are those of the original's state dict; `__init__` makes the layers in a loop.
    lay1: nn.Conv2d
    lay2: nn.Conv2d
    lay3: nn.Conv2d
    lay4: nn.Conv2d
    lay5: nn.Conv2d
    gn1: nn.GroupNorm
    gn2: nn.GroupNorm
    gn3: nn.GroupNorm
    gn4: nn.GroupNorm
    gn5: nn.GroupNorm
    adapter1: nn.Conv2d
    adapter2: nn.Conv2d
    adapter3: nn.Conv2d

    def __init__(self, dim: int, fpn_dims: Sequence[int], context_dim: int) -> None:
        super().__init__()
        # D + A, D + A, D/2, D/4, D/8, D/16: half the channels each time the resolution doubles.
        widths = [dim, dim, *(context_dim // n for n in (2, 4, 8, 16))]
        for i, (n, m) in enumerate(zip(widths, widths[1:]), start=1):
            setattr(self, f"lay{i}", nn.Conv2d(n, m, 3, padding=1))
            setattr(self, f"gn{i}", nn.GroupNorm(math.gcd(8, m), m))
        self.out_lay = nn.Conv2d(widths[-1], 1, 3, padding=1)
        for i, (n, m) in enumerate(zip(fpn_dims, widths[2:]), start=1):
            # A 1 x 1 convolution brings a backbone map to the width of the level it is added to.
            setattr(self, f"adapter{i}", nn.Conv2d(n, m, 1))
        self.context_dim = context_dim
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # a=1 is the gain of a linear layer, Detectron's choice for a pyramid's convolutions.
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def guide(self, src: Tensor, fpns: Sequence[Tensor]) -> list[Tensor]:
        """Compute once what the queries of an image share.

        From features `src` (B, D, h, w) the first layer's part that does not depend on the query, and from the
        backbone's maps at strides 16, 8 and 4 what is added at each of these resolutions.
        """
        # A convolution of concatenated channels is the sum of the convolutions of its parts.
        first = F.conv2d(src, self.lay1.weight[:, : self.context_dim], self.lay1.bias, padding=1)
        return [first, *(adapter(fpn) for adapter, fpn in zip((self.adapter1, self.adapter2, self.adapter3), fpns))]

    def forward(self, x: Tensor, bbox_mask: Tensor, fpns: Sequence[Tensor]) -> Tensor:
        """Mask logits (B * Q, 1, H/4, W/4) of all queries, with the arguments of the original's head.

        Args:
            x: features (B, D, h, w).
            bbox_mask: attention maps (B, Q, A, h, w).
            fpns: the backbone's maps at strides 16, 8 and 4, each of B images.
        """
        images, queries = bbox_mask.shape[:2]
        # (B * Q,): 0, ..., 0, 1, ..., 1: row i * Q + q is query q of image i.
        image = torch.arange(images, device=x.device).repeat_interleave(queries)
        return self.decode(self.guide(x, fpns), bbox_mask.flatten(0, 1), image)[:, None]

    def decode(self, guide: Sequence[Tensor], attention: Tensor, image: Tensor) -> Tensor:
        """Mask logits (N, H/4, W/4) of queries with attention maps (N, A, h, w) in the images `image` (N,)."""
        first, *finer = guide
        # (N, A, h, w) to (N, D + A, h, w); the other part is the same for every query of an image and comes from
        # `guide`.
        x = F.conv2d(attention, self.lay1.weight[:, self.context_dim :], padding=1) + first[image]
        x = F.relu(self.gn1(x))
        x = F.relu(self.gn2(self.lay2(x)))
        layers = ((self.lay3, self.gn3), (self.lay4, self.gn4), (self.lay5, self.gn5))
        for (convolution, norm), level in zip(layers, finer, strict=True):
            # Nearest, to the finer map's own size: a side of odd length is not exactly doubled.
            x = F.interpolate(x, size=level.shape[-2:]) + level[image]
            x = F.relu(norm(convolution(x)))
        return self.out_lay(x).squeeze(1)
