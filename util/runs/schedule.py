"""Learning rate as a function of the step, so that a resumed run needs nothing but its step count."""

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

#: Key of a group of parameters whose rate the schedule does not lower; a warm-up counts for it, too.
KEEPS_RATE = "keeps_rate"


def lr_factor(
    step: int, *, schedule: str, total_steps: int, steps_per_epoch: int, lr_drop: int, warmup_steps: int = 0
) -> float:
    """Return the factor of the learning rate at `step` (from 0).

    `step`: a tenth after every `lr_drop` epochs, as in DETR. `cosine`: half a cosine from 1 to 0. `onecycle`: up from
    1/25 over the first 30 % (or `warmup_steps`), down to nearly 0, both as half a cosine (Smith and Topin 2019, in
    the form of torch's OneCycleLR). For `step` and `cosine` a warm-up rises linearly from 0 over `warmup_steps`.
    """
    if schedule == "onecycle":
        # OneCycleLR's own bounds: the rise ends a step early, and the last step has the least rate.
        peak, last = warmup_steps or 0.3 * total_steps - 1, total_steps - 1
        if step < peak:
            return _half_cosine(step / peak, start=1 / 25, end=1)
        return _half_cosine((step - peak) / max(1, last - peak), start=1, end=4e-6)
    warmup = min(1.0, (step + 1) / (warmup_steps + 1))
    if schedule == "cosine":
        return warmup * _half_cosine(min(1.0, step / max(1, total_steps)), start=1, end=0)
    # The exponent is how many drops lie behind: 0, 1, 2, ...
    return warmup * 0.1 ** (step // max(1, steps_per_epoch) // lr_drop)


def _half_cosine(progress: float, *, start: float, end: float) -> float:
    # cos falls from 1 to -1, so the fraction falls from 1 to 0.
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def build_lr_scheduler(optimizer: Optimizer, *, done_steps: int = 0, **schedule) -> LambdaLR:
    """Return a scheduler to call after every step, at the place where a run of `done_steps` steps left off.

    The factor multiplies `initial_lr`, on resume that of the checkpoint. Keywords: see `lr_factor`.
    """
    for group in optimizer.param_groups:  # a checkpoint brings it; a run that starts at --start_epoch has none
        group.setdefault("initial_lr", group["lr"])
    # LambdaLR counts from the step before: -1 is its word for a new run.
    last = done_steps - 1 if done_steps else -1
    # "step" that never drops is a constant rate after the warm-up.
    level = schedule | {"schedule": "step", "lr_drop": sys.maxsize}
    factors = [_factor(level if group.get(KEEPS_RATE) else schedule) for group in optimizer.param_groups]
    return LambdaLR(optimizer, factors, last_epoch=last)


def _factor(schedule: Mapping[str, Any]) -> Callable[[int], float]:
    # A function proper: of other callables the scheduler's state, and so the checkpoint, would have a copy.
    return lambda step: lr_factor(step, **schedule)


def is_alpha(name: str) -> bool:
    """Tell if a parameter is the alphas that an attention learns, which are in a group of their own."""
    return name.endswith(".alpha_logits")
