"""Checkpoints within an epoch: when they are due, what they hold beside weights and optimizer, and how a run goes on.

A run that goes on after any step makes the steps that it would have made without the break, to the last bit on the CPU
with the same processes, batches and workers: every rank's random states, those of its loader's workers, and the losses
logged so far come back. The images before are not loaded again.
"""

import time
from collections.abc import Mapping
from typing import Any

import torch

from datasets.resumable import ResumableLoader
from util.dist.distributed import all_gather, get_rank, get_world_size, print_once
from util.metrics import StepLog
from util.profiling.batch_shapes import BatchShapes
from util.runs.interval import Interval
from util.runs.plan import EpochPart
from util.runs.random_state import as_tensors, random_state, set_random_state

#: Facts that must be equal for a run to go on exactly where it was.
FACTS = {"world_size": "processes", "batch_size": "--batch_size", "accumulate": "--accumulate"}


class WithinEpoch:
    """The place of this process in an epoch.

    Args:
        checkpoint: the one that is resumed, or None.
        loader: of the training images.
        facts: batch_size and accumulate of this run.
        every: when checkpoints within an epoch are due; None: never.
        agree_every: steps between two looks at the clock, which the processes must agree on.
    """

    def __init__(
        self,
        checkpoint: Mapping[str, Any] | None,
        loader: ResumableLoader,
        *,
        device: torch.device,
        facts: Mapping[str, int],
        every: Interval | None = None,
        agree_every: int = 1,
    ) -> None:
        self.loader = loader
        self.device = device
        self.facts = {"world_size": get_world_size(), **facts}
        self.every = every
        self.agree_every = agree_every
        self.saved = time.monotonic()
        self._resumed: Mapping[str, Any] | None = (checkpoint or {}).get("within_epoch")
        self._log: StepLog | None = None
        self._shapes: BatchShapes | None = None

    def begin(self, part: EpochPart) -> None:
        """Bring loader and random generators to the beginning of a part; call it after both are set to its epoch."""
        resumed, self._resumed = self._resumed, None
        self._to_restore: Mapping[str, Any] | None = None
        if part.skip == 0:
            return
        # The loader counts batches, the plan counts steps of `accumulate` batches each.
        first = part.skip * self.facts["accumulate"]
        if resumed is None:  # of an earlier version
            self.loader.begin_at(first)
            return
        # With more processes than the checkpoint had, the last one's counts serve the others: only the log's means read
        # them.
        mine = resumed["ranks"][min(get_rank(), len(resumed["ranks"]) - 1)]
        different = [
            f"{what} {resumed[name]} -> {self.facts[name]}"
            for name, what in FACTS.items()
            if resumed[name] != self.facts[name]
        ]
        if different:
            # No states of workers: their random numbers belonged to batches of another size.
            self.loader.begin_at(first, ())
            print_once(
                f"--resume: {', '.join(different)}: goes on at the same number of images, {part.skip} steps of this "
                "run into the epoch; random numbers start anew, and the epoch's means in the log are of its rest"
            )
        else:
            self.loader.begin_at(first, mine["workers"])
            set_random_state(mine["random"], self.device)
        # An epoch that was saved at its last step is only evaluated and logged: its means are whole in any case.
        if not different or part.steps == 0:
            self._to_restore = mine

    def watch(self, log: StepLog, shapes: BatchShapes) -> None:
        """Follow an epoch's log and counts, which first become those of the checkpoint."""
        self._log, self._shapes = log, shapes
        if self._to_restore is not None:
            log.restore(self._to_restore["log"], self.device)
            shapes.restore(self._to_restore["shapes"])

    def due(self, done: int) -> bool:
        """Return True if a checkpoint is due after `done` steps of the run; every process asks after each step."""
        if self.every is None:
            return False
        if self.every.steps:
            # Of the run's steps, not the epoch's: a run with 7 steps an epoch and N = 10 saves at 10, 20, ...
            return done % self.every.steps == 0
        # all_gather below makes every process wait for the others, for one look at a clock.
        if get_world_size() > 1 and done % self.agree_every:
            return False
        passed = time.monotonic() - self.saved >= 60 * self.every.minutes
        if all_gather(passed)[0]:  # rank 0's clock counts
            self.saved = time.monotonic()
            return True
        return False

    def state(self, *, evaluated: bool = False) -> dict[str, Any]:
        """Return the place in the epoch for a checkpoint, the same on every rank; all of them call it together.

        `evaluated`: the run was evaluated after these steps. Raises NonFiniteLossError where a loss is not finite.
        """
        assert self._log is not None and self._shapes is not None  # `watch` comes first
        # Reads the device once. A checkpoint of weights that are NaN would be resumed again and again.
        self._log.check()
        mine = {
            "random": as_tensors(random_state(self.device)),
            "workers": [None if state is None else as_tensors(state) for state in self.loader.states],
            "log": self._log.state(),
            "shapes": self._shapes.state(),
        }
        return {"within_epoch": {**self.facts, "evaluated": evaluated, "ranks": all_gather(mine)}}
