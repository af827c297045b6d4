"""A run's folder: log, curves and checkpoints, written so that a run that was cut off goes on as if it had not been."""

import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from ..dist.distributed import print_once
from ..errors import CheckpointError
from ..plot_utils import plot_curves
from .atomic import atomic_file, copy_file, disk_error
from .averaged import with_better_weights
from .checkpoint import save_checkpoint

#: Files of an evaluation's detections by their kind.
PREDICTIONS = {"bbox": "predictions.json", "segm": "predictions_segm.json"}
#: Epochs from one kept evaluation to the next.
KEPT_EVALUATIONS = 50


class DetectionResults(Protocol):
    """An evaluator that holds detections in COCO's results format for each of its `iou_types`, bbox or segm."""

    @property
    def iou_types(self) -> Sequence[str]: ...

    @property
    def measured(self) -> bool: ...

    def results(self, iou_type: str) -> list[dict[str, Any]]: ...

    def precision_recall(self, iou_type: str) -> dict[str, Any]: ...


class RunFolder:
    """`log.txt`, `curves.png`, `checkpoint.pth`, the one before it as `previous.pth`, `best.pth` and kept checkpoints.

    Opening it for a run that starts at `first_epoch` drops the log's rows of that and later epochs, and a half-written
    last line: they are about to be written again. Rows of more than that epoch are moved to `log.old.txt`. A file that
    cannot be written, as on a full disk, is one line, and training goes on; see `finish`. Without `with_log` neither
    log nor curves are written.
    """

    def __init__(self, output_dir: str | Path, *, first_epoch: int, with_log: bool = True) -> None:
        self.folder = Path(output_dir)
        self.with_log = with_log
        self.log_file = self.folder / "log.txt"
        self._waiting: list[str] = []  # rows that could not be written yet
        self._unsaved: CheckpointError | None = None
        if self.log_file.exists():
            # Bytes that are no text, as of a damaged disk, are of a line that is not whole; none stops the run.
            rows = self.log_file.read_text(errors="replace").splitlines()
            # A row of infinity is one that is not whole: it is dropped without being kept.
            dropped = [row for row in rows if first_epoch <= _epoch_of(row) < math.inf]
            # One row is usual: the run was killed between the log and the checkpoint. More are results of a run that
            # was longer.
            if len(dropped) > 1:
                with (self.folder / "log.old.txt").open("a") as file:
                    file.writelines(f"{row}\n" for row in dropped)
                print_once(f"{self.log_file}: {len(dropped)} rows from epoch {first_epoch} on are now in log.old.txt")
            with atomic_file(self.log_file) as file:
                file.writelines(row.encode() + b"\n" for row in rows if _epoch_of(row) < first_epoch)

    def log(self, row: dict[str, Any]) -> None:
        """Add an epoch's row to the log, as one JSON object on a line, and draw the curves anew."""
        if not self.with_log:
            return
        # Kept where the disk is full, and written with the next epoch's.
        self._waiting.append(f"{json.dumps(row)}\n")
        if self._try("log.txt", self._append):
            self._try("curves.png", lambda: plot_curves(self.log_file, self.folder / "curves.png"))

    def _append(self) -> None:
        size = self.log_file.stat().st_size if self.log_file.exists() else 0
        try:
            with self.log_file.open("a") as file:
                file.writelines(self._waiting)
                file.flush()
                # The row reaches the disk before the checkpoint that counts on it.
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):  # half a row is worse than none
                os.truncate(self.log_file, size)
            raise
        self._waiting.clear()

    def save(self, state: dict[str, Any], *, is_best: bool = False, keep: bool = False) -> bool:
        """Write `checkpoint.pth`, before it `best.pth`, and `checkpoint####.pth` (by epoch) for one to keep.

        Called after the row is logged: a run cut off in between repeats the epoch and drops the row. `checkpoint.pth`
        comes last, so that the files it speaks of are there; each is a file of its own, because a script that writes
        into one of them must not change another. Those of equal content are packed once and copied. Returns False where
        it is the best and `best.pth` was not written.
        """
        # Where averaged weights were better, `best.pth` has them as its model.
        best = with_better_weights(state) if is_best else None
        has_best = best is None or self._save("best.pth", best)
        written = self.folder / "best.pth" if best and has_best and best["model"] is state["model"] else None
        kept = f"checkpoint{state['epoch']:04}.pth"
        if keep and self._save(kept, state, equal=written):
            written = self.folder / kept
        if self._save("checkpoint.pth", state, previous=self.folder / "previous.pth", equal=written):
            self._unsaved = None
        return has_best

    def finish(self) -> None:
        """Raise CheckpointError where the run's last checkpoint could not be written: its results would be lost."""
        if self._unsaved is not None:
            raise self._unsaved

    def keep_evaluation(self, evaluator: DetectionResults, *, epoch: int) -> None:
        """Write an epoch's precision and recall to `eval/latest.pth`, every fiftieth also to `eval/###.pth`: as DETR.

        The same is in `eval.pth`, where DETR's --eval puts it and scripts look first. Nothing is written if there was
        nothing to measure against.
        """
        kept = [f"eval/{epoch:03}.pth"] if epoch % KEPT_EVALUATIONS == 0 else []
        # DETR keeps every fiftieth epoch, 000 first.
        for name in ("eval/latest.pth", *kept, "eval.pth"):
            self._try(name, partial(_write_precision, self.folder / name, evaluator))

    def _save(
        self, name: str, state: dict[str, Any], *, previous: Path | None = None, equal: Path | None = None
    ) -> bool:
        """Write a checkpoint, or copy the file `equal`, which has the same content; say so if it cannot be written."""
        if equal is not None:
            with suppress(OSError):
                copy_file(self.folder / name, equal, previous=previous)
                return True
        try:
            save_checkpoint(self.folder / name, state, previous=previous)
        except CheckpointError as error:
            print_once(f"warning: {error.line()} What was there is intact, and training goes on")
            self._unsaved = error
            return False
        return True

    def _try(self, name: str, write: Callable[[], object]) -> bool:
        """Write a file; where the system refuses, say so and return False."""
        try:
            write()
        except (OSError, RuntimeError) as error:
            # torch.save turns the system's errors into RuntimeErrors; those that are something else go on.
            cause = disk_error(error)
            if cause is None:
                raise
            print_once(
                f"warning: {self.folder / name}: cannot be written ({cause.strerror or cause}); training goes on"
            )
            return False
        return True


