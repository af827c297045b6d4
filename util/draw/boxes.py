"""Objects drawn over an image: boxes, half transparent masks, class names and scores, each class in its own colour."""

import colorsys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom
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
    canvas, scale = _resized(image.convert("RGB"), longer_side)
    boxes = np.asarray(boxes_xyxy, dtype=float).reshape(-1, 4) * scale
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
    if masks is not None:
        paint_masks(canvas, [np.asarray(masks[k]) for k in order], ids[order], line_width=_line_width(canvas))
    _draw_boxes(canvas, boxes[order], ids[order])
    _draw_names(canvas, boxes[order], ids[order], [texts[k] for k in order])
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
        pixels[inside] += OPACITY * (colour - pixels[inside])
        # The seam is one pixel outside the mask; the outline the pixels that an erosion takes from it.
        pixels[binary_dilation(inside) & ~inside] *= 0.25
        pixels[inside & ~binary_erosion(inside, iterations=line_width)] = colour
    image.paste(Image.fromarray(pixels.round().astype(np.uint8)))


def _at_size(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a mask (h, w) to bool at a size (width, height), its edges smooth where it is enlarged."""
    grey = Image.fromarray(np.asarray(mask, dtype=bool).astype(np.uint8) * 255)
    return np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) > 127


def _resized(canvas: Image.Image, longer_side: int | None) -> tuple[Image.Image, float]:
    """Resize an image to its longer side; return it with the scale, which boxes need too."""
    scale = (longer_side or max(GRID_TILE, *canvas.size)) / max(canvas.size)
    if scale == 1:
        return canvas, scale
    width, height = (max(1, round(length * scale)) for length in canvas.size)
    return canvas.resize((width, height), Image.Resampling.BICUBIC), scale


def _draw_boxes(image: Image.Image, boxes: np.ndarray, labels: np.ndarray) -> None:
    """Draw outlines with a dark seam on both sides, so that they stand out from any background."""
    pen, width = ImageDraw.Draw(image), _line_width(image)
    for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
        right, bottom = max(left, right - 1), max(top, bottom - 1)  # PIL draws the last row and column too
        pen.rectangle((left - 1, top - 1, max(left, right) + 1, max(top, bottom) + 1), outline=INK, width=width + 2)
        pen.rectangle((left, top, right, bottom), outline=class_colour(label), width=width)


def _draw_names(image: Image.Image, boxes: np.ndarray, labels: np.ndarray, texts: list[str]) -> None:
    """Write every name on a patch of its class colour at its box, where it hides no other name if possible."""
    pen, font = ImageDraw.Draw(image), load_font(max(10, round(0.75 * max(image.size) ** 0.5)))
    taken: list[Rectangle] = []
    for box, label, text in reversed(list(zip(boxes, labels, texts, strict=True))):  # the surest choose first
        ink = pen.textbbox((0, 0), text, font=font)
        width, height = ink[2] + 6, font.size + 4
        patch = _free_patch(box, (width, height), image.size, taken)
        taken.append(patch)
        colour = class_colour(label)
        pen.rectangle(patch, fill=colour)
        pen.text((patch[0] + 3, patch[1] + height / 2), text, font=font, fill=_readable_on(colour), anchor="lm")


def _free_patch(
    box: np.ndarray, size: tuple[float, float], canvas: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """Return a place for a name of this size: above, below or in its box, within the canvas, and off taken places."""
    (left, top, right, bottom), (width, height) = box, size
    corners = [(x, y) for y in (top - height, bottom, top, bottom - height) for x in (left, right - width)]
    patches = []
    for x, y in corners:
        x, y = min(max(0.0, x), max(0.0, canvas[0] - width)), min(max(0.0, y), max(0.0, canvas[1] - height))
        patches.append((x, y, x + width, y + height))
    return min(patches, key=lambda patch: sum(_overlap(patch, other) for other in taken))  # the first of the best


def _overlap(a: Rectangle, b: Rectangle) -> float:
    """Return the area that two rectangles share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _line_width(image: Image.Image) -> int:
    """Return 3 pixels at 320 and 6 at 1280: lines and names grow with the root of an image's side, as on maps."""
    return max(2, round(max(image.size) ** 0.5 / 6))


def _readable_on(colour: Colour) -> Colour:
    """Return black or white, whichever is easier to read on a colour (luma of Rec. 601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else (255, 255, 255)


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font: no font file is needed."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))  # that of a size is always one
