"""The statistics of attention maps as a picture: a square for each layer and head."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from util.runs.atomic import atomic_file

from .statistics import SIZES


def plot_statistics(found: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write a PNG with the zeros, the Gini coefficient and, by size, the share inside the box, by layer and head."""
    from matplotlib.figure import Figure  # takes its time to load

    panels = {"exact zeros, %": 100 * np.array(found["zeros"]), "Gini": np.array(found["gini"])}
    for size in SIZES:
        if size in found["inside_box"]:
            panels[f"inside {size} boxes, %"] = 100 * np.array(found["inside_box"][size])
    layers, heads = next(iter(panels.values())).shape
    figure = Figure(figsize=(0.6 + len(panels) * (0.42 * heads + 0.7), 0.42 * layers + 1.4), layout="constrained")
    for axes, (title, values) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        top = 1.0 if title == "Gini" else 100.0
        axes.imshow(values, vmin=0, vmax=top, cmap="Purples", aspect="auto")
        for (layer, head), value in np.ndenumerate(values):
            colour = "white" if value > 0.6 * top else "black"
            text = f"{value:.2f}".lstrip("0") if top == 1 else f"{value:.0f}"
            axes.text(head, layer, text, ha="center", va="center", fontsize=8, color=colour)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("head")
        axes.set_xticks(range(heads), range(heads))
        axes.set_yticks(range(layers), range(1, layers + 1))
    figure.axes[0].set_ylabel("decoder layer")
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=130)
