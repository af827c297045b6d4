"""The fields of a training's checkpoint that a run computes with, and their types: a file may hold anything."""

from collections.abc import Mapping
from typing import Any

#: Fields that are mappings, and those that are numbers, where they are there.
MAPPINGS = ("optimizer", "lr_scheduler", "args", "scaler", "ema", "within_epoch")
NUMBERS = ("ap", "best_ap")
#: Whole numbers, and the least that they may be.
COUNTS = {"epoch": 0, "step": 0, "steps_per_epoch": 1}


def odd_field(checkpoint: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a field of a training's checkpoint; None where nothing is."""
    for name in MAPPINGS:
        if not isinstance(checkpoint.get(name, {}), Mapping):
            return f"{name!r} holds {_short(checkpoint[name])} in place of named values"
    for name in NUMBERS:
        if type(checkpoint.get(name, 0)) not in (int, float):  # type: True is an int, and no number of a score
            return f"{name!r} holds {_short(checkpoint[name])} in place of a number"
    for name, least in COUNTS.items():
        value = checkpoint.get(name, least)
        if type(value) is not int or value < least:
            return f"{name!r} holds {_short(value)} in place of a whole number from {least} on"
    # Their quotient is how much of the data is done; one without the other says nothing.
    if ("step" in checkpoint) != ("steps_per_epoch" in checkpoint):
        return "of 'step' and 'steps_per_epoch' it holds one alone"
    return None


def _short(value: Any) -> str:
    # Of a number of thousands of digits Python makes no text.
    return repr(value)[:40] if not isinstance(value, int) else f"{value:.4g}" if abs(value) < 1e300 else "a huge number"
