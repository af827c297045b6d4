"""The end of a run before its last step: at the end of a step, of the same one in every process."""

import time

from util.dist.distributed import all_gather, get_world_size


class Stop:
    """Collects wishes to end the run, and says at the end of a step whether it ends there.

    The loop then saves a checkpoint and prints `reason` with the way to go on. Where there are several processes, any
    of them may ask; they agree once in so many steps, for that makes each wait for the others.

    Args:
        began: when the run began, as `time.monotonic()` told.
        max_hours: ask for the end so long after it; None: never.
        agree_every: steps between two agreements of several processes. One process looks after every step.
    """

    def __init__(self, *, began: float, max_hours: float | None = None, agree_every: int = 1) -> None:
        self.began = began
        self.max_hours = max_hours
        self.agree_every = agree_every
        self.steps = 0
        self.reason: str | None = None

    def ask(self, reason: str) -> None:
        """Ask for the end after the step under way, in any process, also in a signal handler; the first reason wins."""
        self.reason = self.reason or reason

    def after_step(self) -> bool:
        """Return True if the run ends after this step; every process calls it after each."""
        self.steps += 1
        # `agreed` gathers from all processes, which makes each wait for the slowest: not after every step. The count of
        # steps is the same everywhere, so they come to it together.
        if get_world_size() > 1 and self.steps % self.agree_every:
            return False
        return self.agreed()

    def agreed(self) -> bool:
        """Return True if any process wants to end now; all of them call it at the same place."""
        # Clocks of machines differ; a process whose time is over only asks, and the gathering below decides for all.
        if self.max_hours is not None and time.monotonic() - self.began >= 3600 * self.max_hours:
            self.ask(f"--max_hours {self.max_hours:g} is over")
        if get_world_size() > 1:
            # The first reason wins, but a job is requeued by SIGUSR1 whoever got it.
            # In the order of ranks, the same everywhere: all processes print and raise alike.
            reasons = [reason for reason in all_gather(self.reason) if reason]
            self.reason = "SIGUSR1" if "SIGUSR1" in reasons else next(iter(reasons), None)
        return self.reason is not None
