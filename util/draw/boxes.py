"""Objects drawn over an image: boxes, half transparent masks, class names and scores, each class in its own colour."""

import colorsys
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from .names import Colour, Rectangle, draw_names

#: Numbers of an image's objects, one row each: the tensor of a target, or what numpy makes an array of.
Rows = Tensor | np.ndarray | Sequence

GRID_TILE = 320  # pixels: smaller images are enlarged to it, and on a sheet it is the longer side of each
PAPER, INK, FAINT_INK = (255, 255, 255), (32, 33, 36), (110, 113, 120)

#: Hues of the first classes, chosen far apart; later ids continue by the golden ratio, which never comes back to a hue.
FIRST_HUES = (0.0, 0.56, 0.13, 0.36, 0.83, 0.69, 0.46, 0.25)
GOLDEN_RATIO = 0.6180339887
#: How much of the class's colour lies over the image inside a mask.
OPACITY = 0.45


def class_colour(label: int) -> Colour:
    """Return the RGB colour of a category id, the same in every image and run."""
    index = int(label) - 1  # category ids begin at 1
    if 0 <= index < len(FIRST_HUES):
        hue, saturation, value = FIRST_HUES[index], 0.78, 1.0
    else:
        hue = index * GOLDEN_RATIO % 1
        saturation, value = (0.85, 0.6, 0.75)[index % 3], (1.0, 0.95, 0.8)[index // 3 % 3]
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def draw_detections(
    image: Image.Image,
    boxes_xyxy: Rows,
    labels: Rows,
    *,
    scores: Rows | None = None,
    masks: Rows | None = None,
    class_names: Mapping[int, str] | None = None,
    min_score: float = 0.0,
    longer_side: int | None = None,
) -> Image.Image:
    """Return an RGB copy of the image with a box and a name for every object; the weakest scores are drawn first.

    Args:
        image: drawn over a copy of it.
        boxes_xyxy: (n, 4) in the image's pixels.
        labels: (n,) category ids.
        scores: (n,) in 0..1, written as percent.
        masks: (n, height, width), painted half transparent under the boxes.
        class_names: category id to name; without one the id is written.
        min_score: objects that score less are left out.
        longer_side: length the image is resized to first. By default an image smaller than GRID_TILE is enlarged to
            it, so that names are readable.

    Raises:
        ValueError: the lengths differ.
    """
    boxes = np.asarray(boxes_xyxy, dtype=float).reshape(-1, 4)
    ids = np.asarray(labels, dtype=int)
    sure = np.ones(len(boxes)) if scores is None else np.asarray(scores, dtype=float)
    if not len(boxes) == len(ids) == len(sure):
        raise ValueError(
            f"{len(boxes)} boxes, {len(ids)} labels and {len(sure)} scores: one of each per object is needed"
        )
    names = class_names or {}
    texts = [names.get(int(label), str(label)) for label in ids]
    if scores is not None:
        texts = [f"{text} {100 * score:.0f}" for text, score in zip(texts, sure, strict=True)]
    # The surest come last and so lie on top; equal scores (truth) keep their order.
    order = [k for k in np.argsort(sure, kind="stable") if sure[k] >= min_score]
    return draw_objects(
        image,
        boxes[order],
        ids[order],
        [texts[k] for k in order],
        masks=None if masks is None else [np.asarray(masks[k]) for k in order],
        longer_side=longer_side,
    )


def draw_objects(
    image: Image.Image,
    boxes_xyxy: np.ndarray,
    labels: np.ndarray,
    texts: Sequence[str],
    *,
    masks: Sequence[np.ndarray] | None = None,
    marked: np.ndarray | None = None,
    longer_side: int | None = None,
) -> Image.Image:
    """Return an RGB copy of the image with a box and a text for every object; the last lies on top.

    Args:
        image, longer_side: as in `draw_detections`.
        boxes_xyxy: (n, 4) in the image's pixels; cut at its edges.
        labels: (n,) category ids, which decide on the colours.
        texts: n words to write at the boxes.
        masks: n masks (height, width).
        marked: (n,) bool, True for boxes to stand out: their outlines are dashed with white.
    """
    canvas, scale = _resized(image.convert("RGB"), longer_side)
    boxes = boxes_xyxy.reshape(-1, 4) * scale
    # (width, height, width, height)
    boxes = boxes.clip(0, np.tile(canvas.size, 2))
    if masks is not None:
        paint_masks(canvas, masks, labels, line_width=line_width(canvas))
    _draw_boxes(canvas, boxes, labels, np.zeros(len(boxes), dtype=bool) if marked is None else marked)
    draw_names(canvas, boxes, [class_colour(label) for label in labels], texts)
    return canvas


def paint_masks(image: Image.Image, masks: Sequence[np.ndarray], labels: np.ndarray, *, line_width: int) -> None:
    """Paint masks (h, w) in the colours of their classes over an RGB image, in place; the last lies on top.

    Masks of another size are resized to the image's. Outlines of `line_width` pixels lie inside the masks, with a dark
    seam of one pixel around them.
    """
    from scipy.ndimage import binary_dilation, binary_erosion  # slow to import, and only masks need it

    pixels = np.asarray(image).astype(np.float32)
    for mask, label in zip(masks, labels, strict=True):
        inside = _at_size(mask, image.size)
        colour = np.array(class_colour(label), dtype=np.float32)
        # Between pixel and colour: 0.45 of the way.
        pixels[inside] += OPACITY * (colour - pixels[inside])
        # The seam is one pixel outside the mask; the outline the pixels that an erosion takes from it.
        pixels[binary_dilation(inside) & ~inside] *= 0.25
        pixels[inside & ~binary_erosion(inside, iterations=line_width)] = colour
    image.paste(Image.fromarray(pixels.round().astype(np.uint8)))


def _at_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask (h, w) to bool at a size (width, height), its edges smooth where it is enlarged."""
    grey = Image.fromarray(np.asarray(mask, dtype=bool).astype(np.uint8) * 255)
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) > 127


def enlarged(canvas: Image.Image) -> Image.Image:
    """Return an image that is at least GRID_TILE pixels on its longer side."""
    return _resized(canvas, None)[0]


def _resized(canvas: Image.Image, longer_side: int | None) -> tuple[Image.Image, float]:
    """Resize an image to its longer side; return it with the scale, which boxes need too."""
    scale = (longer_side or max(GRID_TILE, *canvas.size)) / max(canvas.size)
    if scale == 1:
        return canvas, scale
    width, height = (max(1, round(length * scale)) for length in canvas.size)
    return canvas.resize((width, height), Image.Resampling.BICUBIC), scale


def _draw_boxes(image: Image.Image, boxes: np.ndarray, labels: np.ndarray, marked: np.ndarray) -> None:
    """Draw outlines with a dark seam on both sides, so that they stand out from any background."""
    pen, width = ImageDraw.Draw(image), line_width(image)
    for (left, top, right, bottom), label, mark in zip(boxes, labels, marked, strict=True):
        right, bottom = max(left, right - 1), max(top, bottom - 1)  # PIL draws the last row and column too
        # A box at the far edge begins on the last pixel.
        left, top = min(left, image.width - 1), min(top, image.height - 1)
        right, bottom = max(left, right), max(top, bottom)
        pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK, width=width + 2)
        pen.rectangle((left, top, right, bottom), outline=class_colour(label), width=width)
        if mark:
            _dash(pen, (left, top, right, bottom), width)


def _dash(pen: ImageDraw.ImageDraw, box: Rectangle, width: int) -> None:
    """Draw white dashes on the outline of a box, as long as the gaps between them."""
    left, top, right, bottom = box
    dash = 2 * width
    for x in np.arange(left, right, 2 * dash):
        # In a box thinner than its outline both sides fall on one another.
        for y in (top, max(top, bottom - width + 1)):
            pen.rectangle((x, y, min(x + dash, right), min(y + width - 1, bottom)), fill=PAPER)
    for y in np.arange(top, bottom, 2 * dash):
        for x in (left, max(left, right - width + 1)):
            pen.rectangle((x, y, min(x + width - 1, right), min(y + dash, bottom)), fill=PAPER)


def line_width(image: Image.Image) -> int:
    """Return 3 pixels at 320 and 6 at 1280: lines and names grow with the root of an image's side, as on maps."""
    return max(2, round(max(image.size) ** 0.5 / 6))
