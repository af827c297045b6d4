"""Runs that get a signal in a step of their own choice."""

import os
import signal

import pytest

from tests.processes import command
from training.stop import Stop
from util.dist.launch import launch_rank


def signal_in(step: int, name: str, patch: pytest.MonkeyPatch) -> None:
    """Have this process get a signal in the step of a number, from 1."""
    after = Stop.after_step

    def signal_and_go_on(self: Stop) -> bool:
        if self.steps + 1 == step:
            signal.raise_signal(getattr(signal, name))
        return after(self)

    patch.setattr(Stop, "after_step", signal_and_go_on)


def signalled_run(flags: str, rank: int, name: str, step: int) -> int:
    """Run the command in a process of its own, which gets a signal in a step if it is of this rank."""
    if launch_rank(os.environ) == rank:
        signal_in(step, name, pytest.MonkeyPatch())
    return command(flags)
