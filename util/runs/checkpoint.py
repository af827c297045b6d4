"""Checkpoints: writing them whole, reading them without running what is inside, fitting them to a model.

A checkpoint is a dict with DETR's keys (`model`, `optimizer`, `lr_scheduler`, `epoch`, `args`) and more, in plain
types. Files made by DETR itself hold an `argparse.Namespace` and at times a path; an allow-list lets them in.
"""

import argparse
import os
import pathlib
import pickle
import re
import warnings
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from ..dist.distributed import print_once
from ..errors import CheckpointError, UserError
from ..web.download import download, is_url
from .atomic import atomic_file, disk_error
from .checksum import SummedFile, is_damaged
from .fields import odd_field
from .plain import to_plain
from .plan import is_training_state

#: Paths are read as pure ones, whichever system and Python wrote them: plain data that touches no disk.
_ALLOWED: list[Any] = [argparse.Namespace] + [
    (pathlib.PureWindowsPath if "Windows" in name else pathlib.PurePosixPath, f"{module}.{name}")
    for module in ("pathlib", "pathlib._local")
    for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
]


def save_checkpoint(
    path: str | os.PathLike, state: dict[str, Any], *, previous: str | os.PathLike | None = None
) -> None:
    """Write `state` to `path`, with a checksum, so that `path` always holds a whole checkpoint. Call it on rank 0 only.

    All but the weights under `model` is turned into plain types. Raises CheckpointError when the disk is full
    or the folder cannot be written; the file that was there stays. After success it is kept as `previous`.
    """
    # numpy's numbers and paths would make torch.load refuse the file: it reads tensors and plain values alone.
    plain = {key: value if key == "model" else to_plain(value) for key, value in state.items()}
    try:
        with atomic_file(path, previous=previous) as file:
            summed = SummedFile(file)
            torch.save(plain, cast(IO[bytes], summed))
            summed.finish()
    except (OSError, RuntimeError) as error:
        cause = disk_error(error)
        if cause is None:
            raise
        raise CheckpointError(f"{path}: cannot be written ({cause.strerror or cause}); is the disk full?") from error