def write_predictions(folder: str | Path, evaluator: DetectionResults) -> list[Path]:
    """Write detections in COCO's results format and return the files.

    Boxes go to `predictions.json`, masks to `predictions_segm.json`: two files, because pycocotools takes areas from
    boxes as soon as a result has one.
    """
    paths = []
    for kind in evaluator.iou_types:
        paths.append(Path(folder) / PREDICTIONS[kind])
        with atomic_file(paths[-1]) as file:
            file.write(json.dumps(evaluator.results(kind)).encode())
    return paths


def write_results(folder: str | Path, evaluator: DetectionResults) -> list[Path]:
    """Write an evaluation's predictions, and its precision and recall to `eval.pth`; return the files."""
    return write_predictions(folder, evaluator) + _write_precision(Path(folder) / "eval.pth", evaluator)


def _write_precision(path: Path, evaluator: DetectionResults) -> list[Path]:
    """Write precision and recall of boxes, which `util.plot_utils.plot_precision_recall` draws; return the files.

    None is written if there was nothing to measure against.
    """
    if not evaluator.measured:
        return []
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        torch.save(evaluator.precision_recall("bbox"), file)
    return [path]


def log_row(
    train_stats: dict[str, Any], test_stats: dict[str, Any], *, epoch: int, global_step: int, n_parameters: int
) -> dict[str, Any]:
    """Return an epoch's line of log.txt with DETR's keys; `global_step` counts the steps of the whole run so far."""
    train_part = {f"train_{name}": value for name, value in train_stats.items()}
    test_part = {f"test_{name}": value for name, value in test_stats.items()}
    return train_part | test_part | {"epoch": epoch, "global_step": global_step, "n_parameters": n_parameters}


def _epoch_of(line: str) -> float:
    """Return the epoch of a log row; a line that is not whole counts as later than all."""
    try:
        # The last line of a killed run may be half a row.
        return float(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return math.inf
