"""Draw the figures of the walkthrough from the code: the architecture, the sine encoding, and a matching.

python docs/draw_figures.py            # writes docs/figures/*.png
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor

from datasets.shapes.dataset import ShapesDataset
from models.config import Architecture, build_detector
from models.matcher import HungarianMatcher
from models.position_encoding import PositionEmbeddingSine
from models.shape_table import shapes_of
from util.box_ops import box_cxcywh_to_xyxy
from util.nested_tensor import NestedTensor

BLUE, GREEN, ORANGE, GREY = "#2b6cb0", "#2f855a", "#c05621", "#4a5568"
DETR_R50 = Architecture()
#: Parts of the architecture from left to right: title, row of the table whose shape is shown, colour.
STATIONS = (
    ("image", "images", GREY),
    ("ResNet-50", "backbone.0.body.layer4", BLUE),
    ("1 x 1\nconvolution", "input_proj", BLUE),
    ("encoder\n6 layers", "transformer.encoder.layers.5", GREEN),
    ("decoder\n6 layers", "transformer.decoder.layers.5", GREEN),
)


def draw_architecture(height: int, width: int, architecture: Architecture = DETR_R50) -> Figure:
    """Draw the parts of a DETR of six layers with the shapes that an image of this size has in them."""
    rows = shapes_of(build_detector(architecture), torch.zeros(1, 3, height, width))
    shapes = {row.name: " x ".join(map(str, row.shape[1:])) for row in rows}
    figure, axes = plt.subplots(figsize=(11, 3.6))
    axes.set(xlim=(-0.7, 8.6), ylim=(-1.9, 1.6))
    axes.axis("off")
    places = [0.0, 1.55, 3.1, 4.65, 6.2]
    for (title, row, colour), x in zip(STATIONS, places):
        _block(axes, x, 0, title, colour)
        axes.text(x, -0.68, shapes[row], ha="center", fontsize=9, color=GREY)
    for left, right in zip(places, places[1:]):
        _arrow(axes, (left + 0.57, 0), (right - 0.57, 0))
    _block(axes, 3.1, 1.1, "sine encoding", ORANGE)
    _arrow(axes, (3.67, 1.1), (4.65, 0.42), "added to queries and keys")
    _block(axes, 4.65, -1.45, "100 object\nqueries", ORANGE)
    _arrow(axes, (5.22, -1.35), (5.75, -0.42))
    for y, head, row in ((0.62, "class head", "pred_logits"), (-0.62, "box head", "pred_boxes")):
        _block(axes, 7.9, y, head, BLUE)
        axes.text(7.9, y - 0.62, shapes[row], ha="center", fontsize=9, color=GREY)
        _arrow(axes, (6.77, 0), (7.33, y))
    axes.set_title(f"DETR-R50 and one image of {height} x {width}; shapes without the batch", loc="left", fontsize=11)
    return figure


def draw_sine_encoding(height: int, width: int, channels: int = 256) -> Figure:
    """Draw the encoding of a feature map of height x width cells: along x, and how alike any two cells are."""
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    features = NestedTensor(torch.zeros(1, 1, height, width), mask)
    encoding = PositionEmbeddingSine(channels // 2, normalize=True)(features)[0]  # (channels, height, width)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(11, 3.5), width_ratios=(1.2, 1, 1))
    sines = encoding[channels // 2 :: 2, 0]  # (channels / 4, width): x lies in the second half, sines in even channels
    image = left.imshow(sines, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
    left.set(title="sines of x: half of them hardly change", xlabel="column of the map", ylabel="channel")
    left.set_yticks(ticks := range(0, len(sines), 16), [str(channels // 2 + 2 * n) for n in ticks])
    figure.colorbar(image, ax=left, fraction=0.05)
    for axes, (y, x) in ((middle, (height // 2, width // 2)), (right, (height // 5, width // 6))):
        alike = torch.einsum("c,chw->hw", encoding[:, y, x], encoding) / (channels / 2)  # 1 for the cell itself
        shown = axes.imshow(alike, cmap="viridis")
        axes.plot(x, y, marker="+", color="white", markersize=12, markeredgewidth=2)
        axes.set(title=f"likeness to row {y}, column {x}", xlabel="column", ylabel="row")
        figure.colorbar(shown, ax=axes, fraction=0.035)
    figure.tight_layout()
    return figure


def draw_matching(seed: int = 0, queries: int = 7) -> Figure:
    """Draw a generated image with made-up predictions, the costs of all pairs, and the pairs that the matcher takes."""
    image, target = ShapesDataset(image_set="val", size=1, image_size=160, seed=seed).load(0)
    size = torch.tensor([*image.size, *image.size])
    corners = target["boxes"] / size
    objects = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)  # (T, 4)
    logits, boxes = _made_up_predictions(objects, target["labels"], queries, seed)
    matcher = HungarianMatcher(cost_class=1, cost_bbox=5, cost_giou=2)
    cost = matcher.cost(logits[None, None], boxes[None, None], target["labels"][None], objects[None])[0, 0]  # (Q, T)
    chosen, partners = matcher(
        {"pred_logits": logits[None], "pred_boxes": boxes[None]}, [{"labels": target["labels"], "boxes": objects}]
    )[0]
    pairs = dict(zip(chosen.tolist(), partners.tolist()))
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4))
    left.imshow(image)
    _draw_boxes(left, box_cxcywh_to_xyxy(objects) * size, [f"object {i}" for i in range(len(objects))], "white")
    for query, box in enumerate(box_cxcywh_to_xyxy(boxes) * size):
        _draw_boxes(left, box[None], [f"query {query}"], GREEN if query in pairs else ORANGE, dashed=True)
    left.set(title="objects, matched queries (green), others (orange)", xticks=[], yticks=[])
    _draw_costs(right, cost.numpy(), pairs)
    figure.tight_layout()
    return figure


def _made_up_predictions(objects: Tensor, labels: Tensor, queries: int, seed: int) -> tuple[Tensor, Tensor]:
    """Predictions (Q, C+1), (Q, 4): near an object, a second one near the first object, and some that find nothing."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.rand(queries, 4, generator=generator) * torch.tensor([0.7, 0.7, 0.2, 0.2]) + 0.15
    logits = torch.randn(queries, 5, generator=generator)
    near = torch.cat([torch.arange(len(objects)), torch.zeros(1, dtype=torch.int64)])  # object 0 twice
    places = torch.randperm(queries, generator=generator)[: len(near)]
    boxes[places] = (objects[near] + 0.03 * torch.randn(len(near), 4, generator=generator)).clamp(0.1, 0.9)
    logits[places, labels[near]] += 2.5
    return logits, boxes


