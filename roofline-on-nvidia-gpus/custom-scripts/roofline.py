"""The hierarchical roofline: every kernel at its intensity in L1, L2 and HBM, with where the time goes below.

    python roofline.py kernels.csv [--run RUN] [--roofs FILE] [-o NAME]

`draw` takes a tidy table; `roofline` takes lists of numbers, as NERSC's function of that name does.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rooflines.analysis import analyse, by_name
from rooflines.charts.axes import draw_roofs, limits, name_axes, say_nothing_to_draw
from rooflines.charts.from_lists import rows_from_lists
from rooflines.charts.markers import draw_levels, number_points
from rooflines.charts.panels import draw_table, draw_time_bar, unit_legend
from rooflines.charts.style import FAINT, INK, LEVEL_MARKERS, UNIT_COLOURS, level_name, new_figure, save
from rooflines.columns import LEVELS
from rooflines.roofs import Roofs, used

TOP = 10


def draw(
    rows: pd.DataFrame, roofs: Roofs, *, title: str = "", levels: tuple[str, ...] = tuple(LEVELS), top: int = TOP
) -> Any:
    """Return the figure for one run: tidy rows of any number of sections, summed by readable name, and its roofs."""
    # Without sections: a kernel that runs in forward and backward is one point.
    return draw_analysed(analyse(by_name(rows.assign(section="")), roofs), roofs, title=title, levels=levels, top=top)


def draw_analysed(
    rows: pd.DataFrame, roofs: Roofs, *, title: str = "", levels: tuple[str, ...] = tuple(LEVELS), top: int = TOP
) -> Any:
    """Return the figure for analysed rows, the longest first."""
    top = min(top, len(rows))
    # Levels without a counter have no intensity; HBM stays, so that the axes are there.
    levels = tuple(level for level in levels if rows[f"ai_{level.lower()}"].notna().any()) or ("HBM",)
    # Inches: the chart, the bar of time, and a line of table for each kernel.
    height = 5.6 + 0.75 + 0.23 * (top + 2)
    figure = new_figure(11.5, height)

    def place(bottom: float, size: float, left: float = 0.075, right: float = 0.985) -> Any:
        return figure.add_axes((left, bottom / height, right - left, size / height))

    table_height = 0.23 * (top + 1.8)
    axes = place(table_height + 1.35, 5.6 - 1.05)
    colours = rows["unit"].map(UNIT_COLOURS)
    timed = rows["time_s"].notna().any()
    # Lists without times do not say which units took part, so all roofs are shown.
    # Roofs of units that did nothing would stretch the axes upwards.
    shown = used(roofs, rows, units=timed)
    draw_roofs(axes, shown, limits(rows, shown, levels))
    name_axes(axes)
    with_flops = rows[rows["flop"] > 0]
    draw_levels(axes, with_flops, colours[with_flops.index], levels)
    if with_flops["rate"].isna().all():
        say_nothing_to_draw(axes)
    # The index is the place in the table: rows come the longest first.
    numbered = with_flops[with_flops.index < top]
    number_points(axes, numbered, levels[-1], [int(index) + 1 for index in numbered.index])
    unit_legend(axes, rows, UNIT_COLOURS)
    _level_legend(axes, levels, roofs.device)
    _title(figure, axes, title, roofs)
    if timed:
        draw_time_bar(place(table_height + 0.12, 0.62, 0.02), rows, colours, top=top)
    draw_table(place(0.02, table_height, 0.02), rows, colours, top=top, device=roofs.device)
    return figure


def _level_legend(axes: Any, levels: tuple[str, ...], device: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            marker=LEVEL_MARKERS[level],
            linestyle="none",
            markersize=8,
            color=INK,
            label=level_name(level, device),
            markerfacecolor=INK if level == levels[-1] else "none",
        )
        for level in levels
    ]
    axes.legend(
        handles=handles,
        loc="upper left",
        fontsize=10,
        frameon=True,
        framealpha=0.9,
        edgecolor="#dddddd",
        title="intensity at (filled area: time)",
        title_fontsize=10,
        ncols=len(levels),
    )


def _title(figure: Any, axes: Any, title: str, roofs: Roofs) -> None:
    box = axes.get_position()
    inch = 1 / figure.get_figheight()
    figure.text(box.x0, box.y1 + 0.24 * inch, title, fontsize=13, fontweight="bold", color=INK, va="bottom")
    if roofs.source:
        figure.text(box.x0, box.y1 + 0.06 * inch, f"roofs: {roofs.source}", fontsize=9.5, color=FAINT, va="bottom")


def roofline(
    filename: str,
    FLOPS: Sequence[float],
    AIHBM: Sequence[float],
    AIL2: Sequence[float] | None = None,
    AIL1: Sequence[float] | None = None,
    LABELS: Sequence[str] | None = None,
    flag: str = "HBM",
    *,
    roofs: Roofs | None = None,
) -> Path:
    """Draw lists of kernels and write `<filename>_<flag>.png`; the first seven arguments are NERSC's.

    FLOPS: GFLOP/s (1e9). AI...: FLOP/byte. flag: HBM, L2, L1 or all. roofs: default A100 SXM 40 GB, nominal clock.
    Lists carry no times: all markers have one size, and the table has no times. Raises RoofError where the original
    printed a line and drew nothing.
    """
    rows, roofs = rows_from_lists(FLOPS, {"L1": AIL1, "L2": AIL2, "HBM": AIHBM}, LABELS, flag, roofs)
    levels = tuple(LEVELS) if flag == "all" else (flag,)
    figure = draw_analysed(rows, roofs, title=Path(filename).name, levels=levels)
    return save(figure, Path(f"{filename}_{flag}"), ("png",))[0]


if __name__ == "__main__":
    from rooflines.command_line import draw_chart

    draw_chart(draw, __doc__, suffix="all")
