"""The evaluation after an epoch: of the weights, with --ema also of their average, and which of the two is better."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasets.coco_eval import CocoEvaluator
from util.dist.distributed import print_once
from util.plot_utils import AP

from .ema import WeightAverage

#: Evaluates, and returns the statistics and the evaluator with every detection.
Evaluation = Callable[[], tuple[dict[str, Any], CocoEvaluator]]


@dataclass(frozen=True)
class Measured:
    """An evaluation after an epoch.

    Attributes:
        stats: for the log; those of averaged weights under names that begin with `ema_`.
        evaluator: with the detections of the better weights.
        ap: of the better weights.
        best_weights: "raw" or "ema"; None where there is no average.
    """

    stats: dict[str, Any]
    evaluator: CocoEvaluator
    ap: float
    best_weights: str | None = None

    @property
    def in_checkpoint(self) -> dict[str, Any]:
        """Return what a checkpoint says about it."""
        return {"ap": self.ap} | ({} if self.best_weights is None else {"best_weights": self.best_weights})


def measure(evaluate_now: Evaluation, average: WeightAverage | None) -> Measured:
    """Evaluate the model, and then its averaged weights if there are any."""
    if average is None:
        stats, evaluator = evaluate_now()
        return Measured(stats, evaluator, judging_scores(stats)[AP])
    # The raw weights first: their evaluation has DETR's names in the log, with --ema or without.
    print_once("Evaluation of the raw weights")
    stats, evaluator = evaluate_now()
    print_once("Evaluation of the averaged weights (--ema)")
    with average.in_model():
        ema_stats, ema_evaluator = evaluate_now()
    ap, ema_ap = judging_scores(stats)[AP], judging_scores(ema_stats)[AP]
    print_once(f"AP {ap:.3f} with the raw weights, {ema_ap:.3f} with the averaged ones")
    stats = stats | {f"ema_{name}": value for name, value in ema_stats.items()}
    # Not at a tie: in the first epochs both are 0, and the raw weights are what a resumed run trains on with.
    if ema_ap > ap:
        return Measured(stats, ema_evaluator, ema_ap, "ema")
    return Measured(stats, evaluator, ap, "raw")


def judging_scores(stats: dict[str, Any]) -> list[float]:
    """Return COCO's twelve numbers that a run is judged by: of masks where they are trained, else of boxes."""
    # Over a frozen detector, boxes are the same in every epoch.
    return stats["coco_eval_masks" if "coco_eval_masks" in stats else "coco_eval_bbox"]
