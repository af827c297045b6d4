"""Several sets of queries beside each other in training (`--groups`; Group DETR, Chen et al. 2023).

Every group is matched and scored alone, so an object has as many queries to learn from as there are groups; their
self-attention is block-diagonal. The first group alone detects.

Shapes: B images, L layers, K groups of Q queries, T queries of all kinds.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..detector import Decoded, as_outputs
from .anchors import Queries


class Blocks(NamedTuple):
    """Queries side by side: how many each block has, and how many of the blocks, those first, are matched."""

    sizes: Sequence[int]
    matched: int

    def apart(self, device: torch.device) -> Tensor | None:
        """Return (T, T), True where a query does not see another; None for a single block, which sees itself.

        A block sees itself alone; those that are not matched, of noised objects, see the first one, too. Nothing that
        detects sees them, for they know the truth.
        """
        if len(self.sizes) == 1:
            return None
        number = torch.cat([torch.full((size,), i) for i, size in enumerate(self.sizes)])
        block = number.to(device, non_blocking=True)  # (T,)
        # (T, T): rows of noised blocks, columns of the first block. They may look at it, it may not look back.
        guests = (block >= self.matched)[:, None] & (block == 0)
        return (block[:, None] != block) & ~guests


def join(parts: Sequence[Queries], apart: Tensor | None) -> Queries:
    """Put blocks of queries side by side; `apart` says which of them do not see each other."""
    if len(parts) == 1:
        return parts[0]
    hidden = None
    if any(part.hidden is not None for part in parts):
        # (B, n) for each block: one that says nothing hides nothing.
        shown = [torch.zeros_like(part.content[..., 0], dtype=torch.bool) for part in parts]
        hidden = torch.cat([s if part.hidden is None else part.hidden for part, s in zip(parts, shown)], 1)
    return Queries(torch.cat([p.content for p in parts], 1), torch.cat([p.boxes for p in parts], 1), hidden, apart)


def first_group(decoded: Decoded, blocks: Blocks, *, aux_loss: bool) -> Decoded:
    """Keep the answers of the first group; those of the others go to `more` under `groups`, a list of outputs."""
    if len(blocks.sizes) == 1:
        return decoded
    q = blocks.sizes[0]
    parts = list(zip(decoded.logits.split(list(blocks.sizes), 2), decoded.boxes.split(list(blocks.sizes), 2)))
    # Queries that do not exist are the same in every group.
    hidden = {name: decoded.more[name] for name in ("hidden",) if name in decoded.more}
    others: list[dict[str, Any]] = [
        as_outputs(logits, boxes, every_layer=aux_loss) | hidden for logits, boxes in parts[1 : blocks.matched]
    ]
    more = decoded.more | ({"groups": others} if others else {})
    return Decoded(*parts[0], decoded.queries[:, :, :q], decoded.memory, more)
