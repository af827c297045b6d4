"""Less memory for more time: layers whose insides are computed again in the backward pass (`--grad_checkpoint`).

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost": only a layer's inputs are kept. Gradients are the
same, for random draws are repeated.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .joined_stage import JoinedStage, has_blocks


class RecomputedStage(JoinedStage):
    """A ResNet's stage that keeps only the inputs of its blocks for the backward pass; names of parameters stay."""

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks over (B, C, H, W)."""
        # Without gradients nothing is kept in any case.
        if not torch.is_grad_enabled():
            return super().forward(x)
        for block in self:
            x = run_again_for_gradients(block)(x)
        return x


def recompute_stages(network: nn.Module) -> int:
    """Have the stages of a ResNet keep only the inputs of their blocks; return how many stages there are."""
    stages = {name: stage for name, stage in network.named_children() if has_blocks(stage)}
    for name, stage in stages.items():
        # Children under the numbers they had, so `layer1.0.conv1.weight` keeps its name.
        setattr(network, name, RecomputedStage(*stage.children()))
    return len(stages)


def run_again_for_gradients(layer: nn.Module) -> Callable[..., Tensor]:
    """Return a function that runs `layer`, and in training keeps no more than its inputs."""

    def run(*args: Any, **kwargs: Any) -> Tensor:
        # Without gradients nothing is kept in any case.
        if not torch.is_grad_enabled():
            return layer(*args, **kwargs)
        # The other kind wants an input that needs a gradient: with a frozen stem a stage's first input has none.
        return checkpoint(layer, *args, use_reentrant=False, **kwargs)

    return run
