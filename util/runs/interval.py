"""The interval of checkpoints within an epoch: so many steps, or so many minutes."""

import re
from dataclasses import dataclass

from ..errors import UserError


@dataclass(frozen=True)
class Interval:
    """One of the two is 0: `steps` of the run, or `minutes`."""

    steps: int = 0
    minutes: float = 0.0


def parse_interval(text: str | None) -> Interval | None:
    """Return the interval that --checkpoint_every gives, None without one. Raises UserError."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)m", str(text).strip())
    if found is None or float(found[1] or found[2]) <= 0:
        raise UserError(f"--checkpoint_every {text}: give steps, such as 500, or minutes, such as 10m")
    return Interval(steps=int(found[1])) if found[1] else Interval(minutes=float(found[2]))
