"""AP for the energy, and step time, over the power that a GPU may draw: runs with --energy under several limits.

python -m util.plot_power RUN [RUN ...] [--output power.png]        a table, and the picture
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError
from .flags import FlagParser
from .plot_utils import AP, TEST_COLOUR, TRAIN_COLOUR, read_log
from .runs.atomic import atomic_file


@dataclass(frozen=True)
class PowerRun:
    """A run under one limit.

    Attributes:
        name: of its folder.
        watts: the limit.
        joules: of its training, evaluations left out.
        joules_per_image: in training.
        step_seconds: mean of its epochs.
        ap: of the last evaluation.
    """

    name: str
    watts: float
    joules: float
    joules_per_image: float
    step_seconds: float
    ap: float

    @property
    def ap_per_megajoule(self) -> float:
        """The AP that a million joules bought."""
        return self.ap / (self.joules / 1e6)


def read_power(folder: str | os.PathLike) -> PowerRun:
    """Return a run's figures. Raises UserError for one without log, without --energy or without evaluation."""
    log = Path(folder) / "log.txt"
    rows = read_log(log)
    if not all("train_joules" in row and "train_power_limit" in row for row in rows):
        raise UserError(f"{log}: no joules in it: train with --energy")
    scores = [row["test_coco_eval_bbox"][AP] for row in rows if row.get("test_coco_eval_bbox")]
    if not scores:
        raise UserError(f"{log}: no evaluation in it, so there is no AP to divide by the joules")
    return PowerRun(
        name=Path(folder).name,
        # As the driver enforced it, whatever was asked for.
        watts=rows[-1]["train_power_limit"],
        # All epochs: AP at the end has cost all of them.
        joules=sum(row["train_joules"] for row in rows),
        joules_per_image=_mean([row["train_joules_per_image"] for row in rows]),
        step_seconds=_mean([row["train_step_time"] for row in rows]),
        ap=scores[-1],
    )


def power_table(runs: Sequence[PowerRun]) -> str:
    """Return the runs as lines, the lowest limit first."""
    lines = [f"{'run':16}{'watts':>7}{'kJ':>10}{'J/image':>10}{'ms/step':>9}{'AP':>7}{'AP/MJ':>9}"]
    for run in sorted(runs, key=lambda run: run.watts):
        lines.append(
            f"{run.name:16}{run.watts:7.0f}{run.joules / 1e3:10.2f}{run.joules_per_image:10.3f}"
            f"{1e3 * run.step_seconds:9.1f}{run.ap:7.3f}{run.ap_per_megajoule:9.3g}"
        )
    return "\n".join(lines)


def plot_power(runs: Sequence[PowerRun], path: str | os.PathLike) -> None:
    """Write a PNG: AP per megajoule on the left, milliseconds a step on the right, over watts."""
    from matplotlib.figure import Figure  # matplotlib takes its time to load: only who draws waits for it

    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw(left, runs, [run.ap_per_megajoule for run in runs], "AP for a million joules of training", TEST_COLOUR)
    _draw(right, runs, [1e3 * run.step_seconds for run in runs], "time of a step, ms", TRAIN_COLOUR)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")


def _draw(axes: Any, runs: Sequence[PowerRun], heights: Sequence[float], title: str, colour: str) -> None:
    points = sorted(zip((run.watts for run in runs), heights))
    axes.plot([x for x, _ in points], [y for _, y in points], "o-", color=colour)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel("limit of a GPU's power, W")
    # From zero: a saving of a tenth should look like one.
    axes.set_ylim(0, 1.1 * max(*heights, 1e-9))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.25)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def main(arguments: list[str] | None = None) -> None:
    """Print the table and write the picture. Raises UserError."""
    parser = FlagParser(prog="python -m util.plot_power", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs with --energy")
    parser.add_argument("--output", default="power.png", help="the picture (%(default)s)")
    args = parser.parse_args(arguments)
    runs = [read_power(folder) for folder in args.runs]
    print(power_table(runs))
    plot_power(runs, args.output)
    print(f"wrote {args.output}")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"plot_power: error: {error.line()}", file=sys.stderr)
        sys.exit(error.exit_code)
