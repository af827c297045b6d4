"""Boxes, masks, class names and scores drawn on images, and grids of truth beside detections."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pycocotools import mask as rle_tools
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ..runs.atomic import atomic_file
from .colours import Colour, class_colour
from .masks import paint_masks

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom

GRID_TILE = 320  # pixels: the longer side of an image in a grid
PAPER, INK, FAINT_INK = (255, 255, 255), (32, 33, 36), (110, 113, 120)


@dataclass(frozen=True, kw_only=True)
class Objects:
    """Objects of one image: boxes (n, 4) xyxy in its pixels, labels (n,) category ids, scores (n,) in 0..1 if detected,
    and masks (n, height, width) if there are any."""

    boxes: Tensor | np.ndarray | Sequence
    labels: Tensor | np.ndarray | Sequence
    scores: Tensor | np.ndarray | Sequence | None = None
    masks: Tensor | np.ndarray | Sequence | None = None


class Results(Protocol):
    """What `draw_evaluation` needs of an evaluator: detections in COCO's results format, masks if it has `segm`."""

    iou_types: Sequence[str]

    def results(self, iou_type: str) -> list[dict[str, Any]]: ...


def draw_detections(
    image: Image.Image,
    boxes_xyxy: Tensor | np.ndarray | Sequence,
    labels: Tensor | np.ndarray | Sequence,
    *,
    scores: Tensor | np.ndarray | Sequence | None = None,
    masks: Tensor | np.ndarray | Sequence | None = None,
    class_names: Mapping[int, str] | None = None,
    min_score: float = 0.0,
    longer_side: int | None = None,
) -> Image.Image:
    """Return an RGB copy of the image with a box and a name for every object; the weakest scores are drawn first.

    boxes_xyxy: (n, 4) in the image's pixels. labels: (n,) category ids; `class_names` gives their names, else the id is
    written. scores: (n,) in 0..1, written as percent; objects below `min_score` are left out. masks: (n, height, width), painted half transparent
    under the boxes. longer_side: length the
    image is resized to first; by default an image smaller than GRID_TILE is enlarged to it, so that names are readable.
    Raises ValueError when the lengths differ.
    """
    canvas = image.convert("RGB")
    side = longer_side or max(GRID_TILE, *canvas.size)
    scale = side / max(canvas.size)
    if scale != 1:
        width, height = (max(1, round(length * scale)) for length in canvas.size)
        canvas = canvas.resize((width, height), Image.Resampling.BICUBIC)
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
    order = [k for k in np.argsort(sure, kind="stable") if sure[k] >= min_score]
    if masks is not None:
        paint_masks(canvas, [np.asarray(masks[k]) for k in order], ids[order], line_width=_line_width(canvas))
    _draw_boxes(canvas, boxes[order], ids[order])
    _draw_names(canvas, boxes[order], ids[order], [texts[k] for k in order])
    return canvas


def detection_grid(
    images: Sequence[tuple[Image.Image, Objects, Objects]],
    *,
    columns: int,
    path: str | os.PathLike,
    title: str | None = None,
    class_names: Mapping[int, str] | None = None,
    min_score: float = 0.5,
) -> None:
    """Write a PNG with truth (left) and detections (right) of every (image, truth, detections), `columns` pairs in a row.

    Detections below `min_score` are left out. The file at `path` is replaced whole; its folder is created. Raises
    ValueError for no images or no columns, OSError when the file cannot be written.
    """
    if not images or columns < 1:
        raise ValueError(f"a grid needs images and columns, got {len(images)} and {columns}")
    pairs = []
    for image, truth, found in images:
        style = {"class_names": class_names, "longer_side": GRID_TILE}
        left = draw_detections(image, truth.boxes, truth.labels, masks=truth.masks, **style)
        right = draw_detections(
            image, found.boxes, found.labels, scores=found.scores, masks=found.masks, min_score=min_score, **style
        )
        pairs.append((left, right))
    with atomic_file(path) as file:
        _lay_out(pairs, min(columns, len(pairs)), title, class_names or {}).save(file, format="PNG")


