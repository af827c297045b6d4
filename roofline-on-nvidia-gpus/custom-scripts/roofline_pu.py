"""The roofline by processing unit: one marker per kernel, colour and shape by the unit that does most of its FLOPs.

    python roofline_pu.py kernels.csv [--run RUN] [--roofs FILE] [-o FOLDER]

Beside it, the time per unit: what a chart of points alone cannot say. `roofline_pu` takes lists of numbers, as the
function of that name in hgp_detr does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rooflines.analysis import analyse, by_name
from rooflines.charts.axes import draw_roofs, limits, name_axes, say_nothing_to_draw
from rooflines.charts.from_lists import rows_from_lists
from rooflines.charts.markers import draw_points, number_points
from rooflines.charts.style import (
    FAINT,
    INK,
    UNIT_COLOURS,
    UNIT_MARKERS,
    bar_style,
    level_name,
    new_figure,
    percent,
    save,
    shorten,
)
from rooflines.columns import UNIT_NAMES, UNITS
from rooflines.roofs import Roofs, used

_FLAGS = ("AI", "HBM", "L2", "L1", "all")


def draw(rows: pd.DataFrame, roofs: Roofs, *, title: str = "", level: str = "HBM") -> Any:
    """Return the figure for one run: tidy rows and the run's roofs, at the intensity of one memory level."""
    return draw_analysed(analyse(by_name(rows.assign(section="")), roofs), roofs, title=title, level=level)


def draw_analysed(rows: pd.DataFrame, roofs: Roofs, *, title: str = "", level: str = "HBM") -> Any:
    """Return the figure for analysed rows, the longest first."""
    figure = new_figure(11.5, 5.6)
    timed = rows["time_s"].notna().any()
    axes = figure.add_axes((0.075, 0.115, 0.645 if timed else 0.75, 0.765))
    shown = used(roofs, rows, units=timed)
    draw_roofs(axes, shown, limits(rows, shown, (level,)))
    name_axes(axes, level=level_name(level, roofs.device))
    flops = rows[rows["flop"] > 0]
    if flops["rate"].isna().all():
        say_nothing_to_draw(axes)
    # A call a unit, for scatter draws one marker a call.
    for unit, group in flops.groupby("unit"):
        draw_points(axes, group, level, group["unit"].map(UNIT_COLOURS), marker=UNIT_MARKERS[unit])
    # By lists without times no kernel is longer than another.
    top = flops[flops.index < 8] if timed else flops.iloc[:0]
    number_points(axes, top, level, [int(index) + 1 for index in top.index])
    figure.text(0.075, 0.935, title, fontsize=13, fontweight="bold", color=INK)
    figure.text(0.075, 0.897, f"roofs: {roofs.source}" if roofs.source else "", fontsize=9.5, color=FAINT)
    if timed:
        side = figure.add_axes((0.75, 0.115, 0.245, 0.765))
        _draw_units(side, rows)
        names = [f"{index + 1}  {shorten(name, 32)}" for index, name in top["name"].items()]
        side.text(
            0, 0, "\n".join(names), transform=side.transAxes, fontsize=9.5, color=INK, va="bottom", linespacing=1.5
        )
    else:
        _unit_legend(axes, rows)
    return figure


def _draw_units(axes: Any, rows: pd.DataFrame) -> None:
    """Draw a bar per unit with its share of time, kernels counted beside it."""
    # Of all rows, also those without FLOPs, which have no point in the chart.
    shares = rows.groupby("unit")["share"].sum().sort_values(ascending=False)
    counts = rows.groupby("unit")["kernels"].sum()
    # Upside down, with room below for the names of the kernels; four rows at least, or bars of one unit would be huge.
    axes.set(xlim=(-0.14, 1.0), ylim=(max(len(shares), 4) * 1.75, -0.75))
    axes.axis("off")
    axes.text(-0.14, -0.62, "share of the time", fontsize=10.5, color=FAINT, va="center")
    for place, (unit, share) in enumerate(shares.items()):
        if unit in UNITS:
            axes.scatter(
                [-0.09], [place - 0.22], marker=UNIT_MARKERS[unit], s=70, color=UNIT_COLOURS[unit], clip_on=False
            )
        axes.text(0, place - 0.22, f"{UNIT_NAMES[unit]}: {percent(share)}", fontsize=10.5, color=INK, va="center")
        axes.text(0, place + 0.32, f"{counts[unit]} kernels", fontsize=9, color=FAINT, va="center")
        axes.barh(place + 0.05, share, height=0.2, linewidth=0.5, **bar_style(unit))


def _unit_legend(axes: Any, rows: pd.DataFrame) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            marker=UNIT_MARKERS[unit],
            linestyle="none",
            markersize=9,
            color=UNIT_COLOURS[unit],
            label=f"{UNIT_NAMES[unit]}: {count} kernels",
        )
        for unit, count in rows.groupby("unit")["kernels"].sum().items()
    ]
    axes.legend(handles=handles, loc="lower right", fontsize=10, framealpha=0.9, edgecolor="#dddddd")


def roofline_pu(  # noqa: PLR0913 (hgp_detr's own arguments)
    filename: str,
    FLOPS: Sequence[float],
    AI: Sequence[float],
    AIHBM: Sequence[float],
    AIL2: Sequence[float] | None = None,
    AIL1: Sequence[float] | None = None,
    LABELS: Sequence[str] | None = None,
    UNIT: Sequence[str] | int = 0,
    flag: str = "HBM",
    *,
    PU: Sequence[str] | None = None,
    roofs: Roofs | None = None,
) -> Path:
    """Draw lists of kernels and write `<filename>_PU_<flag>.png`; the first nine arguments are hgp_detr's.

    FLOPS: GFLOP/s (1e9). AI, AIHBM, AIL2, AIL1: FLOP/byte; `AI` is drawn as given with the flag AI (the original
    divides by the sum of the bytes of all levels, which no roof fits). UNIT: FP64, FP32, FP16, TC, CC, TC/CC or MemOP
    per kernel; PU is another name for it. The flag "all" draws HBM. roofs: default A100 SXM 40 GB, nominal clock.
    Raises RoofError.
    """
    # The original's own intensity stands in HBM's place, where points are drawn.
    levels = {"L1": AIL1, "L2": AIL2, "HBM": AI if flag == "AI" else AIHBM}
    rows, roofs = rows_from_lists(FLOPS, levels, LABELS, flag, roofs, UNIT if PU is None else PU, _FLAGS)
    level = flag if flag in ("L1", "L2") else "HBM"
    figure = draw_analysed(rows, roofs, title=Path(filename).name, level=level)
    return save(figure, Path(f"{filename}_PU_{flag}"), ("png",))[0]


if __name__ == "__main__":
    from rooflines.command_line import draw_chart

    draw_chart(draw, __doc__, suffix="PU_HBM")
