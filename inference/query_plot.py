"""Places of each query's boxes over many images: figure 7 of the DETR paper.

Queries learn to look at places and sizes of their own. A dot stands at the centre of every predicted box.
"""

import os

import numpy as np

from util.runs.atomic import atomic_file

#: By kind, in the paper's colours. The paper draws no line between small and large: here it is COCO's between medium
#: and large objects, 96 x 96 pixels, as a part of an image of 640 x 480.
KINDS = {"small": "#1a9850", "large horizontal": "#d7301f", "large vertical": "#2b6cd4"}
SMALL = 96**2 / (640 * 480)
COLUMNS = 10
INK = "#1f2328"


def kinds_of(boxes: np.ndarray, aspect: float) -> np.ndarray:
    """Return the place in `KINDS` of boxes (N, 4) cxcywh in 0..1 of an image whose width / height is `aspect`."""
    width, height = boxes[:, 2], boxes[:, 3]
    # Sides are relative, so wide and tall are told apart in pixels: width * aspect has the unit of height.
    return np.where(width * height < SMALL, 0, np.where(width * aspect >= height, 1, 2))


def draw_queries(path: str | os.PathLike, *, queries: np.ndarray, boxes: np.ndarray, kinds: np.ndarray) -> None:
    """Write a PNG with a panel for each query.

    Args:
        path: the file; it is replaced whole.
        queries: (N,) which query predicted each box.
        boxes: (N, 4) cxcywh in 0..1 of their image.
        kinds: (N,) as `kinds_of` returns them.

    Raises OSError where it cannot be written.
    """
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.lines import Line2D

    shown = np.unique(queries)
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(5.0, 1.5 * columns), 1.75 * rows + 0.9), layout="constrained")
    colours = np.array(list(KINDS.values()))
    # The more dots, the smaller and the fainter: of 5,000 images each leaves a trace.
    # Dots in a panel: a query answers once for each image.
    count = max(1, len(queries) // max(1, len(shown)))
    size, opacity = np.interp(np.log10(count), [1, 4], [14, 1.5]), np.interp(np.log10(count), [1, 4], [0.9, 0.35])
    for axis, query in zip(figure.subplots(rows, columns, squeeze=False).flat, shown):
        own = queries == query
        axis.scatter(
            boxes[own, 0], boxes[own, 1], s=size, c=colours[kinds[own]], alpha=opacity, linewidths=0, rasterized=True
        )
        # y downwards, as in images.
        axis.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set_color("#d0d7de")
        axis.set_title(f"query {query}", color=INK, fontsize=9, pad=3)
    # Of the last row, where the queries do not fill it.
    for spare in figure.axes[len(shown) :]:
        spare.remove()
    marks = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"{kind}: {100 * (kinds == k).mean():.0f} %")
        for k, (kind, colour) in enumerate(KINDS.items())
    ]
    small = f"small: below {100 * SMALL:.0f} % of an image"
    title = f"Centres of the boxes of {len(shown)} queries over {count} images ({small})"
    figure.legend(handles=marks, title=title, loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=130)
