"""Many images on one sheet of paper: a contact sheet with captions, and grids of truth beside detections."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as rle_tools
from torch.utils.data import Subset

from ..runs.atomic import atomic_file
from ..runs.run_folder import DetectionResults
from .boxes import FAINT_INK, GRID_TILE, INK, PAPER, Rows, class_colour, draw_detections
from .names import load_font, shorten

T = TypeVar("T")

#: Pixels: around the paper, between two cells, and between truth and detections.
MARGIN, GAP, SEAM = 24, 20, 4
TITLE_HEIGHT, HEADING_HEIGHT, CAPTION_HEIGHT = 60, 44, 30


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Objects of one image: boxes (n, 4) xyxy in its pixels, and labels (n,), category ids.

    Detected ones have scores (n,) in 0..1; masks are (n, height, width), if there are any.
    """

    boxes: Rows
    labels: Rows
    scores: Rows | None = None
    masks: Rows | None = None


class DrawableDataset(Protocol):
    """A dataset as `draw_evaluation` needs it; those of `datasets` are."""

    @property
    def class_names(self) -> Mapping[int, str]: ...

    def __len__(self) -> int: ...

    def image_id(self, index: int) -> int: ...

    def load(self, index: int) -> tuple[Image.Image, dict[str, Any]]: ...


class _Paper:
    """White paper with room for a title and, below it, rows of cells of one width; `heights` are those of the rows."""

    def __init__(self, heights: Sequence[int], *, columns: int, cell_width: int, head: int) -> None:
        self.cell_width = cell_width
        # The top of row k is below the heads and all rows before it, with a gap after each.
        self.tops = [MARGIN + head + sum(heights[:row]) + row * GAP for row in range(len(heights))]
        width = 2 * MARGIN + columns * cell_width + (columns - 1) * GAP
        self.image = Image.new("RGB", (width, self.tops[-1] + heights[-1] + MARGIN), PAPER)
        self.pen = ImageDraw.Draw(self.image)

    @property
    def right(self) -> int:
        return self.image.width - MARGIN

    def left_of(self, column: int) -> int:
        return MARGIN + column * (self.cell_width + GAP)

    def write_title(self, title: str) -> None:
        self.pen.text((MARGIN, MARGIN + 16), title, font=load_font(28), fill=INK, anchor="lm")