def load_checkpoint(path_or_url: str | os.PathLike) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: a dict with at least `model`; `args`, if there, is a plain dict.

    A URL is downloaded first (see `util.web.download`). A bare state dict is taken as the weights. Nothing in the file
    is ever executed. Raises CheckpointError for a file that is missing, broken, unsafe, or no checkpoint.
    """
    path = download(str(path_or_url)) if is_url(path_or_url) else path_or_url
    content = _read(path)
    # A file of torchvision's, for one: names and tensors and nothing around them.
    if _is_state_dict(content):
        content = {"model": content}
    if not isinstance(content, dict) or not _is_state_dict(content.get("model")):
        raise CheckpointError(f"{path_or_url}: not a checkpoint: it holds no weights under 'model'")
    if "args" in content:
        content["args"] = to_plain(content["args"])
    if is_training_state(content) and (wrong := odd_field(content)):
        raise CheckpointError(f"{path_or_url}: not a checkpoint of a training: {wrong}")
    return content


def find_resume(resume: str, output_dir: str | os.PathLike) -> str | None:
    """Return the file to resume from, None to start anew.

    '' is None; 'auto' is the newest `checkpoint.pth`, `checkpoint####.pth` or `previous.pth` in `output_dir` that is
    whole, after all of them `best.pth` (None when there is none; each one passed over is printed); a folder is that of
    its own checkpoints, of which there must be one; anything else is returned as it is.
    Raises UserError for 'auto' without a folder, CheckpointError when there are checkpoints but none can be read:
    to start anew then would overwrite what might be saved by hand.
    """
    if resume and resume != "auto" and not is_url(resume) and Path(resume).is_dir():
        found = _newest_whole(resume, f"--resume {resume}")
        if found is None:
            raise CheckpointError(
                f"--resume {resume}: no checkpoint.pth, checkpoint####.pth or best.pth in this folder"
            )
        return found
    if resume != "auto":
        return resume or None
    if not output_dir:
        raise UserError("--resume auto looks in --output_dir, which is not given")
    return _newest_whole(output_dir, "--resume auto")


def _newest_whole(folder: str | os.PathLike, flag: str) -> str | None:
    """Return the newest checkpoint of a run in a folder that is whole; None where there is none at all."""
    named = re.compile(r"(checkpoint\d*|previous|best)\.pth")
    found = sorted((path for path in Path(folder).glob("*.pth") if named.fullmatch(path.name)), key=_newest_first)
    for passed, path in enumerate(found):
        try:
            load_checkpoint(path)
        except CheckpointError as error:
            print_once(f"{flag}: passing over {error.line()}")
        else:
            if passed:
                print_once(f"{flag}: {path} is the newest whole checkpoint")
            return str(path)
    if found:
        raise CheckpointError(f"{flag}: no checkpoint in {folder} can be read; move them away to start anew")
    return None


def load_model(model: torch.nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike) -> None:
    """Load all weights of `checkpoint` into `model`; both must have the same names and shapes.

    The prefixes `module.` (DistributedDataParallel) and `detr.` (the detector inside a segmentation model) do not
    matter. `path` is for messages. Raises CheckpointError that says what differs, before anything is changed.
    """
    own = model.state_dict()
    stored = match_prefixes(checkpoint["model"], own)
    _check_class_count(stored, own, path)
    # All three before anything is loaded, or a refusal would leave a model half loaded.
    misfits, missing, unexpected = differences(stored, own)
    _refuse(path, "has other shapes than this model:", [two_shapes(name, stored, own) for name in misfits])
    _refuse(path, "lacks", missing)
    _refuse(path, "has what this model lacks:", unexpected)
    model.load_state_dict({name: stored[name] for name in own if name in stored}, strict=False)


def load_frozen(detector: torch.nn.Module, checkpoint: dict[str, Any], path: str | os.PathLike) -> str:
    """Load the detector under a mask head and return one line on what was loaded.

    The checkpoint is one of a detector or of one with masks; `path` is for messages. Raises CheckpointError as
    `load_model` does.
    """
    load_model(detector, checkpoint, path)
    tensors = sum(not _is_counter(name) for name in detector.state_dict())
    rest = len(checkpoint["model"]) - len(match_prefixes(checkpoint["model"], detector.state_dict()))
    left = f"; {rest} tensors of its own mask head were left there" if rest else ""
    return (
        f"--frozen_weights {path}: {tensors} tensors of the detector loaded and frozen{left}; "
        "the mask head alone trains"
    )


def _read(path: str | os.PathLike) -> Any:
    try:
        file = open(path, "rb")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    with file:
        try:
            if is_damaged(file):
                raise ValueError("the checksum is of another content")
            with torch.serialization.safe_globals(_ALLOWED), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the pickle protocol; what cannot be read is told below
                return torch.load(file, map_location="cpu", weights_only=True)
        # What torch.load raises on foreign bytes depends on where they stop making sense: RuntimeError, EOFError,
        # UnpicklingError, KeyError, OSError from a seek, ... All of it means that this is not a whole checkpoint.
        except Exception as error:
            raise CheckpointError(f"{path}: {_why_not(error)}") from error


def _why_not(error: Exception) -> str:
    refused = re.search(r"GLOBAL ([\w.]+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if refused is None:
        return "truncated, damaged, or not a checkpoint at all"
    return (
        f"refused, because it holds {refused.group(1)}: only tensors and plain values are read, "
        "since anything else could run code"
    )


def _newest_first(path: Path) -> tuple[bool, float, str]:
    """Sort key; of two written at once `checkpoint.pth` comes before `checkpoint0009.pth`, and `best.pth` is last."""
    return path.name == "best.pth", -path.stat().st_mtime, path.name


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(item, Tensor) for item in value.values())


def match_prefixes(stored: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `stored` with the names that the model of `own` uses."""
    # All of them: a model may have a part called module.
    if all(name.startswith("module.") for name in stored):
        stored = {name.removeprefix("module."): value for name, value in stored.items()}
    inner_stored = any(name.startswith("detr.") for name in stored)
    inner_own = any(name.startswith("detr.") for name in own)
    if inner_stored and not inner_own:  # only the detector of a segmentation model is asked for
        return {name.removeprefix("detr."): value for name, value in stored.items() if name.startswith("detr.")}
    # A detector's weights under a mask head; the head itself is then reported as missing.
    if inner_own and not inner_stored:
        return {f"detr.{name}": value for name, value in stored.items()}
    return stored


def differences(stored: dict[str, Tensor], own: dict[str, Tensor]) -> tuple[list[str], list[str], list[str]]:
    """Return the names whose shapes differ, those only the model has, and those only the checkpoint has."""
    # In the model's order, so that the first one named is the first one built.
    misfits = [name for name in own if name in stored and stored[name].shape != own[name].shape]
    missing = [name for name in own if name not in stored and not _is_counter(name)]
    unexpected = [name for name in stored if name not in own and not _is_counter(name)]
    return misfits, missing, unexpected


def _is_counter(name: str) -> bool:
    """Batches a BatchNorm has seen: a frozen one does not count them, and nothing depends on it."""
    return name.endswith("num_batches_tracked")


def two_shapes(name: str, stored: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """Name a tensor with its shape in the checkpoint and in the model."""
    return f"{name}: {tuple(stored[name].shape)} in the checkpoint, {tuple(own[name].shape)} in this model"


def _check_class_count(stored: dict[str, Tensor], own: dict[str, Tensor], path: str | os.PathLike) -> None:
    for name in own:
        if name.endswith("class_embed.weight") and name in stored and len(stored[name]) != len(own[name]):
            # One row more than classes: the last is "no object".
            theirs, ours = len(stored[name]) - 1, len(own[name]) - 1
            raise CheckpointError(
                f"{path}: made for {theirs} classes, this model has {ours}; give --num_classes {theirs}, "
                f"or --init_from {path} to load all that fits and learn the rest"
            )


def _refuse(path: str | os.PathLike, what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise CheckpointError(
            f"{path}: {what} {'; '.join(names[:3])}{more}: made by a model of other flags; "
            f"--init_from {path} loads what fits"
        )
