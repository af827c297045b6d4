"""The best AP of a run, and for --early_stop how long ago it was reached."""

from collections.abc import Mapping
from typing import Any

from .evaluation import Measured


class Best:
    """The best AP so far, and the evaluations since.

    Args:
        ap: of the checkpoint that is resumed; minus infinity in a new run.
        checkpoint: the one that is resumed, or None.
        patience: of --early_stop; 0: no end.
    """

    def __init__(self, ap: float, checkpoint: Mapping[str, Any] | None, *, patience: int = 0) -> None:
        # `before` is what `forget_last` goes back to.
        self.ap = self.before = ap
        self.patience = patience
        # Checkpoints of DETR and of earlier versions have no such key: their count starts anew.
        self.since = (checkpoint or {}).get("evaluations_since_best", 0)

    def take(self, measured: Measured) -> bool:
        """Take in an evaluation; return True if it is the best."""
        # Strictly above: of equal epochs the earliest is kept.
        risen, self.before = measured.ap > self.ap, self.ap
        self.ap = max(self.ap, measured.ap)
        self.since = 0 if risen else self.since + 1
        return risen

    def forget_last(self) -> None:
        """Return to the AP before the last: its weights were not written, and the next better ones are to be."""
        self.ap = self.before

    def why_stop(self) -> str | None:
        """Return why --early_stop ends the run, None while it goes on."""
        if not self.patience or self.since < self.patience:
            return None
        return f"--early_stop {self.patience}: the AP has not risen above {self.ap:.3f} in {self.since} evaluations"

    def state(self) -> dict[str, Any]:
        """Return a checkpoint's part."""
        return {"best_ap": self.ap, "evaluations_since_best": self.since}
