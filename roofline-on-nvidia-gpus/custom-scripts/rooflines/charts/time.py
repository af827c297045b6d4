"""The time-based view: how long each kernel takes against how long its bytes and its FLOPs would have to take.

Left, bytes of HBM against time; right, FLOPs against time. The lines are the roofs: time = bytes / bandwidth and
time = FLOPs / peak; a kernel stands as far above its line as it loses time, and copies without FLOPs are seen as well.
After "Time-Based Roofline for Deep Learning Performance Analysis", https://arxiv.org/abs/2009.04598.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from ..analysis import analyse, by_name
from ..columns import UNITS
from ..roofs import Roofs, used
from .style import (
    FAINT,
    INK,
    ROOF,
    UNIT_COLOURS,
    level_name,
    new_figure,
    say_nothing,
    seconds,
    shorten,
    si,
    significant,
)

_LOST = 8


def draw(rows: pd.DataFrame, roofs: Roofs, *, title: str = "") -> Any:
    """Return the figure for one run: two panels of points, and the kernels that lose most time to their roof."""
    rows = analyse(by_name(rows.assign(section="")), roofs)
    rows = rows[rows["time_s"] > 0]
    # Sums over launches would put a small kernel that runs often beside a large one.
    per_launch = rows.assign(
        one_s=rows["time_s"] / rows["launches"],
        bytes=rows["bytes_hbm"] / rows["launches"],
        ops=rows["flop"] / rows["launches"],
    )
    figure = new_figure(11.5, 5.2)
    left = figure.add_axes((0.085, 0.12, 0.265, 0.74))
    right = figure.add_axes((0.38, 0.12, 0.265, 0.74), sharey=left)
    shown = used(roofs, rows)
    memory = {level_name(name, roofs.device): rate for name, rate in shown.bandwidth.items() if name == "HBM"}
    _draw_panel(left, per_launch, "bytes", memory, "B/s", f"bytes of {level_name('HBM', roofs.device)} per launch")
    _draw_panel(
        right, per_launch, "ops", {UNITS[unit]: peak for unit, peak in shown.peak.items()}, "FLOP/s", "FLOP per launch"
    )
    left.set_ylabel("time per launch", fontsize=10.5)
    right.tick_params(labelleft=False)
    figure.text(0.085, 0.94, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(0.085, 0.895, "the higher above its line, the more time a kernel loses", fontsize=9.5, color=FAINT)
    _draw_lost(figure.add_axes((0.675, 0.12, 0.31, 0.74)), rows)
    return figure


def _draw_panel(axes: Any, rows: pd.DataFrame, column: str, roofs: dict[str, float], unit: str, label: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    seen = rows[rows[column] > 0]
    if seen.empty:  # axes would have a scale that nothing gives
        say_nothing(axes, f"no {label.removesuffix(' per launch')} was counted")
        return
    axes.set(xscale="log", yscale="log")
    # Area in proportion to the share of the time, and never too small to be seen.
    sizes = (seen["share"] * 1500).clip(lower=14)
    axes.scatter(
        seen[column],
        seen["one_s"],
        s=sizes,
        color=seen["unit"].map(UNIT_COLOURS),
        alpha=0.82,
        edgecolors=np.where(seen["unit"].isin(list(UNITS)), "white", "#666666"),
        linewidths=0.8,
        zorder=4,
    )
    # Of all rows, not of those seen here: both panels get the same axis of time.
    times = rows["one_s"]
    axes.set_ylim(times.min() / 6, times.max() * 3)
    x0, x1 = seen[column].min() / 3, seen[column].max() * 4
    axes.set_xlim(x0, x1)
    for name, rate in roofs.items():
        # Time is amount over rate: with both axes logarithmic every roof is a line of slope 1, and what lies above it
        # is lost.
        axes.plot([x0, x1], [x0 / rate, x1 / rate], color=ROOF, linewidth=1.6, zorder=2)
        _name_line(axes, f"{name} {si(rate, unit)}", rate)
    axes.set_xlabel(label, fontsize=10.5)
    axes.grid(which="major", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9.5)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: si(value, "", 1).strip()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())


def _name_line(axes: Any, text: str, rate: float) -> None:
    """Write along a roof, from its lower end upwards."""
    y = axes.get_ylim()[0] * 1.3
    # The line may leave at the left edge instead of the lower one; a name outside the axes would be cut.
    y = max(y, axes.get_xlim()[0] / rate * 1.3)
    # The angle on the paper, from two points of the line in pixels: matplotlib's own rotation knows nothing of scales.
    (ax, ay), (bx, by) = axes.transData.transform([(y * rate, y), (10 * y * rate, 10 * y)])
    angle = math.degrees(math.atan2(by - ay, bx - ax))
    axes.annotate(
        text,
        (y * rate, y),
        xytext=(-5, 2),
        textcoords="offset points",
        rotation=angle,
        rotation_mode="anchor",
        ha="left",
        va="bottom",
        fontsize=9,
        color=INK,
        zorder=6,
    )


def _draw_lost(axes: Any, rows: pd.DataFrame) -> None:
    """Draw the kernels that lose most time: a bar up to the least time its roofs allow, a lighter one for the rest."""
    known = rows[rows["lost_s"].notna()]
    top = known.sort_values("lost_s", ascending=False).head(_LOST)
    longest = top["time_s"].max() if len(top) else 1.0
    # Upside down: the first row is on top.
    axes.set(xlim=(0, longest * 1.25), ylim=(_LOST + 0.1, -0.8))
    axes.axis("off")
    axes.text(0, -0.62, "time lost to the roof (light), most first", fontsize=10, color=FAINT, va="center")
    for place, (_, row) in enumerate(top.iterrows()):
        colour = UNIT_COLOURS[row["unit"]]
        axes.barh(place + 0.2, row["time_s"], height=0.3, color=colour, alpha=0.3)
        axes.barh(place + 0.2, row["least_s"], height=0.3, color=colour, alpha=0.95)
        text = f"{shorten(row['name'], 26)}: {seconds(row['lost_s'])} of {seconds(row['time_s'])}"
        axes.text(0, place - 0.16, text, fontsize=9, color=INK, va="center")
    if len(top):
        total = known["lost_s"].sum() / known["time_s"].sum()
        which = "all kernels" if len(known) == len(rows) else f"{len(known)} of {len(rows)} kernels"
        axes.text(
            0,
            _LOST - 0.2,
            f"{which}: {significant(100 * total)} % of the time is above the roofs",
            fontsize=9,
            color=FAINT,
        )
