"""Inline SVG of the module report: boxes of a treemap, and a roofline with a point by module."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..charts.style import si
from ..columns import UNITS
from ..roofs import Roofs

#: Fill by direction; "" is what lies between the phases.
COLOURS = {"forward": "#4477aa", "backward": "#cc6677", "recompute": "#ddaa33", "optimizer": "#228833", "": "#999999"}
Box = tuple[float, float, float, float]
Point = tuple[float, float]
#: The longest parts have numbers in the roofline.
NUMBERED = 12
#: FLOP per byte where the axis begins at the latest: what lies left of it moves data and hardly computes.
LEAST_INTENSITY = 0.01


def squares(values: Sequence[float], box: Box) -> list[Box]:
    """Return boxes (x, y, width, height) with areas as the values, the largest first, as square as rows of them allow.

    Bruls, Huizing, van Wijk 2000, "Squarified treemaps".
    """
    result: list[Box] = []
    left, (x, y, width, height) = list(values), box
    scale = width * height / (sum(left) or 1.0)
    while left:
        # Rows fill the shorter side, and so stay thick.
        side = max(min(width, height), 1e-9)
        count, worst = 1, math.inf
        # A row grows as long as its worst box gets no longer.
        for n in range(1, len(left) + 1):
            row = [value * scale for value in left[:n]]
            # The worst ratio of a box's sides, at least 1: either way round, as the paper has it.
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


def roofline(parts: pd.DataFrame, roofs: Roofs, size: tuple[int, int] = (1180, 480)) -> str:
    """Return the roofs and a point for each part that has FLOPs and bytes, its area as its time.

    The NUMBERED longest parts have their numbers in the order of `parts` (module, direction, time_s, flop, bytes_hbm).
    Points beyond the axes, which begin at LEAST_INTENSITY, lie on their edge.
    """
    rows = with_costs(parts)
    if rows.empty:
        return "<p>No part has counted FLOPs and bytes.</p>"
    intensity, rate = rows["flop"] / rows["bytes_hbm"], rows["flop"] / rows["time_s"]
    scale = Scale.of(intensity, rate, roofs, size)
    lines = [f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="roofline by module">']
    lines += [*scale.axes(), *scale.roofs(roofs)]
    largest, numbers = rows["time_s"].max(), []
    for number, ((_, row), a, b) in enumerate(zip(rows.iterrows(), intensity, rate), start=1):
        # The root, so that areas are in proportion to time.
        (x, y), radius = scale.place(a, b), 2 + 16 * math.sqrt(row["time_s"] / largest)
        rates = f"{si(row['time_s'], 's')}, {a:.2g} FLOP/byte, {si(b, 'FLOP/s')}"
        tip = f"{html.escape(str(row['module']))}, {row['direction']}: {rates}"
        lines.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{COLOURS.get(row["direction"], "#999999")}" '
            f'fill-opacity="0.55" stroke="white"><title>{tip}</title></circle>'
        )
        if number <= NUMBERED:
            numbers.append(text_at(x, y + 4, "middle", str(number)))
    return "\n".join([*lines, *numbers, "</svg>"])


def with_costs(parts: pd.DataFrame) -> pd.DataFrame:
    """Return the parts that have counted FLOPs and bytes, and so a point in the roofline."""
    return parts[(parts["flop"] > 0) & (parts["bytes_hbm"] > 0)]


@dataclass(frozen=True)
class Scale:
    """Logarithmic axes: FLOP per byte across, FLOP/s up, as powers of ten at their ends; size in pixels."""

    across: tuple[float, float]
    up: tuple[float, float]
    size: tuple[int, int]

    @classmethod
    def of(cls, intensity: pd.Series, rate: pd.Series, roofs: Roofs, size: tuple[int, int]) -> "Scale":
        """Return axes that hold points and roofs, five powers of ten below the highest roof."""
        top = max([*roofs.peak.values(), rate.max()])
        left = math.floor(math.log10(max(intensity.min(), LEAST_INTENSITY)))
        right = math.ceil(math.log10(max(intensity.max(), 100)))
        bottom = math.floor(math.log10(max(rate.min(), top / 1e5)))
        return cls((left, right), (bottom, math.log10(top) + 0.2), size)

    @classmethod
    def around(cls, intensity: pd.Series, rate: pd.Series, roofs: Roofs, size: tuple[int, int]) -> "Scale":
        """Return axes that end close to the points, and above the highest roof."""
        top = math.log10(max([*roofs.peak.values(), rate.max()]))
        left, right = math.log10(intensity.min()) - 0.2, math.log10(intensity.max()) + 0.3
        return cls((left, right), (math.log10(rate.min()) - 0.2, top + 0.1), size)

    def place(self, intensity: float, rate: float) -> Point:
        """Return the pixel of a point; one beyond the axes lies on their edge."""
        (x0, x1), (y0, y1) = self.across, self.up
        across = (max(math.log10(intensity), x0) - x0) / (x1 - x0)
        up = (max(math.log10(rate), y0) - y0) / (y1 - y0)
        # Pixels, with margins for the numbers; SVG counts them from the top.
        return 100 + across * (self.size[0] - 120), (1 - up) * (self.size[1] - 55) + 15

    def axes(self) -> list[str]:
        """Return a line and a number for each power of ten; for 2 and 5 times it too on short axes."""
        (x0, x1), (y0, y1) = self.across, self.up
        lines = []
        for value in _ticks(x0, x1):
            # Both axes are logarithmic: `across` and `up` are powers of ten.
            x, y = self.place(value, 10.0**y0)
            lines.append(f'<path d="M{x:.1f} {y}V15" stroke="#eee"/>{text_at(x, y + 15, "middle", f"{value:g}")}')
        for value in _ticks(y0, y1):
            x, y = self.place(10.0**x0, value)
            label = text_at(x - 6, y + 4, "end", si(value, "FLOP/s"))
            lines.append(f'<path d="M{x:.1f} {y:.1f}H{self.size[0] - 20}" stroke="#eee"/>{label}')
        x, y = self.place(10.0**x1, 10.0**y0)
        return [*lines, text_at(x, y + 32, "end", "FLOP per byte of memory")]

    def roofs(self, roofs: Roofs) -> list[str]:
        """Return the peaks, and the slope of memory up to the highest of them."""
        lines, memory = [], roofs.bandwidth.get("HBM", 0.0)
        (x0, x1), y0 = self.across, self.up[0]
        for number, (unit, peak) in enumerate(sorted(roofs.peak.items(), key=lambda item: -item[1])):
            # The ridge: FLOP/s over byte/s is the FLOP/byte where both roofs meet.
            corner = min(max(peak / memory, 10.0**x0), 10.0**x1) if memory else 10.0**x0
            (a, b), (c, d) = self.place(corner, peak), self.place(10.0**x1, peak)
            lines.append(f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="black" fill="none"/>')
            lines.append(text_at(c, d - 4, "end", f"{UNITS[unit]} {si(peak, 'FLOP/s')}"))
            if number == 0 and memory and corner > 10.0**x0:  # else all of the slope lies left of the axes
                start = max(10.0**x0, 10.0**y0 / memory)
                (a, b), (c, d) = self.place(start, memory * start), self.place(corner, peak)
                lines.append(f'<path d="M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" stroke="black" fill="none"/>')
                lines.append(text_at((a + c) / 2 - 10, (b + d) / 2 - 4, "end", f"memory {si(memory, 'B/s')}"))
        return lines


def _ticks(first: float, last: float) -> list[float]:
    """Return the numbers to write on an axis between two powers of ten, which need not be whole."""
    steps = (1, 2, 5) if last - first < 2.5 else (1,)
    numbers = [step * 10.0**power for power in range(math.floor(first), math.ceil(last) + 1) for step in steps]
    return [number for number in numbers if first - 1e-9 <= math.log10(number) <= last + 1e-9]


def text_at(x: float, y: float, anchor: str, text: str) -> str:
    """Return a text of an SVG."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
