"""Words on an image: class names on patches of their colours, where they hide each other least."""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

#: Pixels: letters below this cannot be read.
LEAST_SIZE = 10


def draw_names(image: Image.Image, boxes: np.ndarray, colours: Sequence[Colour], texts: Sequence[str]) -> None:
    """Write every text on a patch of its colour at its box (n, 4), where it hides no other text if possible.

    Letters grow with the root of the image's longer side, up to an eighth of the shorter. They shrink where a text is
    wider than the image; one that is still too wide loses its middle. The last boxes choose their places first.
    """
    pen = ImageDraw.Draw(image)
    size = max(LEAST_SIZE, min(round(0.75 * max(image.size) ** 0.5), min(image.size) // 8))
    taken: list[Rectangle] = []
    for box, colour, text in reversed(list(zip(boxes, colours, texts, strict=True))):
        text, font = _fit(pen, text, size, image.width - 6)
        # The width is the text's, the height the font's: patches of one font are equally high.
        ink = pen.textbbox((0, 0), text, font=font)
        width, height = ink[2] + 6, font.size + 4
        patch = free_patch(box, (width, height), image.size, taken)
        taken.append(patch)
        pen.rectangle(patch, fill=colour)
        pen.text((patch[0] + 3, patch[1] + height / 2), text, font=font, fill=readable_on(colour), anchor="lm")


def free_patch(
    box: np.ndarray, size: tuple[float, float], canvas: tuple[int, int], taken: list[Rectangle]
) -> Rectangle:
    """Return a place for a text of this size: above, below or in its box, within the canvas, and off taken places."""
    (left, top, right, bottom), (width, height) = box, size
    # In the order of preference: above, below, inside at the top, inside at the bottom; left before right.
    corners = [(x, y) for y in (top - height, bottom, top, bottom - height) for x in (left, right - width)]
    patches = []
    for x, y in corners:
        x, y = min(max(0.0, x), max(0.0, canvas[0] - width)), min(max(0.0, y), max(0.0, canvas[1] - height))
        patches.append((x, y, x + width, y + height))
    return min(patches, key=lambda patch: sum(overlap(patch, other) for other in taken))  # the first of the best


def overlap(a: Rectangle, b: Rectangle) -> float:
    """Return the area that two rectangles share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def readable_on(colour: Colour) -> Colour:
    """Return black or white, whichever is easier to read on a colour (luma of Rec. 601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else (255, 255, 255)


def shorten(pen: ImageDraw.ImageDraw, text: str, size: int, width: float) -> str:
    """Return a text in one line, without its middle if it is too long: both ends of a file's name tell it apart."""
    text = " ".join(text.split())
    font, keep, shown = load_font(size), len(text), text
    # Letters differ in width: one less at a time, until the rest fits.
    while pen.textlength(shown, font) > width and keep > 2:
        keep -= 1
        shown = f"{text[: (keep + 1) // 2]}...{text[len(text) - keep // 2 :]}"
    return shown


@lru_cache(maxsize=32)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return Pillow's own font: no font file is needed."""
    return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))  # that of a size is always one


def _fit(pen: ImageDraw.ImageDraw, text: str, size: int, width: float) -> tuple[str, ImageFont.FreeTypeFont]:
    """Return a text and a font with which it is at most `width` pixels wide."""
    length = pen.textlength(text, load_font(size))
    if length > width:
        size = max(LEAST_SIZE, int(size * width / length))
    return shorten(pen, text, size, width), load_font(size)
