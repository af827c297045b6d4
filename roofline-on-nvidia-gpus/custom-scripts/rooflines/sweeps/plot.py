"""Results of a sweep: AP, time and memory of every run as a table, and over each parameter as a chart."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import atomic_file
from ..charts.style import FAINT, SERIES, new_figure, save
from .jobs import Job

#: Column -> the chart's title.
MEASURES = {
    "ap": "AP of the last epoch",
    "ms_per_image": "training, ms an image (with waiting for data)",
    "memory_mib": "memory at its peak, MiB (on a CPU: of the process)",
}
_MISSING = {
    "ap": "no log.txt yet",
    "ms_per_image": "not in log.txt yet",
    "memory_mib": "not in log.txt yet",
}


def read_run(job: Job) -> dict[str, float]:
    """Return the measures of a run that its log.txt has: time of the median epoch, the first of several left out."""
    found: dict[str, float] = {}
    rows = _rows(job.folder / "log.txt")
    if rows and rows[-1].get("test_coco_eval_bbox"):
        found["ap"] = float(rows[-1]["test_coco_eval_bbox"][0])
        found["epochs"] = float(len(rows))
    times = [float(row["train_step_time"]) for row in rows if "train_step_time" in row]
    if times:  # the first epoch also compiles, and fills caches
        found["ms_per_image"] = 1e3 * statistics.median(times[1:] or times) / job.batch_size
    memory = [float(row["train_max_memory"]) for row in rows if "train_max_memory" in row]
    if memory:
        found["memory_mib"] = max(memory)
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # a run that is still writing
            break
    return rows


def write_results(jobs: Sequence[tuple[str, str, str, Job]], root: Path) -> list[Path]:
    """Write results.csv and a chart per parameter for (parameter, value, configuration, job); return the paths."""
    rows = [
        {"parameter": p, "value": v, "configuration": c, "seed": job.seed, "run": job.name, "state": job.state()}
        | read_run(job)
        for p, v, c, job in jobs
    ]
    table = pd.DataFrame(rows).reindex(columns=[*list(rows[0])[:6], "epochs", *MEASURES])
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / "results.csv"]
    with atomic_file(paths[0]) as file:
        file.write(table.to_csv(index=False).encode())
    for parameter, part in table.groupby("parameter", sort=False):
        if part[list(MEASURES)].notna().any(axis=None):
            paths += save(draw(part, str(parameter)), root / str(parameter), ("png",))
    return paths


def draw(table: pd.DataFrame, parameter: str) -> Any:
    """Return a chart of each measure over a parameter: dots for runs, a line for their mean, bars for their range."""
    figure = new_figure(13, 4.2)
    values = list(dict.fromkeys(table["value"]))
    seeds = table["seed"].nunique()
    title = (
        f"{parameter}: {seeds} seed{'s' if seeds > 1 else ''} (dots: runs, line: their mean, bars: least to largest)"
    )
    figure.suptitle(title, x=0.02, ha="left", fontsize=12)
    for place, (measure, title) in enumerate(MEASURES.items(), start=1):
        axes = figure.add_subplot(1, len(MEASURES), place)
        # The sweep that compares configurations has each as a value, and joins nothing.
        groups = [("", table)] if parameter == "configuration" else table.groupby("configuration", sort=False)
        for number, (name, part) in enumerate(groups):
            _draw_series(axes, part, measure, values, name, SERIES[number % len(SERIES)])
        _finish(axes, title, values, measure if table[measure].isna().all() else "")
        axes.set_xlabel(parameter)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    return figure


def _draw_series(axes: Any, table: pd.DataFrame, measure: str, values: list[str], name: str, colour: str) -> None:
    known = table[table[measure].notna()]
    if known.empty:
        return
    groups = known.groupby("value")[measure]
    mean = groups.mean()
    at = sorted((values.index(value), value) for value in mean.index)
    height = [mean[value] for _, value in at]
    # Distances from the mean, as errorbar takes them: with three seeds a deviation would say little.
    spread = [[mean[v] - groups.min()[v] for _, v in at], [groups.max()[v] - mean[v] for _, v in at]]
    line = "-" if name else "none"
    axes.errorbar([x for x, _ in at], height, yerr=spread, color=colour, linestyle=line, capsize=4, label=name)
    axes.plot(
        [values.index(value) for value in known["value"]], known[measure], "o", color=colour, alpha=0.6, markersize=5
    )


def _finish(axes: Any, title: str, values: list[str], missing: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xticks(range(len(values)), values)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)
    if missing:
        axes.set_yticks([])
        axes.text(0.5, 0.5, _MISSING[missing], transform=axes.transAxes, ha="center", va="center", color=FAINT)
        return
    axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
    if any(axes.get_legend_handles_labels()[1]) and title == MEASURES["ap"]:
        axes.legend(frameon=False, fontsize=9)
