"""A run's folder: log, curves and checkpoints, written so that a run that was cut off goes on as if it had not been."""

import json
import math
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch.optim import Optimizer

from ..dist.distributed import print_once
from ..errors import CheckpointError
from ..plot_utils import plot_curves
from .atomic import atomic_file
from .checkpoint import save_checkpoint

#: What the optimizer's state brings along on --resume, whatever the command line says.
KEPT_ON_RESUME = ("lr", "lr_backbone", "weight_decay")


class RunFolder:
    """`log.txt`, `curves.png`, `checkpoint.pth`, `best.pth` and kept `checkpoint####.pth` in one folder.

    Opening it for a run that starts at `first_epoch` drops the log's rows of that and later epochs, and a half-written
    last line: they are about to be written again.
    """

    def __init__(self, output_dir: str | Path, *, first_epoch: int) -> None:
        self.folder = Path(output_dir)
        self.log_file = self.folder / "log.txt"
        if self.log_file.exists():
            rows = [line for line in self.log_file.read_text().splitlines() if _epoch_of(line) < first_epoch]
            with atomic_file(self.log_file) as file:
                file.writelines(row.encode() + b"\n" for row in rows)

    def log(self, row: dict) -> None:
        """Add an epoch's row to the log, as one JSON object on a line, and draw the curves anew."""
        with self.log_file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        plot_curves(self.log_file, self.folder / "curves.png")

    def save(self, state: dict, *, is_best: bool, keep: bool) -> None:
        """Write `checkpoint.pth`; also `best.pth`, and `checkpoint####.pth` (by epoch) for one to keep.

        Called after the row is logged: a run cut off in between repeats the epoch and drops the row.
        """
        names = ["checkpoint.pth"]
        names += ["best.pth"] if is_best else []
        names += [f"checkpoint{state['epoch']:04}.pth"] if keep else []
        for name in names:
            save_checkpoint(self.folder / name, state)


class Results(Protocol):
    """An evaluator that holds detections in COCO's results format for each of its `iou_types`."""

    iou_types: Sequence[str]

    def results(self, iou_type: str) -> list[dict]: ...


def write_predictions(folder: str | Path, evaluator: Results) -> list[Path]:
    """Write detections in COCO's results format: boxes to `predictions.json`, masks to `predictions_segm.json`; their paths.

    Two files, because pycocotools takes areas from boxes as soon as a result has one.
    """
    paths = []
    for kind in evaluator.iou_types:
        paths.append(Path(folder) / ("predictions.json" if kind == "bbox" else f"predictions_{kind}.json"))
        with atomic_file(paths[-1]) as file:
            file.write(json.dumps(evaluator.results(kind)).encode())
    return paths


def _epoch_of(line: str) -> float:
    """Epoch of a log row; a line that is not whole counts as later than all."""
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError):
        return math.inf


@dataclass(frozen=True)
class Start:
    """Where training starts: the first epoch, the steps done before it, and the best AP so far."""

    epoch: int = 0
    step: int = 0
    best_ap: float = -math.inf


def restore_training(checkpoint: dict | None, optimizer: Optimizer, args: Namespace, *, steps_per_epoch: int) -> Start:
    """Load the optimizer's state and say where to go on; a file of weights alone starts at `--start_epoch`.

    Raises CheckpointError when the optimizer's state is of another model.
    """
    if checkpoint is None or not {"optimizer", "lr_scheduler", "epoch"} <= checkpoint.keys():
        return Start(epoch=args.start_epoch, step=args.start_epoch * steps_per_epoch)
    try:
        optimizer.load_state_dict(checkpoint["optimizer"])
    except (ValueError, KeyError) as error:
        raise CheckpointError(
            f"--resume: the optimizer's state does not fit this model and these flags ({error})"
        ) from error
    for name in KEPT_ON_RESUME:
        saved = checkpoint.get("args", {}).get(name)
        if saved is not None and saved != getattr(args, name):
            print_once(
                f"--resume keeps --{name} {saved} of the checkpoint, not {getattr(args, name)}; --init_from starts anew"
            )
    epoch = checkpoint["epoch"] + 1
    # In steps of this run: with another batch size an epoch has another number of them.
    epochs_done = checkpoint["step"] / checkpoint["steps_per_epoch"] if "steps_per_epoch" in checkpoint else epoch
    step = round(epochs_done * steps_per_epoch)
    print_once(f"resuming at epoch {epoch}, step {step}")
    return Start(epoch=epoch, step=step, best_ap=checkpoint.get("best_ap", -math.inf))
