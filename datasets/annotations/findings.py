"""Findings: oddities of a dataset and the action of loading, counted by kind, each with its first example."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class Action(IntEnum):
    """The action of loading on a finding, the mildest first; its value is the exit code of `datasets.check`."""

    KEPT = 0
    REPAIRED = 1
    REFUSED = 2


@dataclass
class Finding:
    """One kind of oddity: how often it occurs and the first place where it does."""

    kind: str
    action: Action
    #: What loading does, for people: "clamped to the image", "dropped", "kept as a negative".
    remedy: str
    #: File and id of the first occurrence, with the odd value.
    example: str
    count: int = 1

    def line(self) -> str:
        """Return the finding as one line of a report."""
        return f"{self.kind}: {self.count} ({self.action.name.lower()}: {self.remedy}), first {self.example}"


class Findings:
    """Findings by kind, in the order in which they first came up."""

    def __init__(self) -> None:
        self._by_kind: dict[str, Finding] = {}

    def add(self, kind: str, action: Action, *, remedy: str, example: str, count: int = 1) -> None:
        """Note `count` occurrences; the first example of a kind stays, and its gravest action."""
        known = self._by_kind.get(kind)
        if known is None:
            self._by_kind[kind] = Finding(kind, action, remedy, example, count)
            return
        known.count += count
        # The example has to show the gravest case: it is the one to look at.
        if action > known.action:
            known.action, known.remedy, known.example = action, remedy, example

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._by_kind.values())

    def __len__(self) -> int:
        return len(self._by_kind)

    def __contains__(self, kind: str) -> bool:
        return kind in self._by_kind

    def __getitem__(self, kind: str) -> Finding:
        return self._by_kind[kind]

    def worst(self) -> Action:
        """Return the gravest action of all; KEPT when there is nothing."""
        return max((finding.action for finding in self), default=Action.KEPT)
