"""Curves from a run's log.txt, which holds one JSON object per epoch with DETR's keys.

python -m util.plot_utils RUN [RUN ...] [--output FILE]        AP, AP50 and losses of runs over each other
"""

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import UserError
from .flags import FlagParser
from .plot_precision import plot_precision_recall as plot_precision_recall  # DETR's scripts import it from here
from .runs.atomic import atomic_file

AP, AP50 = 0, 1  # places in COCO's 12 numbers
#: Fields of `plot_logs` that are one of COCO's numbers. "mAP" is DETR's name for a panel that shows AP50 there.
PRECISIONS = {"AP": AP, "AP50": AP50, "mAP": AP}
TRAIN_COLOUR, TEST_COLOUR, AP50_COLOUR = "#1f6fd1", "#d1491f", "#e8a33d"
LOSSES = {"loss": "total loss", "loss_ce": "class loss", "loss_bbox": "box loss (L1)", "loss_giou": "box loss (GIoU)"}


def read_log(log_file: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the rows of a log, one per epoch. A last line that is half written (the run was stopped) is left out.

    Raises UserError for a log that is missing, has no row, or is broken elsewhere.
    """
    try:
        lines = Path(log_file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{log_file}: no readable log ({type(error).__name__}); is this a run's folder?") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # the latter: thousands of brackets in one another
            if number == len(lines):
                break
            raise UserError(f"{log_file}, line {number}: not JSON ({error}); delete that line") from error
        if not isinstance(row, dict):
            raise UserError(f"{log_file}, line {number}: not the row of an epoch; is this a log.txt?")
        rows.append(row)
    if not rows:
        raise UserError(f"{log_file}: no epoch is logged yet")
    return rows


def plot_curves(log_file: str | os.PathLike, path: str | os.PathLike) -> None:
    """Write a PNG with AP, AP50 and the training and test losses of a run over its epochs.

    Raises UserError as `read_log`.
    """
    from matplotlib.figure import Figure  # matplotlib takes its time to load: only who draws waits for it

    rows = read_log(log_file)
    figure = Figure(figsize=(12, 5.4), dpi=110)
    # Fixed places, because this runs after every epoch: a computed layout draws everything twice.
    grid = figure.add_gridspec(2, 4, left=0.035, right=0.985, bottom=0.09, top=0.94, wspace=0.24, hspace=0.42)
    _plot_average_precision(figure.add_subplot(grid[:, :2]), rows)
    places = [grid[0, 2], grid[0, 3], grid[1, 2], grid[1, 3]]
    for place, (name, title) in zip(places, LOSSES.items(), strict=True):
        axes = figure.add_subplot(place)
        _plot_line(axes, *series(rows, f"train_{name}"), label="training", color=TRAIN_COLOUR)
        _plot_line(axes, *series(rows, f"test_{name}"), label="test", color=TEST_COLOUR)
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        _finish(axes, title)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")


def plot_logs(
    logs: Path | list[Path],
    fields: Sequence[str] = ("class_error", "loss_bbox_unscaled", "mAP"),
    ewm_col: float = 0,
    log_name: str = "log.txt",
) -> tuple[Any, Any]:
    """Plot fields of one or several runs side by side, a colour for each run: training solid, test dashed.

    DETR's function, with two differences: "mAP" is AP over all IoU thresholds, and titled so, where DETR shows AP at
    0.5 under that name; and a missing log is an error, where DETR prints a line. "AP50" is what DETR shows.

    Args:
        logs: run folders.
        fields: names without `train_` and `test_`, or "AP", "AP50", "mAP"; of masks dashed where there are any.
        ewm_col: centre of mass of the exponential smoothing, 0 for none.
        log_name: name of the log in each folder.

    Returns:
        pyplot's figure and axes.

    Raises UserError as `read_log`, and for a field that no run has.
    """
    import matplotlib.pyplot as plt  # pyplot, so that notebooks show the figure and scripts can go on with plt.savefig

    folders = [Path(logs)] if isinstance(logs, (str, os.PathLike)) else [Path(folder) for folder in logs]
    runs = read_runs(folders, log_name)
    figure, all_axes = plt.subplots(ncols=len(fields), figsize=(16, 5), squeeze=False, layout="constrained")
    for axes, field in zip(all_axes[0], fields, strict=True):
        if not _plot_field(axes, runs, field, ewm_col):
            plt.close(figure)
            known = _known_fields(next(iter(runs.values())))
            raise UserError(f"no log has the field {field!r}; {folders[0] / log_name} has {known}")
        _finish(axes, "AP" if field == "mAP" else field)
    return figure, all_axes[0]


def plot_runs(folders: Sequence[str | os.PathLike], path: str | os.PathLike) -> None:
    """Write a picture with AP, AP50 and the losses of runs over each other; its suffix says the format.

    Losses of training are solid, of the test dashed, and so are the APs of boxes and of masks. Raises UserError as
    `read_log`, and for a format that matplotlib does not write.
    """
    from matplotlib.figure import Figure

    runs = read_runs([Path(folder) for folder in folders])
    figure = Figure(figsize=(15, 8), dpi=110, layout="constrained")
    if Path(path).suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise UserError(f"--output {path}: end it in .png, .svg or .pdf")
    figure.suptitle("losses: training solid, test dashed; AP: boxes solid, masks dashed", fontsize=10, color="gray")
    titles = {"AP": "AP, IoU 0.50 to 0.95", "AP50": "AP50, IoU 0.50", "class_error": "class error, %"} | LOSSES
    titles.pop("loss_ce")  # six panels; the class error shows the same
    for axes, (field, title) in zip(figure.subplots(2, 3).flat, titles.items(), strict=True):
        _plot_field(axes, runs, field)
        axes.set_ylim(bottom=0)
        _finish(axes, title)
    with atomic_file(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:].lower())


def read_runs(folders: Sequence[Path], log_name: str = "log.txt") -> dict[str, list[dict[str, Any]]]:
    """Return the rows of runs by their names: the folder's, and where two have one name, its whole path.

    Raises UserError as `read_log`.
    """
    names = [folder.resolve().name for folder in folders]
    labels = [str(folder) if names.count(name) > 1 else name for folder, name in zip(folders, names)]
    return {label: read_log(folder / log_name) for label, folder in zip(labels, folders)}


def _plot_field(axes: Any, runs: Mapping[str, list[dict[str, Any]]], field: str, ewm_col: float = 0) -> bool:
    """Draw a field of all runs, a colour for each; return False where no run has it."""
    for number, (name, rows) in enumerate(runs.items()):
        label: str | None = name  # on a run's first line only: one entry per run in the legend
        for column, style in _columns(field).items():
            epochs, values = series(rows, column, place=PRECISIONS.get(field))
            _plot_line(axes, epochs, _smooth(values, ewm_col), label=label, color=f"C{number % 10}", linestyle=style)
            label = None if values else label
    return bool(axes.lines)


def _columns(field: str) -> dict[str, str]:
    """Return the columns of the log that show a field, with their line styles."""
    if field in PRECISIONS:
        return {"test_coco_eval_bbox": "-", "test_coco_eval_masks": "--"}
    return {f"train_{field}": "-", f"test_{field}": "--"}


def _known_fields(rows: list[dict[str, Any]]) -> str:
    """Return the names, without `train_` and `test_`, of a log's rows."""
    names = {name for row in rows for name in row if name.startswith(("train_", "test_"))}
    return ", ".join(sorted({name.partition("_")[2] for name in names}))


def series(rows: list[dict[str, Any]], name: str, *, place: int | None = None) -> tuple[list[float], list[float]]:
    """Return epochs and values of a column (or of one place in a column of lists), where it has a finite number."""
    points = []
    for number, row in enumerate(rows):
        value = row.get(name)
        if place is not None and isinstance(value, list):
            value = value[place] if place < len(value) else None
        if isinstance(value, (int, float)) and math.isfinite(value):
            points.append((row.get("epoch", number), value))
    return [epoch for epoch, _ in points], [value for _, value in points]


def _smooth(values: list[float], centre_of_mass: float) -> list[float]:
    """Return exponentially weighted means, as pandas' `ewm(com=centre_of_mass).mean()`; 0 changes nothing."""
    # pandas' alpha is 1 / (1 + com), and the decay is what is left of 1.
    decay = centre_of_mass / (1 + centre_of_mass)
    total = weight = 0.0
    means = []
    for value in values:
        # Dividing by the summed weights removes the pull towards 0 at the beginning.
        total, weight = total * decay + value, weight * decay + 1
        means.append(total / weight)
    return means


def _plot_average_precision(axes: Any, rows: list[dict[str, Any]]) -> None:
    """Draw AP and AP50, of masks dashed where there are any, with their best values in the legend."""
    for column, kind, style in (
        ("test_coco_eval_bbox", "", "-"),
        ("test_coco_eval_masks", "mask ", "--"),
        ("test_ema_coco_eval_bbox", "averaged weights, ", ":"),
        ("test_ema_coco_eval_masks", "averaged weights, mask ", "-."),
    ):
        for place, name, colour in ((AP50, "AP50", AP50_COLOUR), (AP, "AP", TEST_COLOUR)):
            epochs, values = series(rows, column, place=place)
            if values:
                label = f"{kind}{name}: best {max(values):.3f}, last {values[-1]:.3f}"
                _plot_line(axes, epochs, values, label=label, color=colour, linestyle=style)
    axes.set_ylim(0, 1)
    _finish(axes, "average precision, test")


def _plot_line(axes: Any, epochs: list[float], values: list[float], **style: Any) -> None:
    """Draw a line, with dots while there are few epochs: a single one would be invisible."""
    if values:
        marker = "o" if len(values) <= 30 else None
        axes.plot(epochs, values, marker=marker, markersize=3.5, linewidth=1.6, clip_on=False, **style)


def _finish(axes: Any, title: str) -> None:
    """Add what all panels have: title, grid, whole epochs as ticks, a legend if there is something to explain."""
    from matplotlib.ticker import MaxNLocator

    first, last = axes.get_xlim()
    if last - first < 1:  # a single epoch: matplotlib would show thousandths of it
        axes.set_xlim((first + last) / 2 - 0.5, (first + last) / 2 + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.text(0.5, 0.5, "not in this log", transform=axes.transAxes, ha="center", va="center", color="gray")


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0, or 2 after one line on stderr."""
    description = "Draw AP, AP50 and the losses of runs over each other."
    parser = FlagParser(prog="python -m util.plot_utils", description=description)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run, with its log.txt")
    parser.add_argument("--output", default="curves.png", metavar="FILE", help=".png, .svg or .pdf (%(default)s)")
    args = parser.parse_args(argv)
    try:
        plot_runs(args.runs, args.output)
    except UserError as error:
        print(f"plot_utils: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(cli())
