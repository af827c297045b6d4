"""Several batches that count as one: their gradients add up to that of a batch of all their images."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .plan import steps_of


class StepBatches:
    """The batches of each step: lists of `size` consecutive batches of a loader; the last list may be shorter.

    Args:
        loader: the batches of an epoch.
        size: batches a step.
    """

    def __init__(self, loader: Iterable[Any], size: int) -> None:
        self.loader = loader
        self.size = size

    def __len__(self) -> int:
        return steps_of(len(cast(Sized, self.loader)), self.size)

    def __iter__(self) -> Iterator[list[Any]]:
        batches = iter(self.loader)
        # An empty list ends it: the loader has no more.
        while batches_of_step := list(islice(batches, self.size)):
            yield batches_of_step


def without_exchange(model: nn.Module, *, last: bool) -> AbstractContextManager:
    """Return a context for one of a step's batches: processes exchange gradients once, in the `last`."""
    # Gradients add up locally in `.grad`; the last backward exchanges the sum.
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()


def add_losses(
    sums: dict[str, Tensor], losses: Mapping[str, Tensor], weights: Mapping[str, float], batches: int
) -> dict[str, Tensor]:
    """Add a batch's losses to those of the batches before it in the same step of so many batches.

    Losses with a weight are divided by all of the step's objects already and add up; of those that are only logged the
    mean is taken.
    """
    parts = {name: value.detach() / (1 if name in weights else batches) for name, value in losses.items()}
    return {name: sums[name] + part if sums else part for name, part in parts.items()}
