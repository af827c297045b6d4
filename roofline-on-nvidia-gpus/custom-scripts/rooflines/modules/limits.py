"""Limits for CI: what each module may take of a step, in shares of its time and in exact counts (`--fail_above FILE`).

A share depends on the machine and on chance: it is recorded with a margin. Counts of operators, FLOPs and bytes are
those of the code, on any machine: any more is a change. The file is TOML and may be edited; what a limit does not name
is not limited.
"""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import RoofError, atomic_file
from .run import OUTSIDE, Run

#: Columns of a run's parts -> names in the file; the first is of the step's time.
COUNTS = {"calls": "calls", "flop": "flop", "bytes_hbm": "bytes"}
NAMES = ("share", *COUNTS.values())
#: A recorded share may grow by this part of it, and by this part of the step.
MARGIN, LEAST_MARGIN = 0.25, 0.01


def write_limits(run: Run, depth: int, path: Path, *, margin: float = MARGIN) -> int:
    """Write what the run's parts take, shares with their margin; return how many parts these are."""
    lines = [f"# {run.name}: written by module_report.py --write_limits; share: of the step's time, with its margin"]
    lines += [f"depth = {depth}", f"unlisted = {LEAST_MARGIN}  # share of a module that is not in this list"]
    rows = _counted(run, depth)
    for _, row in rows.iterrows():
        share = row["time_s"] / run.step_s
        lines += [
            "",
            "[[limit]]",
            f"module = {json.dumps(row['module'])}",
            f"direction = {json.dumps(row['direction'])}",
        ]
        # Relative and absolute: a quarter of a tiny share is less than the noise of a measurement.
        lines.append(f"share = {share * (1 + margin) + LEAST_MARGIN:.4f}")
        # NaN, which is unequal to itself, is a count that nobody made.
        lines += [f"{name} = {round(row[column])}" for column, name in COUNTS.items() if row[column] == row[column]]
    with atomic_file(path) as file:
        file.write(("\n".join(lines) + "\n").encode())
    return len(rows)


def read_limits(path: Path) -> dict[str, Any]:
    """Read a file of limits. Raises RoofError naming the file and what is wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RoofError(f"{path}: no readable file of limits ({error}); --write_limits writes one") from error
    if not isinstance(data.get("depth"), int) or data["depth"] < 1:
        raise RoofError(f"{path}: depth must be a whole number, the levels of the modules' names")
    limits = data.get("limit")
    if not isinstance(limits, list) or not limits:
        raise RoofError(f"{path}: has no [[limit]]; --write_limits writes them")
    for limit in limits:
        if not {"module", "direction"} <= limit.keys():
            raise RoofError(f"{path}: each [[limit]] needs a module and a direction")
        for name in limit.keys() - {"module", "direction"}:
            if name not in NAMES:
                raise RoofError(f"{path}: {limit['module']} has {name}; known are {', '.join(NAMES)}")
            # In Python a bool is an int: `true` would count as 1.
            if isinstance(limit[name], bool) or not isinstance(limit[name], (int, float)) or limit[name] < 0:
                raise RoofError(f"{path}: {limit['module']}: {name} must be a number, at least 0")
    return data


def above(run: Run, limits: Mapping[str, Any]) -> list[str]:
    """Return a line for each part of the run that takes more than its limit; counts that the run lacks are not judged.

    A part without a limit is named if it takes more of the step than `unlisted` (a share, 0.01).
    """
    known = {(limit["module"], limit["direction"]): limit for limit in limits["limit"]}
    unlisted = float(limits.get("unlisted", LEAST_MARGIN))
    lines = []
    for _, row in _counted(run, limits["depth"]).iterrows():
        name = f"{row['module']} {row['direction']}".strip()
        limit = known.get((row["module"], row["direction"]), {"share": unlisted})
        share = row["time_s"] / run.step_s
        if share > limit.get("share", 1.0):
            of = "a module without a limit" if "module" not in limit else "its limit"
            lines.append(f"{name}: {share:.1%} of the step, {of} is {limit['share']:.1%}")
        for column, count in COUNTS.items():
            # Sums of floating-point numbers: half an operation is nobody's.
            if count in limit and row[column] > limit[count] + 0.5:
                lines.append(f"{name}: {round(row[column]):,} {count} a step, its limit is {limit[count]:,}")
    return lines


def _counted(run: Run, depth: int) -> Any:
    """Return the parts at `depth`; FLOPs and bytes are NaN in a run without costs."""
    rows = run.folded(depth)
    rows = rows[rows["module"] != OUTSIDE]
    return rows if run.has_costs else rows.assign(flop=float("nan"), bytes_hbm=float("nan"))
