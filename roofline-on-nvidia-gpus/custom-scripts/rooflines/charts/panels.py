"""Panels around a roofline: a bar of all the time by kernel, the table of the top kernels, the legend of units."""

from typing import Any

import pandas as pd

from ..columns import LEVELS, MEMORY_ONLY, UNIT_NAMES, UNITS, UNMEASURED
from .style import FAINT, INK, bar_style, intensity, level_name, percent, rate_text, seconds, shorten

_LEAST_WIDTH = 0.0008  # narrower than a pixel: such kernels are one grey segment at the end
_NUMBER_WIDTH = 0.018  # a segment that is narrower has no room for its number
_COLUMNS = (
    ("", 0.012, "center"),
    ("kernel", 0.03, "left"),
    ("time", 0.405, "right"),
    ("share", 0.47, "right"),
    ("launches", 0.545, "right"),
    ("L1", 0.605, "right"),
    ("L2", 0.66, "right"),
    ("HBM", 0.725, "right"),
    ("rate", 0.835, "right"),
    ("of roof", 0.9, "right"),
    ("bound by", 0.915, "left"),
)


def draw_time_bar(axes: Any, rows: pd.DataFrame, colours: pd.Series, *, font: float = 10, top: int = 10) -> None:
    """Draw one bar of all the time, a segment per kernel; those without FLOPs stand hatched at its right end.

    rows: analysed, the longest first; the first `top` are numbered.
    """
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    # Kernels without FLOPs, or whose FLOPs nobody measured: they have a kind, but no unit that computes.
    idle = ~rows["unit"].isin(list(UNITS))
    order = [*rows.index[~idle], *rows.index[idle]]
    left = 0.0
    for index in order:
        row, width = rows.loc[index], float(rows.at[index, "share"])
        if width < _LEAST_WIDTH:
            continue
        style = {"edgecolor": "white", "facecolor": colours[index], "alpha": 0.85}
        # Hatches need an edge of their own colour; the white edge of the others would make them white.
        style = bar_style(row["unit"]) if idle[index] else style
        axes.barh(0.36, width, left=left, height=0.5, linewidth=0.6 if width > 0.003 else 0, **style)
        place = rows.index.get_loc(index)
        if place < top and width > _NUMBER_WIDTH:
            axes.text(
                left + width / 2,
                0.36,
                str(place + 1),
                ha="center",
                va="center",
                fontsize=font,
                fontweight="bold",
                color=INK if idle[index] else "white",
            )
        left += width
    # What was left out above as too narrow, together.
    if left < 1 - _LEAST_WIDTH:
        axes.barh(0.36, 1 - left, left=left, height=0.5, color="#cfcfcf")
    total = rows["time_s"].sum()
    axes.text(
        0,
        0.66,
        f"all {seconds(total)} of {int(rows['launches'].sum()):,} launches, by kernel",
        fontsize=font,
        va="bottom",
        color=INK,
    )
    if idle.any():
        axes.text(
            1,
            0.66,
            "; ".join(_without_flops(rows)),
            fontsize=font,
            ha="right",
            va="bottom",
            color=INK,
        )


def _without_flops(rows: pd.DataFrame) -> list[str]:
    """Return what the hatched and the dotted part of the bar are."""
    texts = []
    for unit, mark, kind in (
        (MEMORY_ONLY, "hatched", "without FLOPs"),
        (UNMEASURED, "dotted", "of FLOPs not measured"),
    ):
        found = rows[rows["unit"] == unit]
        if len(found):
            count = int(found["kernels"].sum())
            texts.append(f"{mark}: {count} kernels {kind}, {percent(float(found['share'].sum()))} of the time")
    return texts


def draw_table(
    axes: Any, rows: pd.DataFrame, colours: pd.Series, *, top: int = 10, font: float = 10, device: str = ""
) -> None:
    """Write the first `top` rows as a table: name, time, intensity per level, rate, percent of roof, what bounds it."""
    axes.set(xlim=(0, 1), ylim=(top + 1.6, -0.2))
    axes.axis("off")
    for title, x, side in _COLUMNS:
        axes.text(x, 0.9, level_name(title, device), ha=side, va="center", fontsize=font, color=FAINT)
    axes.text(0.725, 0.15, "FLOP per byte at", ha="right", va="center", fontsize=font, color=FAINT)
    axes.plot([0, 1], [1.4, 1.4], color="#cccccc", linewidth=0.8)
    for place, (index, row) in enumerate(rows.head(top).iterrows(), start=1):
        for (title, x, side), text in zip(_COLUMNS, _cells(place, row, device)):
            style = {"color": "white", "fontweight": "bold"} if not title else {"color": INK}
            if not title:
                axes.scatter([x], [place + 0.9], s=170, color=colours[index], zorder=2, clip_on=False)
                # Their discs are light, and white on them cannot be read.
                if row["unit"] not in UNITS:
                    style["color"] = INK
            axes.text(x, place + 0.9, text, ha=side, va="center", fontsize=font, zorder=3, **style)


def _cells(place: int, row: pd.Series, device: str) -> tuple[str, ...]:
    flops = row["flop"] > 0
    return (
        str(place),
        shorten(row["name"], 44),
        seconds(row["time_s"]),
        percent(row["share"]),
        f"{int(row['launches']):,}",
        *(intensity(row[f"ai_{level.lower()}"]) if flops else "-" for level in LEVELS),
        rate_text(row),
        percent(row["efficiency"]),
        level_name(row["bound"], device) or "-",
    )


def unit_legend(
    axes: Any, rows: pd.DataFrame, unit_colours: dict[str, str], *, font: float = 10, markers: bool = False
) -> None:
    """Write a legend of the units with their shares of the time, the largest first."""
    from matplotlib.lines import Line2D

    from .style import UNIT_MARKERS

    shares = rows.groupby("unit")["share"].sum().sort_values(ascending=False)
    handles = [
        Line2D(
            [],
            [],
            marker=UNIT_MARKERS[unit] if markers else "o",
            linestyle="none",
            markersize=9,
            color=unit_colours[unit],
            label=f"{UNIT_NAMES[unit]}: {percent(share)} of the time",
        )
        for unit, share in shares.items()
    ]
    # As an artist of its own: a second call of legend() on the same axes would take the place of this one.
    axes.add_artist(
        axes.legend(
            handles=handles, loc="lower right", fontsize=font, frameon=True, framealpha=0.9, edgecolor="#dddddd"
        )
    )