def draw_evaluation(
    path: str | os.PathLike,
    dataset: Dataset,
    evaluator: Results,
    *,
    count: int = 12,
    columns: int = 3,
    min_score: float = 0.5,
) -> None:
    """Write a grid of up to `count` images, spread evenly over a dataset, with what an evaluation detected in them.

    dataset: has `load`, `image_id` and `class_names` as in `datasets`, or is a Subset of such a one.
    """
    chosen = sorted({round(k) for k in np.linspace(0, len(dataset) - 1, num=min(count, len(dataset)))})
    while isinstance(dataset, Subset):
        chosen = [dataset.indices[k] for k in chosen]
        dataset = dataset.dataset
    found: dict[int, list[dict]] = {dataset.image_id(k): [] for k in chosen}
    for result in _results(evaluator):
        if result["image_id"] in found and result["score"] >= min_score:
            found[result["image_id"]].append(result)
    images = []
    for k in chosen:
        image, target = dataset.load(k)
        truth = Objects(boxes=target["boxes"], labels=target["labels"], masks=target.get("masks"))
        images.append((image, truth, _from_results(found[dataset.image_id(k)])))
    style = {"class_names": dataset.class_names, "min_score": min_score}
    title = f"{len(chosen)} validation images, detections that score at least {100 * min_score:.0f} %"
    detection_grid(images, columns=columns, path=path, title=title, **style)


def _results(evaluator: Results) -> list[dict[str, Any]]:
    """All detections; where there are masks, with box and mask in one dictionary."""
    boxes = evaluator.results("bbox")
    if "segm" not in evaluator.iou_types:
        return boxes
    return [mask | box for box, mask in zip(boxes, evaluator.results("segm"), strict=True)]


def _from_results(results: list[dict[str, Any]]) -> Objects:
    """Turn detections in COCO's results format (boxes xywh, masks as run lengths) into objects."""
    boxes = np.array([result["bbox"] for result in results], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = None
    if results and "segmentation" in results[0]:
        masks = [rle_tools.decode(result["segmentation"]) for result in results]
    labels, scores = ([result[key] for result in results] for key in ("category_id", "score"))
    return Objects(boxes=boxes, labels=labels, scores=scores, masks=masks)


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
    """Return where a name of this size goes: above, below or inside its box, within the canvas, and off taken places."""
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


def _lay_out(
    pairs: list[tuple[Image.Image, Image.Image]], columns: int, title: str | None, class_names: Mapping[int, str]
) -> Image.Image:
    """Put pairs of drawn images on white paper, under a title, the names of the classes, and a heading per column."""
    gap, margin, seam = 20, 24, 4
    rows = [pairs[k : k + columns] for k in range(0, len(pairs), columns)]
    pair_width = 2 * GRID_TILE + seam
    width = 2 * margin + columns * pair_width + (columns - 1) * gap
    head = (60 if title else 0) + 44
    heights = [max(left.height for left, _ in row) for row in rows]
    paper = Image.new("RGB", (width, margin + head + sum(heights) + gap * (len(rows) - 1) + margin), PAPER)
    pen = ImageDraw.Draw(paper)
    if title:
        pen.text((margin, margin + 16), title, font=load_font(28), fill=INK, anchor="lm")
        title_end = margin + pen.textlength(title, load_font(28)) + 40
        _draw_legend(pen, class_names, left=title_end, right=width - margin, middle=margin + 16)
    for column in range(columns):
        x = margin + column * (pair_width + gap)
        for middle, heading in ((x + GRID_TILE / 2, "truth"), (x + 1.5 * GRID_TILE + seam, "detected")):
            pen.text((middle, margin + head - 22), heading, font=load_font(22), fill=FAINT_INK, anchor="mm")
    y = margin + head
    for row, height in zip(rows, heights, strict=True):
        for column, (left, right) in enumerate(row):
            x = margin + column * (pair_width + gap)
            for offset, tile in ((0, left), (GRID_TILE + seam, right)):
                paper.paste(tile, (x + offset + (GRID_TILE - tile.width) // 2, y + (height - tile.height) // 2))
        y += height + gap
    return paper


def _draw_legend(
    pen: ImageDraw.ImageDraw, class_names: Mapping[int, str], *, left: float, right: float, middle: float
) -> None:
    """Write every class name behind a dot of its colour, flush right; nothing when they do not fit (boxes have names)."""
    font, dot, gap = load_font(22), 9, 30
    widths = [2 * dot + 8 + pen.textlength(name, font) + gap for name in class_names.values()]
    x = right - sum(widths) + gap
    if not widths or x < left:
        return
    for (label, name), width in zip(class_names.items(), widths, strict=True):
        pen.ellipse((x, middle - dot, x + 2 * dot, middle + dot), fill=class_colour(label))
        pen.text((x + 2 * dot + 8, middle), name, font=font, fill=INK, anchor="lm")
        x += width


def _line_width(image: Image.Image) -> int:
    """Return 3 pixels at 320 and 6 at 1280: lines and names (0.75 x the root, too) grow slower than images, as on maps."""
    return max(2, round(max(image.size) ** 0.5 / 6))


def _readable_on(colour: Colour) -> Colour:
    """Return black or white, whichever is easier to read on a colour (luma of Rec. 601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else (255, 255, 255)


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's own font: no font file is needed."""
    return ImageFont.load_default(size)
