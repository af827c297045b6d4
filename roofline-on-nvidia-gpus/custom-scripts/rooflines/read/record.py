"""Notes of collect.py beside a report that it made: the command, and the GPU's clocks and temperature meanwhile."""

import json
import re
from pathlib import Path
from typing import Any

from ..columns import GPU_STATE

#: main.py's own default of --profile_steps, where the command does not name it.
_PROFILE_STEPS = 3
_STEPS = re.compile(r"--profile_steps[= ](\d+)")


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a report or a timeline, from beside it or from `reports` beside it; empty without one."""
    name = f"{path.name.partition('.')[0]}.json"
    for place in (path.with_name(name), path.parent / "reports" / name):
        try:
            found = json.loads(place.read_text())
        except (OSError, ValueError):
            continue
        if isinstance(found, dict) and "command" in found:
            return found
    return {}


def gpu_state(path: Path) -> dict[str, float]:
    """Return the columns GPU_STATE of a report as far as they were noted."""
    found = read_record(path)
    return {name: float(found[name]) for name in GPU_STATE if isinstance(found.get(name), int | float)}


def recorded_steps(path: Path) -> int | None:
    """Return how many training steps a report holds, None where nobody noted it."""
    found = read_record(path)
    if not found:
        return None
    match = _STEPS.search(str(found["command"]))
    # A record without the flag was made with its default.
    return int(match[1]) if match else _PROFILE_STEPS
