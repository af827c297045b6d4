"""Constants that the steps of a run share: number type, schedule, log, and the calls that follow them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from .dist.precision import Precision
from .metrics import StepLog
from .profiling.batch_shapes import BatchShapes
from .profiling.phases import StepPhases
from .progress import Progress
from .runs.guard import StepGuard
from .runs.plan import EpochPart


@dataclass(frozen=True)
class StepContext:
    """Constants of a run that its steps are made with; every default is plain DETR.

    Attributes:
        precision: number type of the model's products, and the scale of the loss; by default float32, unscaled.
        phases: tells profilers which part of a step is under way; once it is `finished` no further step is made.
        lr_scheduler: moves after every step.
        before_step: called when a step's gradients are there, before they are clipped.
        after_step: called after every step of the optimizer.
        after_batch: called after every step of training and every batch of an evaluation.
        guard: leaves out steps that are not finite; None: the log alone looks for them.
        watch: given the log and the counts of the epoch before its first step.
        ended: asked after every step; True ends the epoch there.
        progress: counts the steps of the whole run; None makes one for this epoch.
        print_freq: steps between two lines of the log, and between two reads of the device.
        accumulate: batches a step, whose gradient is that of one batch of all their images.
        part: the steps of the epoch to make, of which the loader begins with the first; None for all.
        max_dets: detections of a class in an image that count in an evaluation.
    """

    precision: Precision = field(default_factory=lambda: Precision(torch.device("cpu")))
    phases: StepPhases = field(default_factory=StepPhases)
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None
    before_step: Callable[[], None] = lambda: None
    after_step: Callable[[], None] = lambda: None
    after_batch: Callable[[], None] = lambda: None
    guard: StepGuard | None = None
    watch: Callable[[StepLog, BatchShapes], None] = lambda log, shapes: None
    ended: Callable[[], bool] = lambda: False
    progress: Progress | None = None
    print_freq: int = 10
    accumulate: int = 1
    part: EpochPart | None = None
    max_dets: int = 100
