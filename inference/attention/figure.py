"""The figures of the DETR paper for one image: what its encoder (figure 3) and its decoder (figure 6) attend to."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from util.draw.boxes import class_colour
from util.runs.atomic import atomic_file

from .maps import Inside
from .ramp import colours

#: Panels in a row, the first of all detections together, and detections that get one of their own.
COLUMNS, MOST_PANELS = 4, 7
#: Points whose self-attention is drawn, and how far apart they are at least, in parts of the image.
POINTS, APART = 4, 0.2
#: Panels are this wide, in inches, and show the image at this longer side, in pixels.
PANEL, LONGER_SIDE = 3.0, 480
#: Of the largest weight: what is less is left out where maps lie over each other, which would be mud.
FAINT = 0.3
INK, ACCENT = "#1f2328", "#0b57d0"


def write_figure(inside: Inside, path: str | os.PathLike, *, image_name: str, checkpoint_name: str) -> Path:
    """Write the PNG and return its path. Raises OSError where it cannot be written.

    Above: the decoder's cross-attention of the last layer, all detections in one image and one by one. Below, where the
    model has encoder layers: the self-attention of its last layer from four points. All are means over the heads.
    """
    from matplotlib.figure import Figure  # slow to import

    image = inside.image.copy()
    # In place, and never larger than it was.
    image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    shape = image.height / image.width
    # One panel more than detections, for all of them together; rounded up.
    rows = -(-(min(MOST_PANELS, len(inside.queries)) + 1) // COLUMNS)
    # Within bounds: a panorama would be a slit, a tall scan a page without end. 0.4 inch for a title.
    row_height = PANEL * min(max(shape, 0.15), 2.0) + 0.4
    heights = [rows * row_height, *([2 * row_height] if len(inside.encoder) else [])]
    figure = Figure(figsize=(COLUMNS * PANEL, sum(heights) + 1.0), layout="constrained")
    figure.suptitle(f"{image_name} ({checkpoint_name})", color=INK, fontsize=12)
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_decoder(parts[0], inside, image, rows)
    if len(parts) > 1:
        _draw_encoder(parts[1], inside, image)
    for axis in figure.axes:
        # Everything is drawn in 0..1 of the image, so that boxes need no pixels; the aspect gives it its shape back.
        axis.set(xlim=(0, 1), ylim=(1, 0), aspect=shape, xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    path = Path(path)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
    return path


def _draw_decoder(part: Any, inside: Inside, image: Image.Image, rows: int) -> None:
    """Draw a panel of all detections in colours of their own, as in figure 6, and one of each of the surest."""
    kind = "detections" if inside.found else "surest queries (no detection is sure enough)"
    part.suptitle(f"Decoder layer {len(inside.decoder)}: where the {kind} look", color=INK, fontsize=11)
    panels = list(part.subplots(rows, COLUMNS, squeeze=False).flat)
    shown = range(min(MOST_PANELS, len(inside.queries)))
    together = np.repeat(_pale(image), 3, axis=2)
    for n in reversed(shown):  # the surest on top
        # (H, W, 1): the mean over the heads of query n in the last layer, as shares of its largest weight.
        share = _over_image(inside, inside.decoder[-1, :, n].mean(0), image.size, smooth=True)[..., None]
        # Faint attention everywhere would veil the image.
        opacity = 0.85 * np.clip((share - FAINT) / (1 - FAINT), 0, 1)
        # Painted one over the other: a later query covers an earlier one where it is sure, and lets it through
        # elsewhere.
        together = (1 - opacity) * together + opacity * np.array(class_colour(n + 1)) / 255
        _draw_box(panels[0], inside.boxes[-1, n], np.array(class_colour(n + 1)) / 255)
        _draw_map(panels[n + 1], inside, image, inside.decoder[-1, :, n].mean(0))
        _draw_box(panels[n + 1], inside.boxes[-1, n], ACCENT)
        name = (
            f"{inside.name(int(inside.labels()[n]))} {100 * inside.scores()[n]:.0f} %{_zeros(inside.decoder[-1, :, n])}"
        )
        panels[n + 1].set_title(name, color=INK, fontsize=9, pad=3)
    _show(panels[0], together)
    panels[0].set_title("together", color=INK, fontsize=9, pad=3)
    for spare in panels[len(shown) + 1 :]:
        spare.remove()


def _draw_encoder(part: Any, inside: Inside, image: Image.Image) -> None:
    """Draw the image with its points in the middle, and their maps around it, as in figure 3."""
    part.suptitle(f"Encoder layer {len(inside.encoder)}: what four points attend to", color=INK, fontsize=11)
    panels = part.subplot_mosaic([["A", "image", "image", "B"], ["C", "image", "image", "D"]])
    _show(panels["image"], np.asarray(image))
    for letter, (y, x) in zip("ABCD", points_of(inside), strict=True):
        _draw_map(panels[letter], inside, image, inside.encoder[-1, *cell_of(inside, y, x)])
        panels[letter].set_title(
            f"from {letter}{_zeros(inside.encoder[-1, *cell_of(inside, y, x)][None])}", color=INK, fontsize=9, pad=3
        )
        panels[letter].plot(x, y, "o", color=ACCENT, markeredgecolor="white", markersize=8)
        mark = {"boxstyle": "circle,pad=0.25", "facecolor": ACCENT, "edgecolor": "white"}
        panels["image"].text(x, y, letter, color="white", weight="bold", ha="center", va="center", size=9, bbox=mark)


def points_of(inside: Inside) -> list[tuple[float, float]]:
    """Return four points (y, x) in 0..1: centres of the surest boxes, apart from each other, else of quarters.

    They come in the order in which their maps lie around the image: A and B above C and D, each from left to right.
    """
    left, top, right, bottom = inside.boxes[-1].T
    # Below 1: a centre on the lower edge would have no cell.
    centres = np.stack([(top + bottom) / 2, (left + right) / 2], axis=1).clip(0, 0.999)
    quarters = np.array([(y, x) for y in (0.25, 0.75) for x in (0.25, 0.75)])
    chosen: list[tuple[float, float]] = []
    for y, x in np.concatenate([centres, quarters]).tolist():
        if all(max(abs(y - other_y), abs(x - other_x)) >= APART for other_y, other_x in chosen):
            chosen.append((y, x))
    # By y: the upper two, then the lower two; each pair is then sorted by x.
    chosen = sorted((chosen + quarters.tolist())[:POINTS])
    return [*sorted(chosen[:2], key=lambda point: point[1]), *sorted(chosen[2:], key=lambda point: point[1])]


def cell_of(inside: Inside, y: float, x: float) -> tuple[int, int]:
    """Return the cell (row, column) that covers a point in 0..1 of the image."""
    (h, w), (tall, wide) = inside.cells, inside.extent
    # `tall` and `wide` are 1 or a little more: the cells may reach beyond the image.
    return min(h - 1, int(y * h / tall)), min(w - 1, int(x * w / wide))


def _over_image(inside: Inside, weights: np.ndarray, size: tuple[int, int], *, smooth: bool = False) -> np.ndarray:
    """Shares (H, W) of the largest of weights (h, w), at a size (width, height) of the image and without overhang."""
    (h, w), (tall, wide) = inside.cells, inside.extent
    # By the map's own largest weight: over 850 cells a softmax's weights are some thousandths each.
    cells = Image.fromarray((weights / weights.max()).astype(np.float32))
    resampling = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    # The cells at the right and lower edge hang over the image by what it lacks to a multiple of 32: box cuts that off.
    return np.asarray(cells.resize(size, resampling, box=(0.0, 0.0, w / wide, h / tall)))


def _pale(image: Image.Image) -> np.ndarray:
    """Grey values (H, W, 1) in 0.35..1, on which colours stand out."""
    return 0.35 + 0.65 * np.asarray(image.convert("L"), dtype=np.float32)[..., None] / 255


def _draw_map(axis: Any, inside: Inside, image: Image.Image, weights: np.ndarray) -> None:
    _show(axis, _pale(image) * colours(_over_image(inside, weights, image.size)))


def _zeros(maps: np.ndarray) -> str:
    """Words on the cells (heads, h, w) to which no head gives anything; none where every cell has some weight."""
    share = (maps == 0).all(0).mean()
    return f", {100 * share:.0f} % exactly 0" if share else ""


def _show(axis: Any, pixels: np.ndarray) -> None:
    axis.imshow(pixels, extent=(0, 1, 1, 0))


def _draw_box(axis: Any, box: np.ndarray, colour: Any) -> None:
    from matplotlib.patches import Rectangle

    left, top, right, bottom = box
    axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, color=colour, linewidth=1.8))
