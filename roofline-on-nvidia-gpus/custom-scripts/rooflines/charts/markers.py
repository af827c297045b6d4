"""Kernels on the axes of a roofline: area by time, colour by group, numbers that do not lie on each other."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from .style import INK, LEVEL_MARKERS

_AREA_OF_ALL = 2600  # points squared for a kernel that takes all the time
_LEAST_AREA = 14
_WITH_LEVELS = 40  # more kernels at three levels each would hide one another


def areas(share: pd.Series) -> pd.Series:
    """Return marker areas in points squared, in proportion to time; all the same where times are not known."""
    # Area and not radius in proportion: eyes compare areas.
    return (share.fillna(0.04) * _AREA_OF_ALL).clip(lower=_LEAST_AREA)


def draw_points(
    axes: Any, rows: pd.DataFrame, level: str, colours: pd.Series, *, filled: bool = True, marker: str | None = None
) -> None:
    """Draw the kernels at their intensity of one level; those with FLOPs but no bytes of it at the right edge."""
    x, y = places(axes, rows, level)
    marker = marker or LEVEL_MARKERS[level]
    if filled:
        size = areas(rows["share"])
        axes.scatter(
            x, y, s=size, marker=marker, color=colours, alpha=0.82, edgecolors="white", linewidths=0.8, zorder=5
        )
    else:
        axes.scatter(x, y, s=26, marker=marker, facecolors="none", edgecolors=colours, linewidths=1.1, zorder=4)


def places(axes: Any, rows: pd.DataFrame, level: str) -> tuple[pd.Series, pd.Series]:
    """Return x and y of the kernels; an infinite intensity (no bytes of this level) is moved to the right edge."""
    x0, x1 = axes.get_xlim()
    x = rows[f"ai_{level.lower()}"].replace(np.inf, x1 / 1.15)
    return x, rows["rate"]


def draw_levels(axes: Any, rows: pd.DataFrame, colours: pd.Series, levels: tuple[str, ...]) -> None:
    """Draw each kernel at its farthest level, filled, and the first ones at the others too, hollow, on a thin line."""
    first = rows.head(_WITH_LEVELS)
    for (_, row), colour in zip(first.iterrows(), colours):
        x = [row[f"ai_{level.lower()}"] for level in levels]
        # A level without traffic, or not measured, has no place on a logarithmic axis.
        x = [value for value in x if math.isfinite(value) and value > 0]
        if len(x) > 1:
            axes.plot([min(x), max(x)], [row["rate"]] * 2, color=colour, linewidth=0.9, alpha=0.55, zorder=3)
    for level in levels[:-1]:
        draw_points(axes, first, level, colours[first.index], filled=False)
    draw_points(axes, rows, levels[-1], colours)


def number_points(axes: Any, rows: pd.DataFrame, level: str, numbers: Iterable[int], *, font: float = 10) -> None:
    """Write each kernel's number into its marker where that is large and free, else beside it, clear of all others."""
    x, y = places(axes, rows, level)
    scale = axes.figure.dpi / 72
    centres = axes.transData.transform(np.column_stack([x, y]))
    # Marker areas are in points squared: radius in points, times pixels per point.
    radii = np.sqrt(areas(rows["share"]) / math.pi).to_numpy() * scale
    taken = [(*centre, radius) for centre, radius in zip(centres, radii) if np.isfinite(centre).all()]
    names = [text.get_window_extent() for text in axes.texts]  # of the roofs
    for number, point, centre, radius in zip(numbers, zip(x, y), centres, radii):
        if not (np.isfinite(centre).all() and axes.bbox.contains(*centre)):
            continue
        # About half the width of the number, in pixels.
        half = font * scale * (0.42 + 0.22 * len(str(number)))
        others = [other for other in taken if tuple(other[:2]) != tuple(centre)]
        inside = radius > half and all(math.dist(centre, other[:2]) > half + other[2] for other in others)
        place = tuple(centre) if inside else _free_place(centre, radius + half + 1, half, taken, names, axes.bbox)
        taken.append((*place, half))
        far = not inside and math.dist(place, centre) > radius + 2.2 * half
        axes.annotate(
            str(number),
            point,
            xytext=((place[0] - centre[0]) / scale, (place[1] - centre[1]) / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=font,
            fontweight="bold",
            zorder=8,
            color="white" if inside else INK,
            bbox=None if inside else _PLATE,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6} if far else None,
        )


_PLATE = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}


def _free_place(
    centre: np.ndarray,
    distance: float,
    half: float,
    taken: list[tuple[float, float, float]],
    names: list[Any],
    frame: Any,
) -> tuple[float, float]:
    """Return a place around the centre for a circle of radius `half`: the nearest free one, going round in steps."""
    # Rings that grow by a little more than a circle.
    for ring in range(6):
        reach = distance + ring * 1.3 * half
        for step in range(12):
            # As a clock's hours, from twelve on.
            angle = math.pi / 2 - step * math.pi / 6
            x, y = centre[0] + reach * math.cos(angle), centre[1] + reach * math.sin(angle)
            inside = frame.x0 + half < x < frame.x1 - half and frame.y0 + half < y < frame.y1 - half
            clear = not any(n.x0 - half < x < n.x1 + half and n.y0 - half < y < n.y1 + half for n in names)
            if inside and clear and all(math.dist((x, y), (a, b)) > half + r for a, b, r in taken):
                return x, y
    # No free place: above, over whatever is there.
    return centre[0], centre[1] + distance
