"""Several batches that count as one: their gradients add up to that of a batch of all their images."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

from torch import Tensor, nn


class Windows:
    """Groups of `size` consecutive batches of a loader, as lists; the last may be shorter."""

    def __init__(self, loader: Iterable, size: int) -> None:
        self.loader = loader
        self.size = size

    def __len__(self) -> int:
        return windows_of(len(self.loader), self.size)

    def __iter__(self) -> Iterator[list[Any]]:
        batches = iter(self.loader)
        while window := list(islice(batches, self.size)):
            yield window


def windows_of(batches: int, size: int) -> int:
    """How many groups of `size` there are in so many batches, a shorter last one included."""
    return -(-batches // size)


def without_exchange(model: nn.Module, *, last: bool) -> AbstractContextManager:
    """A context for one of a window's batches: processes exchange gradients once, in the `last`."""
    return nullcontext() if last or not hasattr(model, "no_sync") else model.no_sync()


def add_losses(
    sums: dict[str, Tensor], losses: Mapping[str, Tensor], weights: Mapping[str, float], batches: int
) -> dict[str, Tensor]:
    """Add a batch's losses to those of the batches before it in a window of so many.

    Losses with a weight are divided by the whole window's objects already and add up; of what is only logged the mean is taken.
    """
    parts = {name: value.detach() / (1 if name in weights else batches) for name, value in losses.items()}
    return {name: sums[name] + part if sums else part for name, part in parts.items()}
