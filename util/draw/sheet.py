"""Many small images with a caption each on one sheet of paper."""

import os
from collections.abc import Sequence

from PIL import Image, ImageDraw

from ..runs.atomic import atomic_file
from .boxes import FAINT_INK, GRID_TILE, INK, PAPER, load_font

MARGIN, GAP, TITLE_HEIGHT, CAPTION_HEIGHT = 24, 20, 60, 30


def contact_sheet(
    tiles: Sequence[tuple[Image.Image, str]], *, columns: int, path: str | os.PathLike, title: str | None = None
) -> None:
    """Write a PNG with every (image, caption), `columns` in a row; an image's sides are at most GRID_TILE.

    Captions are cut to the width of a tile. The file at `path` is replaced whole; its folder is created. Raises
    ValueError for no images or no columns, OSError when the file cannot be written.
    """
    if not tiles or columns < 1:
        raise ValueError(f"a sheet needs images and columns, got {len(tiles)} and {columns}")
    columns = min(columns, len(tiles))
    rows = [tiles[k : k + columns] for k in range(0, len(tiles), columns)]
    heights = [max(image.height for image, _ in row) + CAPTION_HEIGHT for row in rows]
    head = MARGIN + (TITLE_HEIGHT if title else 0)
    width = 2 * MARGIN + columns * GRID_TILE + (columns - 1) * GAP
    paper = Image.new("RGB", (width, head + sum(heights) + GAP * (len(rows) - 1) + MARGIN), PAPER)
    pen = ImageDraw.Draw(paper)
    if title:
        pen.text(
            (MARGIN, MARGIN + 16), _cut(pen, title, 28, width - 2 * MARGIN), font=load_font(28), fill=INK, anchor="lm"
        )
    y = head
    for row, height in zip(rows, heights, strict=True):
        for column, (image, caption) in enumerate(row):
            x = MARGIN + column * (GRID_TILE + GAP)
            paper.paste(image, (x + (GRID_TILE - image.width) // 2, y + height - CAPTION_HEIGHT - image.height))
            where = (x + GRID_TILE / 2, y + height - CAPTION_HEIGHT / 2)
            pen.text(where, _cut(pen, caption, 16, GRID_TILE), font=load_font(16), fill=FAINT_INK, anchor="mm")
        y += height + GAP
    with atomic_file(path) as file:
        paper.save(file, format="PNG")


def _cut(pen: ImageDraw.ImageDraw, text: str, size: int, width: float) -> str:
    """The text in one line, without its middle where it is too long: both ends of a file's name tell it apart."""
    text = " ".join(text.split())
    font, keep, shown = load_font(size), len(text), text
    while pen.textlength(shown, font) > width and keep > 2:
        keep -= 1
        shown = f"{text[: (keep + 1) // 2]}...{text[len(text) - keep // 2 :]}"
    return shown
