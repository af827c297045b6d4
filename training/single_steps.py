"""Training steps one at a time, each with its losses: for short trials that look at every step and keep nothing."""

from collections.abc import Sequence

import torch

import building
from building import Detector, Setup
from engine import Batch, StepContext, add_gradients, optimizer_step, weights_of
from util.dist.distributed import Launch
from util.errors import UserError


class SingleSteps:
    """Steps of a detector with the run's optimizer, precision and clipping, at learning rates that the caller sets."""

    def __init__(self, run: Setup, detector: Detector) -> None:
        cfg = run.cfg
        self.run, self.detector = run, detector
        rates = {"lr": cfg.lr, "lr_backbone": cfg.lr_backbone, "weight_decay": cfg.weight_decay}
        rates["alpha_lr_mult"] = cfg.alpha_lr_mult
        self.optimizer = building.build_optimizer(detector.model, **rates)
        self.context = StepContext(run.place.precision, accumulate=cfg.accumulate)
        #: The rate of each group of parameters: the backbone keeps its ratio to the rest.
        self.rates = [group["lr"] for group in self.optimizer.param_groups]

    def step(self, batches: Sequence[Batch], factor: float = 1.0) -> dict[str, float]:
        """Train on the batches of one step at `factor` times the run's learning rates; return the weighted losses.

        `loss` is the sum that is trained on. The device is waited for: a trial reads every step.
        """
        detector, run = self.detector, self.run
        detector.model.train()
        detector.criterion.train()
        # No scheduler: the caller's factor is the schedule, and a scheduler's step would multiply with it.
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = rate * factor
        losses = add_gradients(detector.model, detector.criterion, batches, run.place.device, self.context)
        optimizer_step(detector.model, self.optimizer, run.cfg.clip_max_norm, self.context)
        weights = weights_of(detector.criterion)
        names = [name for name in losses if name in weights]
        # One copy from the device for all losses, (L,); a float() for each would wait as often as there are losses.
        values = (torch.stack([losses[name].detach().float() for name in names])).tolist()
        weighted = {name: value * weights[name] for name, value in zip(names, values)}
        return {"loss": sum(weighted.values())} | weighted


def refuse_several_processes(flag: str, launch: Launch) -> None:
    """Raise UserError where a trial that is made by one process was started in several."""
    if launch.distributed:
        raise UserError(f"{flag} is made by one process: start it with python main.py, without a launcher")
