"""Queries that the encoder proposes (`--queries encoder`; the two stages of Deformable DETR, Zhu et al. 2021).

Every cell says which class it sees and where. The Q most promising cells give the decoder its first boxes, and their
features are added to the learned contents. All cells are scored like one more decoder layer, which trains encoder and
backbone directly: this is why learning starts fast.

Shapes: B images, S = h * w cells, Q queries, D channels, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..detector import MLP
from ..fast.products import run_linear
from .anchors import Queries
from .focal import start_unlikely
from .local_attention import visible_cells
from .sine import logit

#: Sides of the box that a cell starts from, relative to the image's.
PRIOR_SIDE = 0.15
#: Logit of every class where there is no image: a loss of nothing, and a cost that no object pays.
NOTHING = -1e4


class Proposals(NamedTuple):
    """Answers of all cells: `logits` (B, S, C+1), `boxes` (B, S, 4); and the chosen ones as `queries`.

    `features` (B, Q, D) are those of the chosen cells, a part of the queries' contents.
    """

    logits: Tensor
    boxes: Tensor
    queries: Queries
    features: Tensor


class EncoderQueries(nn.Module):
    """Class and box of every cell, and the choice among them.

    Args:
        d_model: channels D.
        num_classes: C.
    """

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.class_embed = nn.Linear(d_model, num_classes + 1)
        self.bbox_embed = MLP(d_model, d_model, 4, 3)
        start_unlikely(self.class_embed)
        start_at_zero(self.bbox_embed)

    def forward(self, memory: Tensor, padding: Tensor, content: Tensor) -> Proposals:
        """Propose objects from cells (B, S, D) with padding (B, h, w), and choose as many as `content` (Q, D) has."""
        cells = self.norm(run_linear(self.project, memory))
        logits = self.class_embed(cells).masked_fill(padding.flatten(1)[..., None], NOTHING)
        # The head says by how much a box differs from the one that lies around its cell.
        boxes = (self.bbox_embed(cells) + logit(prior_boxes(padding))).sigmoid()
        # Without "no object": a cell is promising by its best class alone.
        scores = logits[..., :-1].amax(-1)  # (B, S)
        score, chosen = scores.topk(min(len(content), scores.shape[1]), dim=1)  # (B, Q)
        picked = chosen[..., None]
        # Detached: the decoder's losses shape the cells' features by attention, not by way of the choice.
        features = cells.detach().gather(1, picked.expand(-1, -1, cells.shape[-1]))
        queries = Queries(
            content[: chosen.shape[1]] + features,
            boxes.detach().gather(1, picked.expand(-1, -1, 4)),
            # An image with fewer cells than queries: the rest lies on padding.
            score <= NOTHING / 2,
        )
        return Proposals(logits, boxes, queries, features)


def prior_boxes(padding: Tensor) -> Tensor:
    """Return a box at the centre of each cell (B, S, 4), of sides `PRIOR_SIDE`; on padding it is somewhere inside."""
    _, h, w = padding.shape
    rows, columns = visible_cells(padding)
    y = (torch.arange(h, device=padding.device) + 0.5) / rows[:, None]  # (B, h)
    x = (torch.arange(w, device=padding.device) + 0.5) / columns[:, None]
    # Views; cells row by row, as `flatten(2)` lays out the memory.
    y, x = y[:, :, None].expand(-1, h, w), x[:, None, :].expand(-1, h, w)
    side = torch.full_like(x, PRIOR_SIDE)
    # On padding centres would lie beyond 1: those cells are hidden, but boxes stay boxes.
    return torch.stack([x, y, side, side], dim=-1).flatten(1, 2).clamp(max=1)


def start_at_zero(box_head: MLP) -> None:
    """Set the last layer of a box head to zero: boxes start where their anchors are."""
    last = box_head.layers[-1]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
