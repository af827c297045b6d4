"""Charts as inline SVG: lines, a reliability diagram, a matrix. The page's style sheet has their colours and fonts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

#: Size of a chart's canvas and the margins of its axes; a page scales it to its column.
WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 12, 42


@dataclass(frozen=True)
class Line:
    """A line of a chart: points in the chart's units, a name, and the classes of the style sheet that it gets.

    A page's script finds the line of an object class by `key`. Dots are drawn where there are few points.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    label: str
    style: str = ""
    key: int | None = None


@dataclass(frozen=True)
class Axis:
    """A range of numbers and its title."""

    title: str
    least: float = 0.0
    most: float = 1.0
    whole: bool = False

    def ticks(self) -> list[float]:
        # matplotlib's own choice of round numbers; it gives some beyond both ends.
        values = MaxNLocator(nbins=5, integer=self.whole).tick_values(self.least, self.most)
        return [float(v) for v in values if self.least - 1e-9 <= v <= self.most + 1e-9]

    def place(self, value: float, first: float, last: float) -> float:
        # An axis of one value has no length: everything lies at its start.
        return first + (last - first) * (value - self.least) / ((self.most - self.least) or 1)


def axis_over(title: str, values: Iterable[float], *, from_zero: bool = False, whole: bool = False) -> Axis:
    """Return the axis that holds all values, a little above them where it begins at zero."""
    known = list(values) or [0.0, 1.0]
    least, most = (0.0, 1.05 * max(known)) if from_zero else (min(known), max(known))
    return Axis(title, least, most if most > least else least + 1, whole)


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, *, under: str = "") -> Markup:
    """Return a chart of lines; `under` is drawn below them."""
    body = [_grid(x, y), Markup(under)]
    for line in lines:
        points = [(_x(x, a), _y(y, b)) for a, b in zip(line.xs, line.ys)]
        if not points:
            continue
        # Markup.format escapes what it inserts: names of classes come from users' files.
        key = Markup(' data-class="{}"').format(line.key) if line.key is not None else ""
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        dots = [Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.6"/>').format(*p) for p in points if len(points) <= 20]
        body.append(
            Markup('<g class="line {}"{}><title>{}</title><polyline points="{}"/>{}</g>').format(
                line.style, key, line.label, path, Markup("").join(dots)
            )
        )
    return _svg(WIDTH, HEIGHT, body)


def reliability_chart(bins: Sequence[dict]) -> Markup:
    """Return a bar for each bin of scores, as high as the share of its detections that are correct, and a diagonal."""
    x, y = Axis("score"), Axis("share that is correct")
    bars = [
        Markup(
            '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        ).format(
            # A pixel of room on both sides, so that bars stand apart.
            _x(x, b["from"]) + 1,
            _y(y, b["correct"]),
            _x(x, b["to"]) - _x(x, b["from"]) - 2,
            _y(y, 0) - _y(y, b["correct"]),
            f"{b['count']} detections score {b['from']:.1f} to {b['to']:.1f}: {b['correct']:.1%} are correct",
        )
        for b in bins
        if b["count"]
    ]
    return line_chart([Line([0, 1], [0, 1], "as sure as correct", "ideal")], x, y, under=Markup("").join(bars))


def matrix_chart(names: Sequence[str], matrix: Sequence[Sequence[int]]) -> Markup:
    """Return a confusion matrix: rows are the truth, columns what was detected, the last of both the background.

    A cell is as dark as its share of the row; few classes have their counts written in.
    """
    labels = [*names, "background"]
    # (C + 1, C + 1), the background last
    counts = np.asarray(matrix)
    # A row without objects would be divided by 0.
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    # Pixels of a cell and of its font: 120 classes of the largest would be 5,000 pixels wide.
    cell, size = (40, 12) if len(labels) <= 16 else (18, 11) if len(labels) <= 50 else (12, 9)
    margin = min(160, 14 + size * 0.6 * max(map(len, labels)))
    body = []
    for k, label in enumerate(labels):
        middle = margin + (k + 0.5) * cell
        body.append(
            Markup('<text class="name" x="{:.0f}" y="{:.0f}" text-anchor="end">{}</text>').format(
                margin - 6, middle + size / 3, _short(label)
            )
        )
        body.append(
            Markup('<text class="name" transform="translate({:.0f} {:.0f}) rotate(-60)">{}</text>').format(
                middle + size / 3, margin - 6, _short(label)
            )
        )
    # Only cells that hold something: of 120 x 120 most are empty.
    for i, j in np.argwhere(counts).tolist():
        title = f"{labels[i]} detected as {labels[j]}: {counts[i, j]} ({shares[i, j]:.1%} of the row)"
        style = "right" if i == j else "wrong"
        left, top = margin + j * cell, margin + i * cell
        body.append(
            Markup('<rect class="{}" x="{:.0f}" y="{:.0f}" width="{}" height="{}" fill-opacity="{:.3f}">').format(
                style, left, top, cell - 1, cell - 1, 0.08 + 0.92 * shares[i, j]
            )
            + Markup("<title>{}</title></rect>").format(title)
        )
        # Smaller ones have no room for a number.
        if cell == 40:
            # The style sheet's white on a dark cell.
            ink = "on-dark" if shares[i, j] > 0.55 else ""
            body.append(
                Markup('<text class="count {}" x="{:.0f}" y="{:.0f}" text-anchor="middle">{}</text>').format(
                    ink, left + cell / 2, top + cell / 2 + 4, counts[i, j]
                )
            )
    side = margin + len(labels) * cell
    whole = Markup('<rect class="frame" x="{0:.0f}" y="{0:.0f}" width="{1}" height="{1}"/>').format(
        margin, len(labels) * cell
    )
    # Room to the right for the last slanted name.
    return _svg(side + margin * 0.55, side + 2, [whole, *body], style=f"font-size:{size}px", fixed=True)


def _grid(x: Axis, y: Axis) -> Markup:
    parts = []
    for tick in y.ticks():
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, _y(y, tick), WIDTH - RIGHT))
        parts.append(
            Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:g}</text>').format(LEFT - 7, _y(y, tick) + 4, tick)
        )
    for tick in x.ticks():
        parts.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{:g}</text>').format(
                _x(x, tick), HEIGHT - BOTTOM + 17, tick
            )
        )
    parts.append(Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT))
    middle, floor = (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6
    parts.append(
        Markup('<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>').format(middle, floor, x.title)
    )
    parts.append(
        Markup('<text class="title" transform="translate(11 {}) rotate(-90)" text-anchor="middle">{}</text>').format(
            (TOP + HEIGHT - BOTTOM) / 2, y.title
        )
    )
    return Markup("").join(parts)


def _x(axis: Axis, value: float) -> float:
    return axis.place(value, LEFT, WIDTH - RIGHT)


def _y(axis: Axis, value: float) -> float:
    # SVG's y grows downwards: the floor first, so that larger values lie higher.
    return axis.place(value, HEIGHT - BOTTOM, TOP)


def _short(label: str) -> str:
    return label if len(label) <= 22 else label[:21] + "…"


def _svg(width: float, height: float, body: Iterable[Markup], *, style: str = "", fixed: bool = False) -> Markup:
    size = Markup('width="{:.0f}" height="{:.0f}"').format(width, height) if fixed else ""
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" {} style="{}" role="img">{}</svg>').format(
        width, height, size, escape(style), Markup("").join(body)
    )
