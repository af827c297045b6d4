"""An exponential moving average of the weights, for --ema: kept beside the model, put into it for an evaluation."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from building import without_wrapper
from util.dist.distributed import is_dist_avail_and_initialized, print_once
from util.runs.checkpoint import match_prefixes


class WeightAverage:
    """The average over the steps so far of a model's floating-point weights and buffers.

    After the n-th step (from 0) `average += (1 - d) * (weights - average)` with d = min(decay, (1 + n) / (10 + n)), as
    in TensorFlow's ExponentialMovingAverage: early steps, far from where training leads, are soon forgotten. Statistics
    of batch norms that train are averaged too, for those of the last step belong to other weights; integers are the
    model's.

    Args:
        model: as it is trained; may be inside DistributedDataParallel, where each process keeps the same average.
        decay: between 0 and 1; 0.999 averages over about the last 1,000 steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = without_wrapper(model)
        self.decay = decay
        self.updates = 0
        #: The model's own tensors that training may change, by name, and their averages. Found once: to go through all
        #: modules takes longer than a small model's average.
        self.weights = self._changing_weights()
        self.averages = {name: value.clone() for name, value in self.weights.items()}

    def update(self) -> None:
        """Take in the weights after a step."""
        # 0.1 at the first step, 0.5 at the ninth, 0.92 at the hundredth: random first weights are forgotten quickly.
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        # All tensors in one call: on a GPU a few kernels instead of one for each of hundreds of weights.
        torch._foreach_lerp_(list(self.averages.values()), list(self.weights.values()), 1 - decay)
        self.updates += 1

    @contextmanager
    def in_model(self) -> Iterator[None]:
        """Put the average into the model while the context lasts; afterwards it has its own weights again."""
        # These share the memory of the model's tensors: copying into them changes the model.
        weights = self.weights
        # A second copy on the device for as long as an evaluation lasts: swapping would change the tensors' addresses,
        # which compiled graphs and folded norms hold.
        own = {name: value.clone() for name, value in weights.items()}
        self._copy(self.averages, weights)
        if is_dist_avail_and_initialized():
            # Statistics of batch norms differ from process to process; those of rank 0 count, as in training.
            for name, _ in self.model.named_buffers():
                if name in weights:
                    dist.broadcast(weights[name], src=0)
        try:
            yield
        finally:
            self._copy(own, weights)

    def state(self) -> dict[str, Any]:
        """Return a checkpoint's part: a whole state dict as `ema`, and how many steps are in it."""
        whole = {name: self.averages.get(name, value) for name, value in self.model.state_dict().items()}
        return {"ema": whole, "ema_updates": self.updates}

    def restore(self, checkpoint: Mapping[str, Any] | None) -> None:
        """Go on with the average of a checkpoint to resume; say so where it has none."""
        if checkpoint is None:
            return
        if "ema" not in checkpoint:
            print_once("--ema: the checkpoint has no averaged weights; the average starts at its weights")
            return
        # A run with --frozen_weights or DistributedDataParallel names its weights `detr.` or `module.` in front.
        stored = match_prefixes(dict(checkpoint["ema"]), self.model.state_dict())
        self._copy({name: stored[name] for name in self.averages}, self.averages)
        self.updates = checkpoint["ema_updates"]

    def _changing_weights(self) -> dict[str, Tensor]:
        """Return the model's own floating-point tensors, not copies, but for parameters that are never trained."""
        # DETR's stem, layer1 and frozen norms: they never move, so their average is themselves.
        still = {name for name, parameter in self.model.named_parameters() if not parameter.requires_grad}
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if value.is_floating_point() and name not in still}

    @staticmethod
    def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
        for name, value in target.items():
            value.copy_(source[name])  # in place: what was compiled or folded from the tensors sees the change


def start_average(model: nn.Module, decay: float | None, checkpoint: Mapping[str, Any] | None) -> WeightAverage | None:
    """Return the average that --ema asks for, that of a checkpoint to resume where it has one; None without --ema."""
    if decay is not None:
        average = WeightAverage(model, decay)
        average.restore(checkpoint)
        return average
    if checkpoint is not None and "ema" in checkpoint:
        print_once("note: the checkpoint's averaged weights are left behind; --ema DECAY goes on with them")
    return None
