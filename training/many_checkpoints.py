"""AP over the checkpoints of a run: `--eval_checkpoints 'runs/mine/checkpoint*.pth'` as a table, a CSV and a plot.

Each checkpoint is evaluated as by `--eval`. A row is kept as soon as it is there: a call that was stopped, or comes
again when there are more checkpoints, evaluates what is new. A checkpoint that cannot be evaluated has a row that says
why.
"""

import argparse
import copy
import csv
import glob
import io
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets.coco_eval import STAT_NAMES
from flags.given import given_flags
from util.dist.launch import find_place
from util.errors import UserError
from util.runs.atomic import atomic_file
from util.runs.checkpoint import load_checkpoint

#: Name of the table, the CSV and the plot in --output_dir, without suffix.
NAME = "ap_over_epochs"
SHOWN = ("AP", "AP50", "AP75", "AR100")
COLUMNS = ("checkpoint", "epoch", *STAT_NAMES, "error", "stamp", "flags")

#: Flags that change where and how a checkpoint is evaluated, and not its AP.
PLACES = {"eval_checkpoints", "output_dir", "device", "num_workers", "print_freq", "log_gpu", "metrics_file"}

#: A checkpoint's row, by COLUMNS; all of it text, as in the CSV.
Row = dict[str, str]


def evaluate_checkpoints(args: argparse.Namespace, main: Callable[[argparse.Namespace], None]) -> None:
    """Evaluate the checkpoints of a pattern, and write table, CSV and plot to --output_dir.

    Raises UserError where the pattern names no file.

    Args:
        args: the flags as typed.
        main: evaluates or trains as its flags say.
    """
    paths = sorted(glob.glob(args.eval_checkpoints, recursive=True))
    if not paths:
        raise UserError(f"--eval_checkpoints {args.eval_checkpoints}: no such file; is the pattern quoted?")
    if find_place(os.environ, args.dist_url).world_size > 1:
        raise UserError("--eval_checkpoints runs in one process: start it without torchrun or srun")
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{NAME}.csv"
    flags = " ".join(f"--{name} {getattr(args, name)}" for name in sorted(given_flags(args) - PLACES))
    # By content and flags, not by name: `checkpoint.pth` is another file after each epoch. Failures are tried again.
    known = {(row["checkpoint"], row["stamp"], row["flags"]): row for row in _read(table) if not row["error"]}
    rows: list[Row] = []
    for number, path in enumerate(paths, start=1):
        stamp = _stamp(path)
        row = known.get((path, stamp, flags))
        print(f"{path} ({number} of {len(paths)})" + (f": known from {table}" if row else ""), flush=True)
        rows.append(row or {"checkpoint": path, "stamp": stamp, "flags": flags} | _measure(path, args, main))
        known.pop((path, stamp, flags), None)
        _write(table, [*rows, *known.values()])  # a call that is stopped here loses nothing
    # By number: as text, epoch 10 would come before epoch 9.
    rows.sort(key=lambda row: (int(row["epoch"]) if row["epoch"] else -1, row["checkpoint"]))
    _write(table, rows)
    text = describe(rows)
    with atomic_file(folder / f"{NAME}.txt") as file:
        file.write(f"{text}\n".encode())
    _plot(rows, folder / f"{NAME}.png")
    print(f"{text}\nwrote {', '.join(str(folder / NAME) + suffix for suffix in ('.csv', '.txt', '.png'))}")


def _measure(path: str, args: argparse.Namespace, main: Callable[[argparse.Namespace], None]) -> Row:
    """Evaluate a checkpoint; return its part of the row, with an error in place of the numbers if need be."""
    row = dict.fromkeys(("epoch", *STAT_NAMES, "error"), "")
    try:
        row["epoch"] = str(load_checkpoint(path).get("epoch", ""))
        with tempfile.TemporaryDirectory(prefix=".evaluating", dir=args.output_dir) as place:
            flags = copy.copy(args)  # with what is known of typed flags, which win over those of a checkpoint
            # A folder of its own, so that the run's eval.json stays; the last one ends the recursion.
            flags.eval, flags.resume, flags.output_dir, flags.eval_checkpoints = True, path, place, None
            main(flags)
            stats = json.loads((Path(place) / "eval.json").read_bytes())["stats"]
    except UserError as error:
        print(f"warning: {error.line()}; the next one follows", flush=True)
        return row | {"error": error.line()}
    scores = stats["coco_eval_masks" if "coco_eval_masks" in stats else "coco_eval_bbox"]
    return row | {name: f"{score:.4f}" for name, score in zip(STAT_NAMES, scores)}


def describe(rows: Sequence[Row]) -> str:
    """Return the table as lines, the best AP marked."""
    best = max((row["AP"] for row in rows if row["AP"]), default="")
    width = max(len("checkpoint"), *(len(row["checkpoint"]) for row in rows))
    lines = [f"{'checkpoint':{width}}  epoch" + "".join(f"{name:>8}" for name in SHOWN)]
    for row in rows:
        numbers = row["error"] or "".join(f"{row[name]:>8}" for name in SHOWN)
        lines.append(f"{row['checkpoint']:{width}}  {row['epoch']:>5}  {numbers.removeprefix('  ')}")
        lines[-1] += "  best" if row["AP"] and row["AP"] == best else ""
    return "\n".join(lines)


def _stamp(path: str) -> str:
    """Return what changes with a file's content."""
    facts = Path(path).stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}"


def _read(table: Path) -> list[Row]:
    try:
        rows = list(csv.DictReader(table.read_text().splitlines()))
    except OSError:
        return []
    return [row for row in rows if row.keys() == set(COLUMNS)]


def _write(table: Path, rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    with atomic_file(table) as file:
        file.write(text.getvalue().encode())


def _plot(rows: Sequence[Row], path: Path) -> None:
    """Draw AP, AP50 and AP75 over the epochs; checkpoints without an epoch stand by their order."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import MaxNLocator

    measured = [row for row in rows if row["AP"]]
    in_epochs = all(row["epoch"] for row in measured)
    places = [int(row["epoch"]) if in_epochs else number for number, row in enumerate(measured)]
    figure = Figure(figsize=(7, 4.4), dpi=110, layout="constrained")
    axes = figure.subplots()
    for name in SHOWN[:3]:
        axes.plot(places, [float(row[name]) for row in measured], marker="o", label=name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch" if in_epochs else "checkpoint")
    axes.set_ylabel("of the validation images")
    axes.set_title(f"{len(measured)} checkpoints")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
