"""The rows of a file's annotations while they are checked: which still count, and what was found about the others."""

import numpy as np

from . import kinds
from .kinds import IssueLog, Kind
from .listed import ListedObjects


class CheckedRows:
    """The m annotations of a file, `entries`, with what the rules find in them.

    Attributes:
        alive: (m,) bool, neither dropped nor refused.
        left_out: number of objects that are not trained on, by the name of their kind.
    """

    def __init__(self, entries: ListedObjects, issues: IssueLog) -> None:
        self.entries = entries
        self.issues = issues
        self.alive = np.ones(len(entries), dtype=bool)
        self.left_out: dict[str, int] = {}

    def find(self, kind: Kind, odd: np.ndarray | np.bool, field: str, *, drop: bool = False) -> None:
        """Note the rows that are alive and `odd`, (m,) bool; with `drop` they no longer live."""
        # A row that was dropped is counted once, under the first rule that it broke.
        odd = odd & self.alive
        count = int(odd.sum())
        if count:
            # argmax of booleans is the first True.
            first = self.entries[int(odd.argmax())]
            self.issues.add(kind, "annotation", first.id, field, getattr(first, field), count=count)
        if drop:
            self.alive &= ~odd
            if count and kind is not kinds.COPIES:
                self.left_out[kind.name] = self.left_out.get(kind.name, 0) + count
