"""A treemap of a step as inline SVG: boxes of the model's parts, in them their modules by direction."""

import html
from collections.abc import Iterator

import pandas as pd

from ..charts.style import si
from .run import cut
from .shapes import COLOURS, Box, squares

#: Levels of a part's name, and of a module's in it.
_PART, _MODULE = 2, 3
#: Parts, and modules in a part, below these shares of the step are drawn together.
_SMALL_PART, _SMALL_MODULE = 0.015, 0.004
#: Height of a part's title, width of a letter of 11 pixels, height of a line.
_TITLE, _LETTER, _LINE = 17.0, 6.5, 14.0
OTHER = "other parts"


def treemap(parts: pd.DataFrame, step_s: float, size: tuple[int, int] = (1180, 560)) -> str:
    """Return the step as an SVG: the area of a box is the time of a module in a direction.

    Args:
        parts: module, direction and time_s (seconds of a step).
        step_s: seconds of a step.
        size: width and height in pixels.
    """
    rows = _folded(parts, step_s)
    sums = rows.groupby("part")["time_s"].sum().sort_values(ascending=False)
    label = 'role="img" aria-label="time by module and direction"'
    lines = [f'<svg viewBox="0 0 {size[0]} {size[1]}" {label}>']
    for (name, seconds), box in zip(sums.items(), squares(sums.tolist(), (0.0, 0.0, float(size[0]), float(size[1])))):
        lines += _part(str(name), seconds / step_s, box)
        inside = rows[rows["part"] == name].sort_values("time_s", ascending=False)
        x, y, width, height = box
        # A flat box has no room for a title: its modules get all of it.
        title = _TITLE if height > 2 * _TITLE else 0.0
        places = squares(inside["time_s"].tolist(), (x + 1, y + title, width - 2, height - title - 1))
        for (_, row), place in zip(inside.iterrows(), places):
            lines += _box(row, step_s, place)
    return "\n".join([*lines, "</svg>"])


def _folded(parts: pd.DataFrame, step_s: float) -> pd.DataFrame:
    """Return part, label, module, direction, count and time_s; what is small is one row of its part and direction."""
    rows = parts[parts["time_s"] > 0]
    rows = rows.assign(part=rows["module"].map(lambda n: cut(n, _PART)), label=rows["module"].map(_inside))
    keys = ["part", "label", "direction"]
    rows = rows.groupby(keys, as_index=False)["time_s"].sum()
    whole = rows.groupby("part")["time_s"].transform("sum")
    small_part = whole < _SMALL_PART * step_s
    # In the box of small parts, a part is what a module is in the others.
    rows.loc[small_part, "label"] = rows.loc[small_part, "part"]
    rows.loc[small_part, "part"] = OTHER
    rows = rows.groupby(keys, as_index=False)["time_s"].sum()
    rows["label"] = rows["label"].mask(rows["time_s"] < _SMALL_MODULE * step_s, "other")
    # `count` is how many rows were joined as "other".
    return rows.groupby(keys, as_index=False).agg(time_s=("time_s", "sum"), count=("time_s", "size"))


def _inside(module: str) -> str:
    """Return a module's name within its part; the part's own name where it is the part itself."""
    part, name = cut(module, _PART), cut(module, _MODULE)
    last = name.removeprefix(f"{part}.")
    return f"{part.rpartition('.')[2]}.{last}" if last.isdigit() else last  # a block: layer3.5


def _part(name: str, share: float, box: Box) -> Iterator[str]:
    x, y, width, height = box
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#eee" stroke="white"/>'
    if height <= 2 * _TITLE:
        return
    for text in (f"{name} {share:.1%}", name, name.rpartition(".")[2]):
        if _fits(text, width):
            yield f'<text x="{x + 4:.1f}" y="{y + 13:.1f}" font-weight="bold">{html.escape(text)}</text>'
            return


def _box(row: pd.Series, step_s: float, box: Box) -> Iterator[str]:
    x, y, width, height = box
    share = row["time_s"] / step_s
    name = f"{row['count']} others" if row["label"] == "other" and row["count"] > 1 else row["label"]
    where = f"{row['part']}: {name}, {row['direction'] or 'between the phases'}"
    tip = html.escape(f"{where}: {si(row['time_s'], 's')}, {share:.1%} of the step")
    colour = COLOURS.get(row["direction"], "#999999")
    yield f'<g><title>{tip}</title><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
    yield f'fill="{colour}" stroke="white"/>'
    wanted = (name, f"{share:.1%}")
    # What does not fit is left to the tip, which always has everything.
    texts = [text for text in wanted if _fits(text, width)][: max(0, int((height - 4) / _LINE))]
    for line, text in enumerate(texts, start=1):
        yield f'<text x="{x + 4:.1f}" y="{y + _LINE * line:.1f}">{html.escape(text)}</text>'
    yield "</g>"


def _fits(text: str, width: float) -> bool:
    return _LETTER * len(text) + 8 <= width
