"""Position encodings for the transformer (section 3.2 of the DETR paper, appendix A.4)."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from util.nested_tensor import NestedTensor

#: Ratio of the longest to the shortest wavelength where queries are boxes (DAB-DETR): 10,000 hardly tells near cells
#: apart.
BOX_TEMPERATURE = 20.0


class PositionEmbeddingSine(nn.Module):
    """Sines and cosines of y and x, the encoding of "Attention Is All You Need" for two dimensions.

    Positions are counted over the pixels that are not padding, so padding does not move the encoding of an image.

    Args:
        num_pos_feats: channels for each of y and x; the encoding has twice as many.
        temperature: ratio between the longest and the shortest wavelength.
        normalize: scale positions to 0..`scale`, so that the far edge has the same encoding in every image.
        scale: the range after normalisation (2 pi by default); only with `normalize`.
    """

    def __init__(
        self,
        num_pos_feats: int = 64,
        temperature: float = 10000,
        normalize: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        if scale is not None and not normalize:
            raise ValueError("scale is only used with normalize=True")
        self.num_pos_feats = num_pos_feats
        self.temperature = temperature
        self.normalize = normalize
        self.scale = 2 * math.pi if scale is None else scale

    def forward(self, features: NestedTensor) -> Tensor:
        """Encoding (B, 2*num_pos_feats, H, W) in float32, y channels first, for a batch of features with its mask."""
        assert features.mask is not None, "positions are counted by the mask of the padding"
        visible = ~features.mask  # (B, H, W)
        # Cell i of the image has position i + 1; on padding the count stands still.
        y = visible.cumsum(1, dtype=torch.float32)
        x = visible.cumsum(2, dtype=torch.float32)
        if self.normalize:
            # The last count is the image's height in cells, in a column of padding 0: hence the epsilon.
            y = y / (y[:, -1:, :] + 1e-6) * self.scale
            x = x / (x[:, :, -1:] + 1e-6) * self.scale
        channel = torch.arange(self.num_pos_feats, dtype=torch.float32, device=visible.device)
        # Channels 2i and 2i + 1 share a wavelength, of which one takes the sine and one the cosine.
        wavelength = self.temperature ** (2 * torch.div(channel, 2, rounding_mode="floor") / self.num_pos_feats)
        # y first, while boxes have x first: the original's order.
        return torch.cat([_interleave(y, wavelength), _interleave(x, wavelength)], dim=3).permute(0, 3, 1, 2)


def _interleave(position: Tensor, wavelength: Tensor) -> Tensor:
    """Positions (B, H, W) to (B, H, W, channels): sine in the even channels, cosine in the odd ones."""
    angle = position[..., None] / wavelength
    # (B, H, W, channels / 2, 2) flattened: sin, cos, sin, cos, ... side by side, the order that published weights know.
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=4).flatten(3)


class PositionEmbeddingLearned(nn.Module):
    """One learned vector for each of the first 50 columns and rows; ignores the padding mask.

    A feature map of more than 50 cells on a side is a ValueError (with stride 32: images over 1600 pixels).
    """

    max_cells = 50

    def __init__(self, num_pos_feats: int = 256) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(self.max_cells, num_pos_feats)
        self.col_embed = nn.Embedding(self.max_cells, num_pos_feats)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors anew, each number from 0 to 1."""
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, features: NestedTensor) -> Tensor:
        """Encoding (B, 2*num_pos_feats, H, W), x channels first, the same for every image of the batch."""
        b, _, h, w = features.tensors.shape
        if max(h, w) > self.max_cells:
            raise ValueError(
                f"--position_embedding learned knows {self.max_cells} cells a side, this feature map has {h} x {w}: "
                "use smaller images (--image_size, --max_size), no --dilation, no --feature_map c4, "
                "or --position_embedding sine"
            )
        # (w, C) to (h, w, C): the same in every row; `y` below is the same in every column.
        x = self.col_embed.weight[:w].expand(h, w, -1)
        y = self.row_embed.weight[:h, None].expand(h, w, -1)
        return torch.cat([x, y], dim=-1).permute(2, 0, 1).expand(b, -1, h, w)


def build_position_encoding(args: Any) -> nn.Module:
    """Build the encoding of an `Architecture`, or of DETR's flags.

    Its channels are `hidden_dim`; `position_embedding` is `sine` (or `v2`) or `learned` (or `v3`), else a ValueError.
    """
    kind = args.position_embedding
    if kind in ("sine", "v2"):
        # Queries that are boxes are encoded with shorter waves, and cells must be in the same way.
        boxes = getattr(args, "queries", "learned") != "learned"
        return PositionEmbeddingSine(
            # Half of the channels for y, half for x.
            args.hidden_dim // 2,
            temperature=BOX_TEMPERATURE if boxes else 10000,
            normalize=True,
        )
    if kind in ("learned", "v3"):
        return PositionEmbeddingLearned(args.hidden_dim // 2)
    raise ValueError(f"--position_embedding {kind}: choose sine or learned")
