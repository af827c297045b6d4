"""Forward, loss, backward and optimizer step side by side: a small roofline each, and bars of their times below."""

from typing import Any

import pandas as pd

from ..analysis import analyse, by_name
from ..columns import SECTIONS, UNIT_NAMES
from ..roofs import Roofs, used
from ..table import tensor_is_unmeasured
from .axes import draw_roofs, limits, name_axes
from .markers import draw_points, number_points
from .style import (
    FAINT,
    INK,
    UNIT_COLOURS,
    UNIT_MARKERS,
    bar_style,
    level_name,
    new_figure,
    percent,
    seconds,
    shorten,
    si,
)

_NUMBERED = 3


def section_order(rows: pd.DataFrame) -> list[str]:
    """Return the sections in the order of a step, then others by time; "" (not known) last."""
    times = rows.groupby("section", observed=True)["time_s"].sum().sort_values(ascending=False)
    known = [name for name in SECTIONS if name in times.index]
    return known + sorted(
        (name for name in times.index if name not in SECTIONS), key=lambda name: (name == "", -times[name])
    )


def draw(rows: pd.DataFrame, roofs: Roofs, *, title: str = "") -> Any:
    """Return the figure for one run's tidy rows: up to four sections (the others by time are left out)."""
    order = section_order(rows)[:4]
    # Of all sections, also those not drawn: axes and colours are the same whichever are shown.
    everything = analyse(by_name(rows), roofs)
    parts = {name: everything[everything["section"] == name].reset_index(drop=True) for name in order}
    # One panel alone over the whole width would look like another chart.
    columns = max(len(order), 2)
    figure = new_figure(11.5, 5.4)
    shown = used(roofs, rows)
    x0, x1, y0, y1 = limits(everything, shown, ("HBM",))
    box = (x0, x1, y0 / 30, y1)  # room for the names
    width = 0.925 / columns
    first = None
    for place, (name, part) in enumerate(parts.items()):
        axes = figure.add_axes((0.065 + place * width, 0.31, width - 0.012, 0.55), sharey=first)
        draw_roofs(axes, shown, box, font=9, names=False)
        name_axes(axes, font=9.5)
        axes.set_xlabel(f"FLOP per byte ({level_name('HBM', roofs.device)})", fontsize=9.5)
        # They share the first panel's axis, and its labels.
        if first is not None:
            axes.tick_params(labelleft=False)
            axes.set_ylabel("")
        first = first or axes
        _draw_part(axes, part, name)
    figure.text(0.065, 0.945, title, fontsize=13, fontweight="bold", color=INK)
    _draw_times(figure.add_axes((0.16, 0.03, 0.825, 0.185)), parts)
    _unit_legend(figure, everything, shown)
    return figure


def _draw_part(axes: Any, part: pd.DataFrame, name: str) -> None:
    flops = part[part["flop"] > 0]
    # Areas in proportion to the section's own time: a short section's kernels would vanish.
    flops = flops.assign(share=0.5 * flops["time_s"] / part["time_s"].sum())
    for unit, group in flops.groupby("unit"):
        draw_points(axes, group, "HBM", group["unit"].map(UNIT_COLOURS), marker=UNIT_MARKERS[unit])
    top = flops.head(_NUMBERED)
    number_points(axes, top, "HBM", range(1, len(top) + 1), font=9)
    axes.set_title(
        f"{name or 'section not known'}: {seconds(part['time_s'].sum())}", fontsize=10.5, loc="left", color=INK
    )
    lines = [f"{place} {shorten(text, 30)}" for place, text in enumerate(top["name"], start=1)]
    axes.text(
        0.97,
        0.03,
        "\n".join(lines),
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=8.5,
        color=INK,
        multialignment="left",
        zorder=9,
        bbox={"boxstyle": "square,pad=0.2", "facecolor": "white", "edgecolor": "#dddddd", "alpha": 0.85},
    )


def _draw_times(axes: Any, parts: dict[str, pd.DataFrame]) -> None:
    """Draw a bar of seconds per section, split by unit."""
    longest = max((part["time_s"].sum() for part in parts.values()), default=0.0) or 1.0
    axes.set(xlim=(0, longest * 1.3), ylim=(len(parts) - 0.4, -0.6))
    axes.axis("off")
    for place, (name, part) in enumerate(parts.items()):
        left = 0.0
        times = part.groupby("unit")["time_s"].sum().sort_values(ascending=False)
        for unit, time in times.items():
            axes.barh(place, time, left=left, height=0.62, linewidth=0.5, **bar_style(unit))
            left += time
        axes.text(-longest * 0.012, place, name or "not known", ha="right", va="center", fontsize=10, color=INK)
        # A section without any time must not divide by 0.
        tensor = times[[unit for unit in times.index if unit.startswith("tensor_")]].sum() / max(left, 1e-30)
        axes.text(
            left + longest * 0.01,
            place,
            f"{seconds(left)}" + ("" if tensor_is_unmeasured(part) else f", tensor cores {percent(tensor)}"),
            va="center",
            fontsize=9,
            color=FAINT,
        )


def _unit_legend(figure: Any, rows: pd.DataFrame, shown: Roofs) -> None:
    from matplotlib.lines import Line2D

    def label(unit: str) -> str:
        return UNIT_NAMES[unit] + (f", roof {si(shown.peak[unit], 'FLOP/s')}" if unit in shown.peak else "")

    # Only units that kernels used, the one with most time first.
    units = rows.groupby("unit")["time_s"].sum().sort_values(ascending=False).index
    handles = [
        Line2D(
            [],
            [],
            marker=UNIT_MARKERS[unit],
            linestyle="none",
            markersize=8,
            color=UNIT_COLOURS[unit],
            label=label(unit),
        )
        for unit in units
    ]
    figure.legend(
        handles=handles,
        loc="upper right",
        bbox_to_anchor=(0.99, 1.0),
        ncols=4,
        fontsize=9,
        frameon=False,
        columnspacing=1.2,
        handletextpad=0.3,
    )