def contact_sheet(
    tiles: Sequence[tuple[Image.Image, str]], *, columns: int, path: str | os.PathLike, title: str | None = None
) -> None:
    """Write a PNG with every (image, caption), `columns` in a row; an image's sides are at most GRID_TILE.

    Captions are cut to the width of a tile. The file at `path` is replaced whole; its folder is created. Raises
    ValueError for no images or no columns, OSError when the file cannot be written.
    """
    if not tiles or columns < 1:
        raise ValueError(f"a sheet needs images and columns, got {len(tiles)} and {columns}")
    # Three images in four columns would leave a strip of white.
    columns = min(columns, len(tiles))
    # Rows are as high as their highest image, not all as the highest of the sheet.
    rows = _in_rows(tiles, columns)
    heights = [max(image.height for image, _ in row) + CAPTION_HEIGHT for row in rows]
    paper = _Paper(heights, columns=columns, cell_width=GRID_TILE, head=TITLE_HEIGHT if title else 0)
    if title:
        paper.write_title(shorten(paper.pen, title, 28, paper.right - MARGIN))
    for row, top, height in zip(rows, paper.tops, heights, strict=True):
        caption_top = top + height - CAPTION_HEIGHT
        for column, (image, caption) in enumerate(row):
            x = paper.left_of(column)
            # Images stand on their captions, in the middle of the tile.
            paper.image.paste(image, (x + (GRID_TILE - image.width) // 2, caption_top - image.height))
            text = shorten(paper.pen, caption, 16, GRID_TILE)
            middle = (x + GRID_TILE / 2, caption_top + CAPTION_HEIGHT / 2)
            paper.pen.text(middle, text, font=load_font(16), fill=FAINT_INK, anchor="mm")
    _save(paper, path)


def detection_grid(
    images: Sequence[tuple[Image.Image, Objects, Objects]],
    *,
    columns: int,
    path: str | os.PathLike,
    title: str | None = None,
    class_names: Mapping[int, str] | None = None,
    min_score: float = 0.5,
) -> None:
    """Write a PNG with truth (left) and detections (right) of every (image, truth, detections).

    Args:
        images: each image with the objects that are there and those that were detected.
        columns: pairs in a row.
        path: the file; it is replaced whole, and its folder is created.
        title: a line at the top, with the names of the classes beside it.
        class_names: category id to name.
        min_score: detections that score less are left out.

    Raises:
        ValueError: no images, or no columns.
        OSError: the file cannot be written.
    """
    if not images or columns < 1:
        raise ValueError(f"a grid needs images and columns, got {len(images)} and {columns}")
    draw = partial(draw_detections, class_names=class_names, longer_side=GRID_TILE)
    pairs = [
        (
            draw(image, truth.boxes, truth.labels, masks=truth.masks),
            # Truth has no scores: it is drawn whole, whatever `min_score` is.
            draw(image, found.boxes, found.labels, scores=found.scores, masks=found.masks, min_score=min_score),
        )
        for image, truth, found in images
    ]
    _save(_lay_out(pairs, min(columns, len(pairs)), title, class_names or {}), path)


def draw_evaluation(
    path: str | os.PathLike,
    dataset: DrawableDataset | Subset,
    evaluator: DetectionResults,
    *,
    count: int = 12,
    columns: int = 3,
    min_score: float = 0.5,
    what: str = "validation images",
) -> None:
    """Write a grid of images, spread evenly over a dataset, with the detections of an evaluation in them.

    Args:
        path: the file, as in `detection_grid`.
        dataset: the images with their true objects, or a Subset of them.
        evaluator: the detections; images that have none are drawn without.
        count: how many images at most.
        columns: pairs of truth and detections in a row.
        min_score: detections that score less are left out.
        what: the images, as the title calls them.
    """
    # First and last included; the set drops what rounding makes equal where there are few.
    chosen = sorted({round(k) for k in np.linspace(0, len(dataset) - 1, num=min(count, len(dataset)))})
    source: Any = dataset
    while isinstance(source, Subset):  # subsets of subsets: translate the indices down to the dataset itself
        chosen = [source.indices[k] for k in chosen]
        source = source.dataset
    # Detections come for all images, of which a dozen are drawn.
    found = detections_by_image(evaluator, [source.image_id(k) for k in chosen], min_score=min_score)
    images = []
    for k in chosen:
        image, target = source.load(k)
        truth = Objects(boxes=target["boxes"], labels=target["labels"], masks=target.get("masks"))
        images.append((image, truth, objects_of(found[source.image_id(k)])))
    title = f"{len(chosen)} {what}, detections that score at least {100 * min_score:.0f} %"
    detection_grid(images, columns=columns, path=path, title=title, class_names=source.class_names, min_score=min_score)


def detections_by_image(
    evaluator: DetectionResults, image_ids: Sequence[int], *, min_score: float
) -> dict[int, list[dict[str, Any]]]:
    """Return the detections of some images, in COCO's results format, that score at least `min_score`."""
    found: dict[int, list[dict[str, Any]]] = {image_id: [] for image_id in image_ids}
    for result in _results(evaluator):
        if result["image_id"] in found and result["score"] >= min_score:
            found[result["image_id"]].append(result)
    return found


def _results(evaluator: DetectionResults) -> list[dict[str, Any]]:
    """Return all detections; of masks, if there are any, with box and mask in one dictionary."""
    boxes = evaluator.results("bbox")
    if "segm" not in evaluator.iou_types:
        return boxes
    # Both kinds list the same detections in the same order.
    return [mask | box for box, mask in zip(boxes, evaluator.results("segm"), strict=True)]


def objects_of(results: list[dict[str, Any]]) -> Objects:
    """Turn detections in COCO's results format (boxes xywh, masks as run lengths) into objects."""
    boxes = np.array([result["bbox"] for result in results], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]  # from x, y, width, height to corners
    masks = None
    if results and "segmentation" in results[0]:
        # (h, w) of 0 and 1 each, at the size of the image.
        masks = [rle_tools.decode(result["segmentation"]) for result in results]
    labels, scores = ([result[key] for result in results] for key in ("category_id", "score"))
    return Objects(boxes=boxes, labels=labels, scores=scores, masks=masks)


def _lay_out(
    pairs: list[tuple[Image.Image, Image.Image]], columns: int, title: str | None, class_names: Mapping[int, str]
) -> _Paper:
    """Put pairs of drawn images on paper, under a title, the names of the classes, and a heading per column."""
    rows = _in_rows(pairs, columns)
    heights = [max(left.height for left, _ in row) for row in rows]
    head = (TITLE_HEIGHT if title else 0) + HEADING_HEIGHT
    paper = _Paper(heights, columns=columns, cell_width=2 * GRID_TILE + SEAM, head=head)
    if title:
        paper.write_title(title)
        title_end = MARGIN + paper.pen.textlength(title, load_font(28)) + 40
        _draw_legend(paper.pen, class_names, left=title_end, right=paper.right, middle=MARGIN + 16)
    for column in range(columns):
        x = paper.left_of(column)
        for middle, heading in ((x + GRID_TILE / 2, "truth"), (x + 1.5 * GRID_TILE + SEAM, "detected")):
            paper.pen.text((middle, MARGIN + head - 22), heading, font=load_font(22), fill=FAINT_INK, anchor="mm")
    for row, top, height in zip(rows, paper.tops, heights, strict=True):
        for column, pair in enumerate(row):
            for tile, x in zip(pair, (paper.left_of(column), paper.left_of(column) + GRID_TILE + SEAM), strict=True):
                # In the middle of its square: the sides of images differ.
                paper.image.paste(tile, (x + (GRID_TILE - tile.width) // 2, top + (height - tile.height) // 2))
    return paper


def _draw_legend(
    pen: ImageDraw.ImageDraw, class_names: Mapping[int, str], *, left: float, right: float, middle: float
) -> None:
    """Write every class name behind a dot of its colour, flush right; none when they do not fit (boxes have names)."""
    font, dot, gap = load_font(22), 9, 30
    widths = [2 * dot + 8 + pen.textlength(name, font) + gap for name in class_names.values()]
    # The last name has no gap behind it.
    x = right - sum(widths) + gap
    if not widths or x < left:
        return
    for (label, name), width in zip(class_names.items(), widths, strict=True):
        pen.ellipse((x, middle - dot, x + 2 * dot, middle + dot), fill=class_colour(label))
        pen.text((x + 2 * dot + 8, middle), name, font=font, fill=INK, anchor="lm")
        x += width


def _in_rows(items: Sequence[T], columns: int) -> list[Sequence[T]]:
    return [items[k : k + columns] for k in range(0, len(items), columns)]


def _save(paper: _Paper, path: str | os.PathLike) -> None:
    with atomic_file(path) as file:
        # Half the time of the default level for a seventh more bytes: an evaluation waits for its sheet.
        paper.image.save(file, format="PNG", compress_level=1)