def _draw_costs(axes: Axes, cost: np.ndarray, pairs: dict[int, int]) -> None:
    axes.imshow(cost, cmap="Blues", aspect="auto")
    # White numbers on cells that are darker than this.
    dark = (cost.min() + cost.max()) / 2
    for (query, index), value in np.ndenumerate(cost):
        axes.text(index, query, f"{value:.1f}", ha="center", va="center", color="white" if value > dark else "black")
    for query, index in pairs.items():
        axes.add_patch(Rectangle((index - 0.5, query - 0.5), 1, 1, fill=False, edgecolor=GREEN, linewidth=3))
    axes.set_xticks(range(cost.shape[1]), [f"object {i}" for i in range(cost.shape[1])])
    axes.set_yticks(range(cost.shape[0]), [f"query {i}" for i in range(cost.shape[0])])
    total = sum(cost[query, index] for query, index in pairs.items())
    axes.set_title(f"cost of each pair; the cheapest assignment costs {total:.1f}")


def _draw_boxes(axes: Axes, boxes: Tensor, names: list[str], colour: str, *, dashed: bool = False) -> None:
    for (x0, y0, x1, y1), name in zip(boxes.tolist(), names):
        style = "--" if dashed else "-"
        axes.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=2, linestyle=style)
        )
        # A corner for each kind, so that the names of two boxes on one object do not hide each other.
        corners = {"white": (x0, y0, ("left", "top")), GREEN: (x0, y1, ("left", "bottom"))}
        x, y, place = corners.get(colour, (x1, y1, ("right", "bottom")))
        patch = GREY if colour == "white" else colour
        axes.text(x, y, name, fontsize=8, color="white", ha=place[0], va=place[1], backgroundcolor=patch)


def _block(axes: Axes, x: float, y: float, title: str, colour: str) -> None:
    box = FancyBboxPatch((x - 0.55, y - 0.38), 1.1, 0.76, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="none")
    axes.add_patch(box)
    axes.text(x, y, title, ha="center", va="center", color="white", fontsize=10)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": GREY, "linewidth": 1.4})
    if text:
        axes.text(start[0] + 0.12, start[1] + 0.02, text, fontsize=9, color=GREY, va="bottom")


def main(folder: Path, *, height: int = 800, width: int = 1066, architecture: Architecture = DETR_R50) -> None:
    """Write the figures, for an image of height x width pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = (-(-height // 32), -(-width // 32))
    figures = {"architecture": draw_architecture(height, width, architecture), "sine": draw_sine_encoding(*cells)}
    figures["matching"] = draw_matching()
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)
        print(folder / f"{name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "figures", help="folder (docs/figures)")
    main(parser.parse_args().output)
