"""The statistics of attention maps as a picture: a square for each layer and head."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from util.runs.atomic import atomic_file

from .statistics import OTHERS, SIZES


def plot_statistics(found: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a PNG with the zeros, the Gini coefficient and, by size, the share inside the box, by layer and head.

    The decoder's cross-attention stands first; a row below it for each other kind that the model has.
    """
    from matplotlib.figure import Figure  # takes its time to load

    kinds = {"Decoder, cross-attention": _panels(found)}
    kinds |= {name: _panels(found[kind]) for kind, name in OTHERS.items() if kind in found}
    count = max(map(len, kinds.values()))
    shapes = [next(iter(panels.values())).shape for panels in kinds.values()]  # (layers, heads)
    heights = [0.42 * layers + 1.4 for layers, _ in shapes]
    heads = max(heads for _, heads in shapes)
    figure = Figure(figsize=(0.6 + count * (0.42 * heads + 0.7), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(kinds), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, (name, panels) in zip(parts, kinds.items()):
        part.suptitle(name, fontsize=11)
        grid = part.subplots(1, count, squeeze=False)[0]
        for axes, (title, values) in zip(grid, panels.items()):
            _draw(axes, title, values)
        for spare in grid[len(panels) :]:
            spare.remove()
        grid[0].set_ylabel("layer")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=130)


def _panels(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return what is drawn of one kind of attention, each (layers, heads), by its title."""
    panels = {"exact zeros, %": 100 * np.array(found["zeros"]), "Gini": np.array(found["gini"])}
    inside = found.get("inside_box", {})
    return panels | {f"inside {size} boxes, %": 100 * np.array(inside[size]) for size in SIZES if size in inside}


def _draw(axes: Any, title: str, values: np.ndarray) -> None:
    """Draw the squares of one measure, with their numbers."""
    top = 1.0 if title == "Gini" else 100.0
    axes.imshow(values, vmin=0, vmax=top, cmap="Purples", aspect="auto")
    for (layer, head), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 * top else "black"
        text = f"{value:.2f}".lstrip("0") if top == 1 else f"{value:.0f}"
        axes.text(head, layer, text, ha="center", va="center", fontsize=8, color=colour)
    layers, heads = values.shape
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("head")
    axes.set_xticks(range(heads), range(heads))
    axes.set_yticks(range(layers), range(1, layers + 1))
