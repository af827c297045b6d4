"""A point per phase and epoch: the times of `main.py --timing` with the FLOPs and bytes of `--count_costs`."""

import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pandas as pd

from .. import RoofError
from ..charts.style import SECTION_COLOURS, si, significant
from ..columns import SECTIONS
from ..read.timelines import COSTS_NAME
from ..roofs import Roofs, read_roofs, used
from ..table import read_table, total_flop
from .markup import table
from .shapes import Scale, text_at

TIMING_NAME = "timing.json"
#: Phases in the chart: the others hardly compute.
_DRAWN = ("forward", "backward")
#: Dashes of the runs' lines, in order.
_DASHES = ("", "7 4", "2 3", "9 3 2 3", "1 5")
#: Flags that move points, and their values when off.
_TELLING = {
    "amp": "off",
    "accumulate": 1,
    "batch_size": 2,
    "image_size": None,
    "compile": False,
    "grad_checkpoint": False,
}


@dataclass(frozen=True)
class TimedRun:
    """A folder with timing.json; `points`: epoch, phase, time_s, and flop and bytes of a step (NaN without costs)."""

    name: str
    flags: str
    points: pd.DataFrame
    roofs: Roofs | None


def read_timed(folder: Path) -> TimedRun | None:
    """Read a run's folder; None without timing.json or where that knows no epochs. Raises RoofError."""
    file, costs = folder / TIMING_NAME, folder / COSTS_NAME
    if not file.is_file():
        return None
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        rows = [
            {"epoch": int(epoch["epoch"]), "phase": name, "time_s": float(phase["median_ms"]) / 1e3}
            | {"pixels": float(epoch["pixels"]), "steps": int(phase["steps"])}
            for epoch in data.get("epochs", [])
            for name, phase in epoch["phases"].items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RoofError(f"{file}: no timing of main.py --timing ({error})") from error
    if not rows:
        return None
    # NaN, not 0: without a table of costs they are unknown.
    points = pd.DataFrame(rows).assign(flop=float("nan"), bytes=float("nan"))
    roofs, roofs_file = None, folder / f"{COSTS_NAME.partition('.')[0]}.roofs.toml"
    if costs.is_file():
        counted = read_table(costs)
        points = _with_costs(points, counted)
        roofs = used(read_roofs(roofs_file), counted) if roofs_file.is_file() else None
    flags = " ".join(f"--{name} {data['flags'][name]}" for name in _TELLING if _tells(data.get("flags", {}), name))
    return TimedRun(folder.resolve().name, flags, points, roofs)


def trajectory_section(runs: Sequence[TimedRun]) -> str:
    """Return the section of the page: the chart, where costs are known, and the times."""
    keys = "".join(f'<span class="key" style="background:{SECTION_COLOURS[name]}"></span>{name}' for name in _DRAWN)
    parts = ["<h2>Over time</h2>", f"<p>{keys}</p>", _chart(runs)]
    heads = ["run", "flags", "epoch", "pixels a step", *(name.replace("_", " ") for name in SECTIONS), "step"]
    cells = []
    for run in runs:
        for epoch, rows in run.points.groupby("epoch"):
            times = rows.set_index("phase")["time_s"]
            line = [run.name, run.flags, str(epoch), si(rows["pixels"].iloc[0], "")]
            cells.append([*line, *(si(times.get(name, float("nan")), "s") for name in (*SECTIONS, "step"))])
    note = (
        "A point is a phase in an epoch, with the letter of its run: the median of its steps' times, and the counted "
        "costs of a step. Where an epoch's images are larger or smaller than the counted step's, FLOPs and bytes grow "
        "with the pixels, the optimizer's do not."
    )
    return "".join([*parts, table(heads, cells), f"<p>{note}</p>"])


def describe_timed(run: TimedRun) -> list[str]:
    """Return a line for each epoch."""
    lines = []
    for epoch, rows in run.points.groupby("epoch"):
        texts = []
        for _, row in rows[rows["phase"].isin(SECTIONS)].iterrows():
            rate = f", {si(row['flop'] / row['time_s'], 'FLOP/s')}" if row["flop"] > 0 else ""
            texts.append(f"{row['phase']} {si(row['time_s'], 's')}{rate}")
        lines.append(f"{run.name} epoch {epoch}: {'; '.join(texts)}")
    return lines


def _tells(flags: dict[str, Any], name: str) -> bool:
    return name in flags and flags[name] != _TELLING[name]


def _with_costs(points: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """Give each phase the counted FLOPs and bytes of a step, in the ratio of its pixels to the counted step's."""
    costs = costs.assign(flop=total_flop(costs), section=costs["section"].astype(str))
    sums = costs.groupby("section")[["flop", "bytes_hbm"]].sum()
    counted = _counted_pixels(costs)
    grows = points["phase"] != "optimizer_step"
    # Convolutions grow with the pixels, and so nearly does the rest; the optimizer's work is one of the weights alone.
    ratio = (points["pixels"] / counted).where(grows & (points["pixels"] > 0), 1.0) if counted else 1.0
    found = {
        name: points["phase"].map(sums[column]) * ratio for name, column in (("flop", "flop"), ("bytes", "bytes_hbm"))
    }
    return points.assign(**found)


def _counted_pixels(costs: pd.DataFrame) -> float:
    """Return the pixels of a counted step's images: what the first convolution reads; 0 where there is none."""
    rows = costs[(costs["section"] == "forward") & costs["kernel"].astype(str).str.startswith("aten.convolution")]
    if rows.empty:
        return 0.0
    sizes = rows.sort_values("first")["grid"].astype(str).str.split(", ").str
    same = rows.sort_values("first")[sizes[1] == sizes[1].iloc[0]]  # of a step in parts: all with the first's weight
    pixels = 0.0
    for _, row in same.iterrows():
        images, _, height, width = (int(n) for n in row["grid"].split(", ")[0].split("x"))
        # Of all images of the step, padding included, for the convolution computes it, too.
        pixels += images * height * width * row["launches"]
    return pixels


def _chart(runs: Sequence[TimedRun], size: tuple[int, int] = (1180, 480)) -> str:
    """Return the points as an SVG, those of a run's phase joined in the order of the epochs, with their numbers."""
    kept = [(run, rows[(rows["flop"] > 0) & (rows["bytes"] > 0)]) for run in runs for rows in [run.points]]
    # The letter of a run is its place in this list, also for runs without points.
    kept = [(run, rows[rows["phase"].isin(_DRAWN)]) for run, rows in kept]
    every = pd.concat([rows for _, rows in kept])
    known = [run.roofs for run in runs if run.roofs]
    roofs = reduce(Roofs.merged, known) if known else None  # units that any of the runs uses
    if every.empty or roofs is None:
        return "<p>No costs.csv with its roofs in these folders: main.py --count_costs RUN/costs.csv counts them.</p>"
    scale = Scale.around(every["flop"] / every["bytes"], every["flop"] / every["time_s"], roofs, size)
    lines = [f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="phases over epochs">']
    lines += [*scale.axes(), *scale.roofs(roofs)]
    for number, (run, rows) in enumerate(kept):
        dash = _DASHES[number % len(_DASHES)]
        y = size[1] - 60 - 16 * (len(kept) - number)  # low on the right, where no phase of a training lies
        lines.append(f'<path d="M700 {y}h40" stroke="#222" stroke-dasharray="{dash}"/>')
        letter = chr(ord("A") + number % 26)
        lines.append(text_at(746, y + 4, "start", f"{letter}: {run.name} {run.flags}"))
        for phase, points in rows.groupby("phase"):
            lines += _line(scale, points.sort_values("epoch"), str(phase), dash, (letter, run.name))
    return "\n".join([*lines, "</svg>"])


def _line(scale: Scale, points: pd.DataFrame, phase: str, dash: str, names: tuple[str, str]) -> Iterable[str]:
    """Return a run's points of a phase; names: the run's letter and name."""
    colour, (letter, name) = SECTION_COLOURS[phase], names
    # The roofline's axes, FLOP/byte and FLOP/s, of each epoch's sums.
    places = [scale.place(row["flop"] / row["bytes"], row["flop"] / row["time_s"]) for _, row in points.iterrows()]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="M{path}" stroke="{colour}" fill="none" stroke-dasharray="{dash}"/>'
    for (x, y), (_, row) in zip(places, points.iterrows()):
        rates = f"{significant(row['flop'] / row['bytes'])} FLOP/byte, {si(row['flop'] / row['time_s'], 'FLOP/s')}"
        tip = html.escape(f"{name}, {phase}, epoch {row['epoch']}: {si(row['time_s'], 's')}, {rates}")
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}" stroke="white"><title>{tip}</title></circle>'
    yield text_at(places[0][0] - 8, places[0][1] + 4, "end", f"{letter}{points['epoch'].iloc[0]}")
    # A single epoch is one point, whose number stands there already.
    if len(places) > 1:
        yield text_at(places[-1][0] + 8, places[-1][1] + 4, "start", f"{letter}{points['epoch'].iloc[-1]}")
