"""Boxes as sines and cosines, in the same places as the cells of a feature map (DAB-DETR, section 4.3).

Shapes: B images, Q queries, h x w cells, D channels.
"""

import math

import torch
from torch import Tensor

from ..position_encoding import BOX_TEMPERATURE
from .local_attention import visible_cells

#: Boxes are kept this far from the ends of the sigmoid.
EPSILON = 1e-3


def encode_boxes(boxes: Tensor, channels: int, padding: Tensor) -> Tensor:
    """Encode boxes (B, Q, 4) as (B, Q, 2 * channels): y, x, width and height, each in channels / 2 numbers.

    Cells count from 1 to their number in `PositionEmbeddingSine`, so the centre of cell j, (j + 0.5) / w of the image,
    is encoded as (j + 1) / w: centres of boxes move by half a cell to meet those of cells.

    Args:
        boxes: cxcywh in 0..1 of the image without its padding.
        padding: (B, h, w), True where there is no image.
    """
    rows, columns = visible_cells(padding)
    x, y, width, height = boxes.unbind(-1)  # (B, Q)
    places = torch.stack([y + 0.5 / rows[:, None], x + 0.5 / columns[:, None], width, height], dim=-1)
    # Half of D for each coordinate, as the cells' encoding has for y and for x.
    half = channels // 2
    channel = torch.arange(half, dtype=torch.float32, device=boxes.device)
    wavelength = BOX_TEMPERATURE ** (2 * torch.div(channel, 2, rounding_mode="floor") / half)
    angle = places[..., None] * (2 * math.pi) / wavelength  # (B, Q, 4, D/2)
    # Sine in the even channels, cosine in the odd ones, as in the encoding of cells.
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(2)


def logit(boxes: Tensor) -> Tensor:
    """Return the numbers whose sigmoid the boxes are."""
    # At 0 and 1 the logit is infinite, and near them the sigmoid that follows has hardly a gradient.
    return boxes.clamp(EPSILON, 1 - EPSILON).logit()
