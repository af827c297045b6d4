"""The rounds of a benchmark that takes long, written after each of them: a command that was stopped goes on there."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT
from util.runs.atomic import atomic_file
from util.runs.run_info import git_state


class KeptRounds:
    """Rounds by case, and the file that holds them until `finish`.

    Args:
        path: of the file.
        order: on what the rounds depend, in JSON's types. Those of another order or another commit are begun anew,
            which is said.
    """

    def __init__(self, path: Path, order: Mapping[str, Any]) -> None:
        self.path = path
        self.order = dict(order) | {"commit": (git_state(ROOT) or {}).get("sha")}
        self.rounds: dict[str, list[Any]] = {}
        if not path.is_file():
            return
        found = json.loads(path.read_text())
        if found["order"] == self.order:
            self.rounds = found["rounds"]
            print(f"{path}: goes on behind {sum(map(len, self.rounds.values()))} rounds")
        else:
            print(f"{path}: of other flags or another commit; begun anew")

    def of(self, case: str) -> list[Any]:
        """Return the rounds of a case so far."""
        return self.rounds.get(case, [])

    def add(self, case: str, row: Any) -> None:
        """Add a round, in JSON's types, and write the file."""
        self.rounds.setdefault(case, []).append(row)
        with atomic_file(self.path) as file:
            file.write(json.dumps({"order": self.order, "rounds": self.rounds}, indent=1).encode() + b"\n")

    def finish(self) -> None:
        """Remove the file: the next command begins anew."""
        self.path.unlink(missing_ok=True)
