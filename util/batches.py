"""Batches as a loader yields them, and on their way to the device."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from .nested_tensor import NestedTensor
from .targets import Target

#: Images of a batch and their targets, as a loader yields them.
Batch = tuple[NestedTensor, Sequence[Target]]


class Loader(Protocol):
    """Batches with a length, as of a DataLoader."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def ids_of(targets: Sequence[Target]) -> list[int]:
    """Image ids of a batch, for messages and results; none for targets that do not have them."""
    return [int(t["image_id"]) for t in targets if "image_id" in t]


def to_device(
    samples: NestedTensor, targets: Sequence[Target], device: torch.device
) -> tuple[NestedTensor, Sequence[Target]]:
    """Move a batch and normalise bytes there; copies from pinned memory do not wait.

    A batch of another class than ours only needs `to(device)`, and holds floats.
    """
    moved = [
        {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets
    ]
    if not isinstance(samples, NestedTensor):
        return samples.to(device), moved
    return samples.to(device, non_blocking=True).normalized(), moved
