"""Pictures of what was found: over the image, or beside the truth."""

from collections.abc import Mapping

import numpy as np
from PIL import Image

from util.draw.boxes import PAPER, draw_objects
from util.draw.panoptic import draw_panoptic

from .detections import Detections
from .items import Item, Pictures
from .truth import TrueObjects, match

#: Pixels between truth and detections.
SEAM = 4


def draw(item: Item, found: Detections, truth: TrueObjects | None, class_names: Mapping[int, str]) -> Pictures:
    """Return the pictures of an item: boxes, names, scores and masks; of a panoptic model its segments too.

    With `truth` two images lie side by side, annotations on the left; what was missed there, and what is false on the
    right, is dashed and says so. Of a frame there is one picture: its segments, if the model finds them.
    """
    pictures = {
        "": _draw_objects(item.image, found) if truth is None else _side_by_side(item, found, truth, class_names)
    }
    if found.panoptic is not None:
        panoptic = draw_panoptic(item.image, found.panoptic.ids, found.panoptic.segments, found.panoptic.names)
        pictures["" if item.frame is not None else "_panoptic"] = panoptic
    return pictures


def _draw_objects(image: Image.Image, found: Detections, false: np.ndarray | None = None) -> Image.Image:
    """Draw detections, the surest on top; `false` (N,) bool marks some."""
    order = np.arange(len(found))[::-1]  # detections come the surest first, drawings end with it
    wrong = np.zeros(len(found), dtype=bool) if false is None else false
    texts = [f"{'false: ' if wrong[k] else ''}{found.names[k]} {100 * found.scores[k]:.0f}" for k in order]
    masks = None if found.masks is None else [found.masks[k] for k in order]
    return draw_objects(image, found.boxes[order], found.labels[order], texts, masks=masks, marked=wrong[order])


def _side_by_side(item: Item, found: Detections, truth: TrueObjects, class_names: Mapping[int, str]) -> Image.Image:
    hit, taken = match(found, truth)
    names = [class_names.get(label, f"class {label}") for label in truth.labels.tolist()]
    texts = [name if seen else f"missed: {name}" for name, seen in zip(names, taken)]
    masks = None if truth.masks is None else list(truth.masks)
    left = draw_objects(item.image, truth.boxes, truth.labels, texts, masks=masks, marked=~taken)
    # `match` has given each true object to one detection at most: a second one on it is false, as in COCO's evaluation.
    right = _draw_objects(item.image, found, false=~hit)
    pair = Image.new("RGB", (2 * left.width + SEAM, left.height), PAPER)
    pair.paste(left, (0, 0))
    pair.paste(right, (left.width + SEAM, 0))
    return pair
