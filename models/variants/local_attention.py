"""Cross-attention that sees the cells inside a query's box (`--local_attention`; Cascade-DETR, Ye et al. 2023).

From the second decoder layer on, or the first where queries begin with boxes, a query sees only the cells whose centres
lie inside its box of the layer before, widened by half a cell on each side. It has no parameters: a checkpoint runs
with it or without.

Shapes: B images, Q queries, h x w cells, S = h * w.
"""

import torch
from torch import Tensor

#: Added to the scores of cells outside: enough to hide them, and unlike minus infinity no NaN where it hides all.
OUTSIDE = -1e4


def visible_cells(padding: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of each image (B,) on a padded map; `padding` (B, h, w) is True where there is no image."""
    shown = ~padding
    # Images lie in the upper left corner: the first column shows all rows, the first row all columns.
    return shown[:, :, 0].sum(1).clamp(min=1), shown[:, 0, :].sum(1).clamp(min=1)


def bias_inside(boxes: Tensor, padding: Tensor) -> Tensor:
    """Numbers (B, 1, Q, S) to add to scores: 0 inside a query's box, `OUTSIDE` elsewhere.

    The cell that holds the box's centre is always inside, for its own centre is at most half a cell away.

    Args:
        boxes: (B, Q, 4) cxcywh in 0..1 of the image without its padding.
        padding: (B, h, w).
    """
    center_x, center_y, width, height = boxes.detach().unbind(-1)  # (B, Q)
    rows, columns = visible_cells(padding)
    near_y = _near(center_y, height, rows, padding.shape[1])  # (B, Q, h)
    near_x = _near(center_x, width, columns, padding.shape[2])  # (B, Q, w)
    inside = (near_y[..., :, None] & near_x[..., None, :]).flatten(2)  # (B, Q, S)
    bias = torch.zeros(inside.shape, dtype=boxes.dtype, device=boxes.device)
    return bias.masked_fill_(~inside, OUTSIDE)[:, None]


def _near(center: Tensor, side: Tensor, shown: Tensor, cells: int) -> Tensor:
    """True (B, Q, cells) where a cell's centre is within half a side and half a cell of the box's centre (B, Q)."""
    place = (torch.arange(cells, device=center.device, dtype=center.dtype) + 0.5) / shown[:, None]  # (B, cells)
    reach = side / 2 + 0.5 / shown[:, None]  # (B, Q)
    # The last term keeps a cell whose centre lies on the border, whichever way it was rounded.
    return (place[:, None, :] - center[..., None]).abs() <= reach[..., None] + 1e-6
