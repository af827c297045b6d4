"""Going on with a run: the optimizer's state, and files that a killed run did not come to write."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.optim import Optimizer

from ..dist.distributed import print_once
from ..errors import CheckpointError
from .averaged import with_better_weights
from .checkpoint import load_checkpoint, save_checkpoint
from .plan import is_training_state

#: What the optimizer's state brings along on --resume, whatever the command line says.
KEPT_ON_RESUME = ("lr", "lr_backbone", "weight_decay")


def restore_optimizer(optimizer: Optimizer, checkpoint: Mapping[str, Any] | None, *, flags: Mapping[str, Any]) -> None:
    """Load the optimizer's state of a training run's checkpoint; nothing from None or from weights alone.

    A line says which of `flags`, by name, give way to the checkpoint's. Raises CheckpointError when the optimizer's
    state is of another model.
    """
    if checkpoint is None or not is_training_state(checkpoint):
        return
    try:
        # Checks the number and sizes of the groups only; shapes are the model's, which has been compared before.
        optimizer.load_state_dict(checkpoint["optimizer"])
    # A file of somebody else's may hold anything under these keys.
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise CheckpointError(
            f"--resume: the optimizer's state does not fit this model and these flags ({error})"
        ) from error
    for name in KEPT_ON_RESUME:
        saved = checkpoint.get("args", {}).get(name)
        if isinstance(saved, int | float) and saved != flags[name]:
            print_once(f"--resume keeps --{name} {saved} of the checkpoint, not {flags[name]}; --init_from starts anew")


def repair_files(folder: Path | None, checkpoint: Mapping[str, Any] | None, path: str | None) -> float:
    """Write the files that belong to a resumed checkpoint and are not in the run's folder; return the best AP so far.

    `checkpoint.pth` is missing or old where the run was killed before it was written. Where `best.pth` is missing,
    though the checkpoint says that there is a best, the best checkpoint that is still there takes its place. A line
    is printed for each. Raises CheckpointError where the folder cannot be written.

    Args:
        folder: of the run that goes on; None where this process writes no files.
        checkpoint: the one that is resumed; None, or weights alone, for a new run: its best AP is minus infinity.
        path: of its file.
    """
    if checkpoint is None or path is None or not is_training_state(checkpoint):
        return -math.inf
    # Below any AP: a first evaluation of 0 is a best one.
    best_ap = checkpoint.get("best_ap", -math.inf)
    if folder is not None:
        _repair_last(folder / "checkpoint.pth", checkpoint, Path(path))
        if best_ap > -math.inf and not (folder / "best.pth").exists():
            best_ap = _repair_best(folder / "best.pth", checkpoint, Path(path))
    return best_ap


def _repair_last(last: Path, checkpoint: Mapping[str, Any], source: Path) -> None:
    """Write `checkpoint.pth` anew where it is damaged, or older than the folder's checkpoint that is resumed."""
    if source.name == last.name or not source.is_file() or source.parent.resolve() != last.parent.resolve():
        return
    # Older than the file that is resumed, for example `previous.pth`: a run killed between the two writes.
    if not _is_whole(last) or last.stat().st_mtime < source.stat().st_mtime:
        save_checkpoint(last, dict(checkpoint))
        print_once(f"{last}: was not written when the run stopped; now it is that of epoch {checkpoint['epoch']}")


def _is_whole(path: Path) -> bool:
    try:
        load_checkpoint(path)
    except CheckpointError:
        return False
    return True


def _repair_best(best: Path, checkpoint: Mapping[str, Any], source: Path) -> float:
    """Write the best checkpoint that is there to `best`, and return its AP; minus infinity where none is known."""
    ap, content = -math.inf, checkpoint
    for candidate in _earlier(best.parent, checkpoint, source):
        # Strictly above: of two with the same AP the one that comes first, the checkpoint that is resumed.
        if _own_ap(candidate) > ap:
            ap, content = _own_ap(candidate), candidate
    save_checkpoint(best, with_better_weights(content))
    lost = "" if ap == checkpoint["best_ap"] else f"; that of AP {checkpoint['best_ap']:.3f} is lost"
    print_once(f"{best}: was missing; now it is that of epoch {content['epoch']}, the best that is there{lost}")
    return ap


def _earlier(folder: Path, checkpoint: Mapping[str, Any], source: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the checkpoint and those of earlier epochs beside it or in the run's folder, one in memory at a time."""
    yield checkpoint
    for place in sorted({folder.resolve(), source.parent.resolve()}):
        for path in [place / "best.pth", place / "previous.pth", *sorted(place.glob("checkpoint[0-9]*.pth"))]:
            try:
                candidate = load_checkpoint(path)
            except CheckpointError:
                continue
            if is_training_state(candidate) and candidate["epoch"] <= checkpoint["epoch"]:
                yield candidate if path.name != "best.pth" else {"ap": candidate.get("best_ap", -math.inf)} | candidate


def _own_ap(checkpoint: Mapping[str, Any]) -> float:
    """Return the AP of a checkpoint's own epoch; minus infinity in files that do not say it."""
    return checkpoint.get("ap", -math.inf)
