"""The epochs and steps that a run consists of: plain arithmetic, so that resuming can be tested without a model."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class EpochPart:
    """The steps of one epoch that are made in one go: a whole epoch, its beginning, or its rest.

    Attributes:
        epoch: number of the epoch, from 0.
        skip: steps of this epoch that were made before.
        steps: steps to make now, after the skipped ones.
    """

    epoch: int
    skip: int
    steps: int


@dataclass(frozen=True)
class TrainingPlan:
    """All steps of a run, counted from 0 over its epochs, and how many of them are made already.

    Attributes:
        steps_per_epoch: steps of a whole epoch, at least 1.
        epochs: epochs of the run.
        max_steps: end after so many steps even within an epoch; 0: no limit.
        done: steps made before this process started.
        unevaluated: the evaluation that follows the last of these steps, if there is one, is still to be made.
    """

    steps_per_epoch: int
    epochs: int
    max_steps: int = 0
    done: int = 0
    unevaluated: bool = False

    @property
    def total(self) -> int:
        """Steps of the whole run, those already made included."""
        # 0 is no limit.
        return min(self.epochs * self.steps_per_epoch, self.max_steps or sys.maxsize)

    @property
    def left(self) -> int:
        """Steps that are still to be made."""
        return max(0, self.total - self.done)

    @property
    def first_epoch(self) -> int:
        """The epoch that the next step belongs to, or the one that is still to be evaluated."""
        # `pending` is 1 where the epoch's steps are all made: one step less lies in that epoch.
        return (self.done - self.pending) // self.steps_per_epoch

    @property
    def pending(self) -> bool:
        """True where an evaluation comes before the next step."""
        at_end = self.done % self.steps_per_epoch == 0 or self.done >= self.total
        return self.unevaluated and self.done > 0 and at_end

    def parts(self) -> Iterator[EpochPart]:
        """Yield the steps that are left, epoch by epoch; first the rest of an epoch that was cut off.

        A part of no steps is an evaluation alone.
        """
        step = self.done
        if self.pending:
            yield EpochPart(self.first_epoch, step - self.first_epoch * self.steps_per_epoch, 0)
        while step < self.total:
            # Whole epochs behind, and steps into the next one.
            epoch, skip = divmod(step, self.steps_per_epoch)
            steps = min(self.steps_per_epoch - skip, self.total - step)
            yield EpochPart(epoch, skip, steps)
            step += steps

    def cut(self, part: EpochPart, done: int) -> EpochPart:
        """Return a part as far as it was made when `done` steps of the whole run were."""
        return replace(part, steps=done - part.epoch * self.steps_per_epoch - part.skip)

    def ends_epoch(self, part: EpochPart) -> bool:
        """Return True for a part that the next epoch follows."""
        return part.skip + part.steps == self.steps_per_epoch

    def evaluated_after(self, part: EpochPart, *, every: int) -> bool:
        """Return True where an evaluation follows a part: in every so many-th epoch, and at the end of the run."""
        ends_run = part.epoch * self.steps_per_epoch + part.skip + part.steps >= self.total
        return ends_run or (part.epoch + 1) % every == 0

    def state_after(self, part: EpochPart) -> dict[str, int]:
        """Return a checkpoint's part of the plan: the last epoch, the steps made, and the steps of an epoch."""
        made = part.epoch * self.steps_per_epoch + part.skip + part.steps
        return {"epoch": part.epoch, "step": made, "steps_per_epoch": self.steps_per_epoch}


def steps_of(batches: int, accumulate: int) -> int:
    """Return the steps that so many batches make, `accumulate` batches a step; a shorter last one counts."""
    return -(-batches // accumulate)


def steps_done(checkpoint: Mapping[str, Any] | None, *, start_epoch: int, steps_per_epoch: int) -> int:
    """Return how many steps of this run's length a checkpoint stands for.

    Args:
        checkpoint: of a training run, whose `epoch` is the last one it trained; None, or weights alone, for a new run.
        start_epoch: where a new run starts.
        steps_per_epoch: of this run. With another batch size an epoch has another number of steps: the same part of
            the data counts as done, to the nearest step.
    """
    if checkpoint is None or not is_training_state(checkpoint):
        return start_epoch * steps_per_epoch
    if "steps_per_epoch" not in checkpoint:  # a file of the original: saved after whole epochs
        return (checkpoint["epoch"] + 1) * steps_per_epoch
    # Epochs, with a fraction, times this run's steps of an epoch.
    return round(checkpoint["step"] / checkpoint["steps_per_epoch"] * steps_per_epoch)


def is_training_state(checkpoint: Mapping[str, Any]) -> bool:
    """Return True for a checkpoint that training can go on from, False for a file of weights alone."""
    return {"optimizer", "lr_scheduler", "epoch"} <= checkpoint.keys()
