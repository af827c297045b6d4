"""Two runs over each other: arrows from A to B, and the time won or lost by each kernel family."""

import itertools
from typing import Any

import pandas as pd

from ..analysis import analyse
from ..roofs import Roofs, used
from ..table import sum_rows
from .axes import draw_roofs, limits, name_axes
from .markers import areas, number_points
from .style import FAINT, INK, SERIES, new_figure, percent, seconds

WON, LOST = "#0072B2", "#D55E00"
_MOST = 11  # families


def by_family(rows: pd.DataFrame) -> pd.DataFrame:
    """Sum a run's tidy rows by kernel family, the longest first."""
    rows = sum_rows(rows.assign(section=""), ("run", "section", "family"))
    return rows.sort_values("time_s", ascending=False, kind="stable", ignore_index=True)


def differences(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return, per family, time_a, time_b (seconds; 0 where a run lacks it), launches of both and change = b - a.

    Sorted by the size of the change. Kernels change names with precision (sgemm, s16816gemm), families do not.
    """
    sums = [by_family(rows).astype({"family": str}).set_index("family")[["time_s", "launches"]] for rows in (a, b)]
    # A family that one run lacks took no time there.
    joined = pd.concat(sums, axis=1).fillna(0.0)
    joined.columns = ["time_a", "launches_a", "time_b", "launches_b"]
    joined["change"] = joined["time_b"] - joined["time_a"]
    return joined.sort_values("change", key=lambda change: -change.abs(), kind="stable")


def draw(a: pd.DataFrame, b: pd.DataFrame, roofs_a: Roofs, roofs_b: Roofs, *, names: tuple[str, str]) -> Any:
    """Return the figure for two runs' tidy rows: families on a roofline (roofs of both), and bars of their times."""
    figure = new_figure(11.5, 5.6)
    axes = figure.add_axes((0.075, 0.115, 0.52, 0.745))
    table = differences(a, b).head(_MOST)
    points = [analyse(by_family(rows), roofs) for rows, roofs in ((a, roofs_a), (b, roofs_b))]
    both = pd.concat(points).sort_values("time_s", ascending=False)
    both["share"] = both["share"] / 2  # of the time of both runs
    shown = used(roofs_b.merged(roofs_a), pd.concat([a, b]))
    x0, x1, y0, y1 = limits(both, shown, ("HBM",))
    draw_roofs(axes, shown, (x0, 40 * x1, y0, y1), font=9)  # room for the names of two runs' roofs
    name_axes(axes, level="HBM")
    _draw_arrows(axes, points[0], points[1], list(table.index))
    figure.text(0.075, 0.94, f"{names[0]}  →  {names[1]}", fontsize=13, fontweight="bold", color=INK)
    figure.text(0.075, 0.895, f"{_totals(a, b)}; hollow: before, filled: after", fontsize=10, color=FAINT)
    _draw_bars(figure.add_axes((0.625, 0.06, 0.365, 0.8)), table)
    return figure


def _totals(a: pd.DataFrame, b: pd.DataFrame) -> str:
    """Return times and launches of both runs; a factor only where equally many launches may be the same work."""
    (time_a, count_a), (time_b, count_b) = ((rows["time_s"].sum(), int(rows["launches"].sum())) for rows in (a, b))
    if count_a != count_b:
        return f"{seconds(time_a)} in {count_a:,} launches → {seconds(time_b)} in {count_b:,}"
    text = f"{seconds(time_a)} → {seconds(time_b)} in {count_a:,} launches each"
    if not (time_a > 0 and time_b > 0):
        return text
    factor = f"{time_a / time_b:.2f} times as fast" if time_b <= time_a else f"{time_b / time_a:.2f} times as slow"
    return f"{text}, {factor}"


def _draw_arrows(axes: Any, a: pd.DataFrame, b: pd.DataFrame, families: list[str]) -> None:
    """Draw each family of both runs, numbered as the bars are; an arrow leads from A to B."""
    before, after = (
        # Without FLOPs a family has no place on logarithmic axes; its bar shows it.
        rows[(rows["flop"] > 0) & rows["family"].isin(families)].astype({"family": str}).set_index("family")
        for rows in (a, b)
    )
    colours = dict(zip(families, itertools.cycle(SERIES)))
    for family in families:
        start, end = (rows.loc[family] if family in rows.index else None for rows in (before, after))
        for row, face in ((start, "none"), (end, colours[family])):
            if row is not None:
                axes.scatter(
                    [row["ai_hbm"]],
                    [row["rate"]],
                    # Area, not diameter, stands for the share of time.
                    s=0.45 * areas(pd.Series([row["share"]])),
                    facecolors=face,
                    edgecolors=colours[family],
                    linewidths=1.6,
                    alpha=0.85,
                    zorder=5,
                )
        if start is not None and end is not None and start["rate"] != end["rate"]:
            axes.annotate(
                "",
                (end["ai_hbm"], end["rate"]),
                xytext=(start["ai_hbm"], start["rate"]),
                zorder=6,
                arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 2, "shrinkB": 2},
            )
    # A number stands at the arrow's head; a family that B no longer has keeps it where A had it.
    heads = pd.concat([after, before.loc[before.index.difference(after.index)]])
    number_points(axes, heads, "HBM", [families.index(family) + 1 for family in heads.index])


def _draw_bars(axes: Any, table: pd.DataFrame) -> None:
    """Draw a bar per family: won to the left, lost to the right, with the times before and after."""
    reach = table["change"].abs().max() or 1.0
    # The y axis points down: the first family is at the top.
    axes.set(xlim=(-reach * 1.9, reach * 1.9), ylim=(max(len(table), 4) - 0.3, -1.1))
    axes.axis("off")
    axes.axvline(0, ymax=0.94, color="#aaaaaa", linewidth=0.8)
    axes.text(-reach * 1.9, -0.85, "time won", fontsize=10.5, color=WON, fontweight="bold", va="center")
    axes.text(reach * 1.9, -0.85, "time lost", fontsize=10.5, color=LOST, fontweight="bold", ha="right", va="center")
    for place, (family, row) in enumerate(table.iterrows()):
        won = row["change"] <= 0
        axes.barh(place + 0.18, row["change"], height=0.34, color=WON if won else LOST, alpha=0.85)
        # The name above its bar, the times on the other side of 0, where nothing is drawn.
        side, x = ("right", -reach * 0.04) if won else ("left", reach * 0.04)
        axes.text(x, place - 0.2, f"{place + 1}  {family}", fontsize=10, color=INK, ha=side, va="center")
        share = f"{'-' if won else '+'}{percent(abs(row['change']) / row['time_a'])}" if row["time_a"] > 0 else "new"
        text = f"{seconds(row['time_a'])} → {seconds(row['time_b'])}  ({share})"
        axes.text(-x, place + 0.02, text, fontsize=9, color=FAINT, va="center", ha="left" if won else "right")
