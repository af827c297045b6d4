"""Values that are chosen for flags that were not typed, each with its reason."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """A value for a flag, and why."""

    value: Any
    reason: str


def untyped(choices: Mapping[str, Choice], typed: Collection[str]) -> dict[str, Choice]:
    """Return the choices for flags (by name) that were not typed: a typed flag wins."""
    return {name: choice for name, choice in choices.items() if name not in typed}


def describe(choices: Mapping[str, Choice], heading: str) -> str:
    """Return a heading that says what chose, and a line for each choice."""
    shown = {f"--{name}{_shown(choice.value)}": choice.reason for name, choice in choices.items()}
    width = max(map(len, shown), default=0)
    lines = (f"  {name:{width}}  {why}" for name, why in shown.items())
    return "\n".join([f"{heading}: what was not typed is", *lines])


def _shown(value: Any) -> str:
    """A value as it would be typed behind its flag; a switch has none."""
    if value is True:
        return ""
    return " " + (" ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
