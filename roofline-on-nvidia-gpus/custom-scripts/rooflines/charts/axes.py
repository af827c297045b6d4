"""The axes of a roofline: logarithmic, memory roofs as diagonals, compute roofs as horizontals, each with its name."""

import math
from typing import Any

import numpy as np
import pandas as pd

from ..columns import LEVELS, UNITS
from ..roofs import Roofs
from .style import FAINT, INK, ROOF, level_name, si

_SHOWN = 0.985  # of the time: the tiny kernels of the rest do not stretch the axes


def limits(rows: pd.DataFrame, roofs: Roofs, levels: tuple[str, ...]) -> tuple[float, float, float, float]:
    """Return x0, x1 (FLOP/byte), y0, y1 (FLOP/s) that show the kernels that matter and the ridges of the roofs.

    rows: analysed, the longest first.
    """
    # Time of all longer kernels: those within the first 98.5 % set the limits.
    before = rows["share"].fillna(0).cumsum().shift(fill_value=0)
    seen = rows[(rows["flop"] > 0) & (before < _SHOWN)]
    x = np.concatenate([seen[f"ai_{level.lower()}"].to_numpy(float) for level in levels] or [np.empty(0)])
    x, y = x[np.isfinite(x) & (x > 0)], seen["rate"].to_numpy(float)
    top = max(roofs.peak.values(), default=0.0) or (y.max() if len(y) else 1e12)
    # The intensity at which memory and the units are equally fast: FLOP/s over byte/s.
    ridges = [max(roofs.peak.values()) / rate for rate in roofs.bandwidth.values()] if roofs.peak else []
    x0 = min([0.05, *([np.min(x)] if len(x) else [])])
    x1 = max([100.0, *([np.max(x)] if len(x) else []), *ridges])
    y0 = min([top / 1e4, *([np.percentile(y, 2)] if len(y) else [])])
    y1 = max(top, y.max() if len(y) else 0.0)
    # Some room on every side, and no more than about seven decades, in which points still have distances.
    return max(x0 / 4, x1 / 1e7), x1 * 4, max(y0 / 2, y1 / 3e6), y1 * 2.6


def say_nothing_to_draw(axes: Any) -> None:
    """Write over empty axes why they are empty; the roofs do not cross the line."""
    line = "no kernel here has FLOPs, bytes and a time: there is no point to draw"
    place = {"transform": axes.transAxes, "ha": "center", "zorder": 9, "backgroundcolor": "white"}
    axes.text(0.5, 0.45, line, fontsize=11, color=FAINT, **place)


def draw_roofs(
    axes: Any, roofs: Roofs, box: tuple[float, float, float, float], *, font: float = 10, names: bool = True
) -> None:
    """Set up the axes for this box and draw the roofs; the farthest memory level is drawn strongest."""
    x0, x1, y0, y1 = box
    axes.set(xscale="log", yscale="log", xlim=(x0, x1), ylim=(y0, y1))
    axes.grid(which="major", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", labelsize=font, color=FAINT)
    axes.spines[["top", "right"]].set_visible(False)
    top = max(roofs.peak.values(), default=y1)
    for level in [level for level in LEVELS if level in roofs.bandwidth]:
        rate = roofs.bandwidth[level]
        # From where the diagonal enters the box to its ridge, where the highest peak takes over.
        start, end = max(x0, y0 / rate), min(x1, top / rate)
        style = {"HBM": ("-", 2.0), "L2": ((0, (6, 2)), 1.4), "L1": ((0, (2, 2)), 1.4)}[level]
        axes.plot(
            [start, end], [start * rate, end * rate], linestyle=style[0], linewidth=style[1], color=ROOF, zorder=2
        )
        if names:
            _name_diagonal(axes, f"{level_name(level, roofs.device)} {si(rate, 'B/s', 4)}", start, rate, font)
    fastest = max(roofs.bandwidth.values(), default=math.inf)
    for peak, text in _joined_peaks(roofs).items():
        # A peak begins where the fastest memory reaches it; left of that nothing can be as fast.
        axes.plot([max(x0, peak / fastest), x1], [peak, peak], linewidth=1.8, color=ROOF, zorder=2)
        if names:
            axes.annotate(
                f"{text} {si(peak, 'FLOP/s', 4)}",
                (x1, peak),
                xytext=(-4, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                fontsize=font,
                color=INK,
                zorder=7,
                bbox=_HALO,
            )


_HALO = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}


def _joined_peaks(roofs: Roofs) -> dict[float, str]:
    """Return the names at each height: units with the same peak share a line."""
    heights: dict[float, list[str]] = {}
    for unit, peak in roofs.peak.items():
        near = next((height for height in heights if abs(height / peak - 1) < 0.03), peak)
        heights.setdefault(near, []).append(UNITS[unit])
    return {height: ", ".join(names) for height, names in heights.items()}


def _name_diagonal(axes: Any, text: str, start: float, rate: float, font: float) -> None:
    """Write along a diagonal, just above its lower end."""
    x = start * 1.25
    # In pixels, because the axes' logarithms and the figure's shape decide the angle on the page.
    (ax, ay), (bx, by) = axes.transData.transform([(x, x * rate), (x * 10, x * 10 * rate)])
    angle = math.degrees(math.atan2(by - ay, bx - ax))
    axes.annotate(
        text,
        (x, x * rate),
        xytext=(0, 3),
        textcoords="offset points",
        rotation=angle,
        rotation_mode="anchor",
        ha="left",
        va="bottom",
        fontsize=font,
        color=INK,
        zorder=7,
        bbox=_HALO,
    )


def name_axes(axes: Any, *, font: float = 11, level: str = "") -> None:
    """Write what is on the axes, and ticks as 10 GFLOP/s rather than 1e10."""
    from matplotlib.ticker import FuncFormatter

    axes.set_xlabel(f"arithmetic intensity{f' ({level})' if level else ''}, FLOP per byte", fontsize=font)
    axes.set_ylabel("FLOP per second", fontsize=font)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, "", 1).strip()))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
