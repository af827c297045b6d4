"""A second copy of weights and optimizer state on the device, to go back to."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..dist.exchange import own_part


class KeptWeights:
    """A copy of a model's state and its optimizer's, where they are.

    Args:
        model: its parameters and buffers are kept.
        optimizer: its state may be made later, by its first step; before that its numbers are zeros.
        also: other tensors that follow the weights.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, also: Sequence[Tensor] = ()) -> None:
        self.model, self.optimizer, self.also = model, optimizer, also
        self.taken: dict[Any, Tensor] = {}

    @torch.no_grad()
    def take(self) -> None:
        """Keep what is there now, in the place of what was kept before."""
        for name, value in self._tensors().items():
            if name in self.taken:
                self.taken[name].copy_(value)
            else:
                self.taken[name] = value.detach().clone()

    @torch.no_grad()
    def put_back(self) -> None:
        """Make weights and state what they were at the last `take`."""
        for name, value in self._tensors().items():
            if name in self.taken:
                # In place: the optimizer, compiled graphs and averages hold these very tensors.
                value.copy_(self.taken[name])
            else:
                value.zero_()

    def _tensors(self) -> dict[Any, Tensor]:
        found: dict[Any, Tensor] = dict(self.model.state_dict()) | dict(enumerate(self.also))
        for number, state in enumerate(own_part(self.optimizer).state.values()):
            # AdamW's step counts are tensors, too, and go back with the moments.
            found |= {(number, what): value for what, value in state.items() if isinstance(value, Tensor)}
        return found
