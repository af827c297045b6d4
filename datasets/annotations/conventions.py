"""The convention of a file's boxes: COCO's is [x, y, width, height] in pixels, and some exporters write another.

A polygon or mask beside a box shows what was meant. Without one, boxes that reach over the edges of their images as
COCO's, and never as another convention, show it too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .relative_polygons import ONE

#: Boxes from (n, 4) as they are listed to xywh.
Conversion = Callable[[np.ndarray], np.ndarray]

OTHERS: dict[str, Conversion] = {
    "corners [x1, y1, x2, y2]": lambda b: np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1),
    "a centre [cx, cy, width, height]": lambda b: np.concatenate([b[:, :2] - b[:, 2:] / 2, b[:, 2:]], axis=1),
    "rows first [y, x, height, width]": lambda b: b[:, [1, 0, 3, 2]],
}
#: IoU from which a box is the one around its polygon, and below which it is another.
AGREES, DISAGREES = 0.8, 0.5
#: Evidence: so many boxes with polygons or, without, so many boxes; so many of them as COCO's at most, so many as
#: another at least.
LEAST_WITH_POLYGONS, LEAST_WITHOUT = 4, 10
AS_COCO, AS_OTHER = 0.6, 0.95


@dataclass(frozen=True)
class Convention:
    """Another convention than COCO's: its name, the evidence for it in words, and the way to COCO's."""

    name: str
    evidence: str
    fractions: bool
    conversion: Conversion

    def convert(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return boxes (n, 4) xywh in pixels of images of `sizes` (n, 2) = (width, height)."""
        return self.conversion(boxes * np.tile(sizes, 2) if self.fractions else boxes)


def find_convention(boxes: np.ndarray, around: np.ndarray, sizes: np.ndarray) -> Convention | None:
    """Return the convention in which `boxes` were written, None for COCO's and where nothing shows another.

    Args:
        boxes: (n, 4) as they are listed.
        around: (n, 4) xywh around their polygons or masks, NaN for boxes without.
        sizes: (n, 2) width and height of their images, NaN where they are not known.
    """
    with_area = (boxes[:, 2:] > 0).all(1)  # boxes of zeros are none, whatever their unit
    # One tiny box near the corner of an image proves nothing; two, and not a single number above 1, do.
    fractions = with_area.sum() >= 2 and bool((boxes <= ONE).all() and (boxes >= 0).all())
    if fractions:
        known = np.isfinite(sizes).all(1)
        # Brought to pixels (width, height, width, height) first: polygons and edges are in pixels.
        boxes, around, sizes = boxes[known] * np.tile(sizes[known], 2), around[known], sizes[known]
    name, conversion, evidence = _by_polygons(boxes, around) or _by_edges(boxes, sizes) or ("", _as_listed, "")
    if fractions:
        evidence = f"no number of {len(boxes)} boxes is above 1{', and ' if evidence else ''}{evidence}"
        return Convention(f"fractions of the image{', ' if name else ''}{name}", evidence, True, conversion)
    return Convention(name, evidence, False, conversion) if name else None


def around_turned(boxes: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return the boxes (n, 4) xywh around `boxes` turned about their centres by `degrees` (n,)."""
    cos, sin = np.abs(np.cos(np.deg2rad(degrees))), np.abs(np.sin(np.deg2rad(degrees)))
    width, height = boxes[:, 2], boxes[:, 3]
    # Both sides of the turned box cast their shadow on both axes: the outer box is as wide as the two shadows together.
    sizes = np.stack([width * cos + height * sin, width * sin + height * cos], axis=1)  # (n, 2)
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2 - sizes / 2, sizes], axis=1)


def overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (n,) of boxes (n, 4) xywh with those of the same row, 0 for boxes without area."""
    # (n, 2): the lower right corner of what both share, as the smaller of both ends.
    least = np.minimum(boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:])
    inside = (least - np.maximum(boxes[:, :2], others[:, :2])).clip(min=0).prod(1)
    areas = [part[:, 2:].clip(min=0).prod(1) for part in (boxes, others)]
    # Two boxes without area: 0 / 1e-9 is 0, not NaN.
    return inside / np.maximum(areas[0] + areas[1] - inside, 1e-9)


def _as_listed(boxes: np.ndarray) -> np.ndarray:
    return boxes


def _by_polygons(boxes: np.ndarray, around: np.ndarray) -> tuple[str, Conversion, str] | None:
    """Return the convention that agrees with the polygons, where COCO's does not."""
    known = np.isfinite(around).all(1)
    boxes, around = boxes[known], around[known]
    if len(boxes) < LEAST_WITH_POLYGONS or (overlap(boxes, around) >= AGREES).mean() > AS_COCO:
        return None
    # How many boxes each reading explains; square boxes and such agree with several, so the best one has to explain
    # nearly all.
    shares = {name: (overlap(convert(boxes), around) >= AGREES).mean() for name, convert in OTHERS.items()}
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < AS_OTHER:
        return None
    agreeing = round(float(shares[best]) * len(boxes))
    return best, OTHERS[best], f"{agreeing} of {len(boxes)} boxes agree with their polygons or masks as {best}"


def _by_edges(boxes: np.ndarray, sizes: np.ndarray) -> tuple[str, Conversion, str] | None:
    """Return the only convention in which all boxes lie inside their images, where many do not as COCO's."""
    known = np.isfinite(sizes).all(1)
    boxes, sizes = boxes[known], sizes[known]
    if len(boxes) < LEAST_WITHOUT or _inside(boxes, sizes).mean() > AS_COCO:
        return None
    # Two that fit prove neither.
    fitting = [name for name, convert in OTHERS.items() if _inside(convert(boxes), sizes).all()]
    if len(fitting) != 1:
        return None
    return fitting[0], OTHERS[fitting[0]], f"only as {fitting[0]} all {len(boxes)} boxes lie inside their images"


def _inside(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Mark the boxes (n, 4) xywh that have an area and lie inside their images but for a pixel."""
    corners = boxes[:, :2] + boxes[:, 2:]
    return ((boxes[:, 2:] > 0) & (boxes[:, :2] >= -1) & (corners <= sizes + 1)).all(1)
