"""Inline SVG of the module report: a treemap of a step's time, and a roofline with a point by module."""

import html
import math
from collections.abc import Callable, Sequence

import pandas as pd

from ..charts.style import si
from ..columns import UNITS
from ..roofs import Roofs

#: Fill by direction; "" is what lies between the phases.
COLOURS = {"forward": "#4477aa", "backward": "#cc6677", "recompute": "#ddaa33", "optimizer": "#228833", "": "#999999"}
Box = tuple[float, float, float, float]
Point = tuple[float, float]


def squares(values: Sequence[float], box: Box) -> list[Box]:
    """Return boxes (x, y, width, height) with areas as the values, the largest first, as square as rows of them allow.

    Bruls, Huizing, van Wijk 2000, "Squarified treemaps".
    """
    result: list[Box] = []
    left, (x, y, width, height) = list(values), box
    scale = width * height / (sum(left) or 1.0)
    while left:
        side = max(min(width, height), 1e-9)
        count, worst = 1, math.inf
        # A row grows as long as its worst box gets no longer.
        for n in range(1, len(left) + 1):
            row = [value * scale for value in left[:n]]
            longest = max(max(side**2 * a / sum(row) ** 2, sum(row) ** 2 / (side**2 * max(a, 1e-12))) for a in row)
            if longest > worst:
                break
            count, worst = n, longest
        row, left = left[:count], left[count:]
        thick, at = sum(row) * scale / side, 0.0
        for value in row:
            long = value / (sum(row) or 1.0) * side
            result.append((x, y + at, thick, long) if width >= height else (x + at, y, long, thick))
            at += long
        x, y, width, height = (
            (x + thick, y, width - thick, height) if width >= height else (x, y + thick, width, height - thick)
        )
    return result


def treemap(parts: pd.DataFrame, step_s: float, size: tuple[int, int] = (1180, 520)) -> str:
    """Return the step as an SVG: the area of a box is the time of a module in a direction."""
    rows = parts[parts["time_s"] > 0].sort_values("time_s", ascending=False)
    lines = [f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="time by module and direction">']
    for (_, row), (x, y, w, h) in zip(
        rows.iterrows(), squares(rows["time_s"].tolist(), (0.0, 0.0, float(size[0]), float(size[1])))
    ):
        name, share = html.escape(str(row["module"])), row["time_s"] / step_s
        tip = f"{name}, {row['direction'] or 'between the phases'}: {si(row['time_s'], 's')}, {share:.1%} of the step"
        lines.append(
            f'<g><title>{tip}</title><rect x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}" '
            f'fill="{COLOURS.get(row["direction"], "#999999")}" stroke="white"/>'
        )
        if w > 60 and h > 30:
            fits = int((w - 8) / 6.6)
            short = name if len(name) <= fits else "…" + name[-(fits - 1) :]
            lines.append(f'<text x="{x + 4:.1f}" y="{y + 15:.1f}">{short}</text>')
            lines.append(f'<text x="{x + 4:.1f}" y="{y + 29:.1f}">{share:.1%}</text>')
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"])


def roofline(parts: pd.DataFrame, roofs: Roofs, size: tuple[int, int] = (1180, 460)) -> str:
    """Return the roofs and a point for each part that has FLOPs and bytes, its area as its time."""
    rows = parts[(parts["flop"] > 0) & (parts["bytes_hbm"] > 0)]
    if rows.empty:
        return "<p>No part has counted FLOPs and bytes.</p>"
    intensity, rate = rows["flop"] / rows["bytes_hbm"], rows["flop"] / rows["time_s"]
    top = max([*roofs.peak.values(), rate.max()])
    x0, x1 = (math.floor(math.log10(intensity.min())), math.ceil(math.log10(max(intensity.max(), 100))))
    y0, y1 = math.floor(math.log10(max(rate.min(), top / 1e5))), math.log10(top) + 0.2
    left, bottom, width, height = 100, size[1] - 40, size[0] - 120, size[1] - 55

    def place(a: float, b: float) -> tuple[float, float]:
        across = (math.log10(a) - x0) / (x1 - x0)
        return left + across * width, bottom - (max(math.log10(b), y0) - y0) / (y1 - y0) * height

    lines = [f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="roofline by module">']
    lines += _axes(place, (x0, x1), (y0, math.floor(y1)))
    memory = roofs.bandwidth.get("HBM", 0.0)
    for number, (unit, peak) in enumerate(sorted(roofs.peak.items(), key=lambda item: -item[1])):
        corner = min(max(peak / memory, 10**x0), 10**x1) if memory else 10**x0
        (a, b), (c, d) = place(corner, peak), place(10**x1, peak)
        lines.append(f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="black" fill="none"/>')
        lines.append(f'<text x="{c:.1f}" y="{d - 4:.1f}" text-anchor="end">{UNITS[unit]} {si(peak, "FLOP/s")}</text>')
        if number == 0 and memory:
            (a, b), (c, d) = place(max(10**x0, 10**y0 / memory), max(memory * 10**x0, 10**y0)), place(corner, peak)
            lines.append(f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="black" fill="none"/>')
            lines.append(f'<text x="{a + 6:.1f}" y="{b - 14:.1f}">memory {si(memory, "B/s")}</text>')
    largest = rows["time_s"].max()
    for (_, row), a, b in zip(rows.iterrows(), intensity, rate):
        (x, y), radius = place(a, b), 2 + 16 * math.sqrt(row["time_s"] / largest)
        rates = f"{si(row['time_s'], 's')}, {a:.2g} FLOP/byte, {si(b, 'FLOP/s')}"
        tip = f"{html.escape(str(row['module']))}, {row['direction']}: {rates}"
        lines.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{COLOURS.get(row["direction"], "#999999")}" '
            f'fill-opacity="0.55" stroke="white"><title>{tip}</title></circle>'
        )
    return "\n".join([*lines, "</svg>"])


def _axes(place: Callable[[float, float], Point], across: tuple[int, int], up: tuple[int, int]) -> list[str]:
    """Return a line and a number for each power of ten."""
    lines = []
    for power in range(across[0], across[1] + 1):
        x, y = place(10.0**power, 10.0 ** up[0])
        lines.append(f'<path d="M{x:.1f} {y}V15" stroke="#eee"/>{_text(x, y + 15, "middle", f"{10.0**power:g}")}')
    for power in range(up[0], up[1] + 1):
        x, y = place(10.0 ** across[0], 10.0**power)
        label = _text(x - 6, y + 4, "end", si(10.0**power, "FLOP/s"))
        lines.append(f'<path d="M{x:.1f} {y:.1f}H1160" stroke="#eee"/>{label}')
    x, y = place(10.0 ** across[1], 10.0 ** up[0])
    return [*lines, _text(x, y + 32, "end", "FLOP per byte of memory")]


def _text(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
