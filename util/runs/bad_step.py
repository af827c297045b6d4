"""The file of a step whose loss was not finite: all that is needed to make the step again."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..nested_tensor import NestedTensor
from .atomic import atomic_file, disk_error
from .guard import GuardedStep
from .plain import to_plain
from .random_state import as_tensors

#: The file in --output_dir.
NAME = "bad_step.pt"


def record_of(step: GuardedStep, numbers: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a step in plain types and tensors, as torch.load reads them with weights_only.

    Args:
        step: as the guard had it.
        numbers: its losses, the norm of its gradient, and the objects that its losses were divided by.
        state: of the model before it.
    """
    batches = []
    for samples, targets in step.batches:
        # As the loader yielded them, bytes on the host: a quarter of what the floats would take.
        images = [samples.tensors, samples.mask] if isinstance(samples, NestedTensor) else [samples, None]
        batches.append({"images": images[0], "mask": images[1], "targets": [dict(target) for target in targets]})
    return {
        **to_plain(dict(numbers)),
        "batches": batches,
        "random": as_tensors(step.random),
        "model": {name: value.detach().cpu() for name, value in state.items()},
        "threads": torch.get_num_threads(),
    }


def write_bad_step(path: str | os.PathLike, record: Mapping[str, Any]) -> str:
    """Write a record; return a line that says where it is and what to do with it, or why it is not there."""
    try:
        with atomic_file(path) as file:
            torch.save(dict(record), cast(IO[bytes], file))
    except (OSError, RuntimeError) as error:
        cause = disk_error(error)
        if cause is None:
            raise
        return f"{path}: the step could not be written ({cause.strerror or cause})"
    return f"{path} holds the step before the damage: python -m util.replay {path} makes it again"


def read_bad_step(path: str | os.PathLike) -> dict[str, Any]:
    """Read a record; nothing in the file is executed. Raises CheckpointError."""
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as for checkpoints: of many kinds, and all mean that this is no such file
        raise CheckpointError(f"{path}: truncated, damaged, or no {NAME} at all") from error
    if not isinstance(record, dict) or not {"batches", "random", "model", "losses", "args"} <= record.keys():
        raise CheckpointError(f"{path}: not a {NAME}: it holds no step")
    return record
