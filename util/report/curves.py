"""Precision, recall and F1 of each class, over recall and over the score."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .evaluated import Evaluated
from .rounding import as_list, number

#: Scores at which F1 is computed.
THRESHOLDS = np.linspace(0, 1, 101)


class Curves:
    """Precision over recall, and F1 over the score, at IoU 0.5, of K classes.

    Precision is COCO's: at each of 101 recalls the best that is still reached there or later. F1 counts the detections
    that hotcoco matched, at every score that occurs.
    """

    def __init__(self, evaluated: Evaluated, scores: Any, detections: Sequence[dict[str, Any]]) -> None:
        precision = np.asarray(scores.eval["precision"])[0, :, :, 0, -1].T  # (K, R)
        self.class_ids = list(scores.params.cat_ids)
        self.measured = precision[:, 0] > -1  # (K,)
        self.recall = np.asarray(scores.params.rec_thrs)  # (R,)
        self.precision = np.maximum(precision, 0)
        status = scores.image_diagnostics(iou_thr=0.5)["dt_status"]  # without detections of crowds
        self.counted = matched = [detections[number - 1] for number in status]  # hotcoco counts from 1
        labels = np.array([found["category_id"] for found in matched], dtype=np.int64)
        values = np.array([found["score"] for found in matched], dtype=float)
        hits = np.array([what == "tp" for what in status.values()], dtype=bool)
        objects = Counter(o["category_id"] for i in evaluated.image_ids for o in evaluated.objects_of(i))
        self.operating = [
            _Operating(values[labels == id_], hits[labels == id_], objects[id_]) for id_ in self.class_ids
        ]
        self.f1_by_score = np.array([one.f1_at(THRESHOLDS) for one in self.operating])  # (K, T)

    @property
    def mean_f1(self) -> np.ndarray:
        """F1 (T,) over `THRESHOLDS`, the mean of the classes that have objects."""
        return self.f1_by_score[self.measured].mean(0) if self.measured.any() else np.zeros(len(THRESHOLDS))

    def best_threshold(self) -> float:
        """Return the score at which the mean F1 of the classes is largest: the middle one, where several are."""
        best = np.flatnonzero(np.isclose(self.mean_f1, self.mean_f1.max()))
        return float(THRESHOLDS[best[len(best) // 2]]) if self.mean_f1.max() > 0 else 0.5

    def best_of(self, k: int) -> dict[str, float | None]:
        """Return the largest F1 of class k, with precision, recall and threshold; None for one without objects."""
        names = ("F1", "precision", "recall", "threshold")
        if not self.measured[k]:
            return dict.fromkeys(names)
        return {name: None if value is None else number(value) for name, value in zip(names, self.operating[k].best())}

    def as_dict(self) -> dict[str, Any]:
        """Return recalls and thresholds, and the mean and every measured class over them."""
        measured = [k for k in range(len(self.class_ids)) if self.measured[k]]
        return {
            "iou": 0.5,
            "recall": as_list(self.recall),
            "threshold": as_list(THRESHOLDS),
            "precision": as_list(self.precision[measured].mean(0)) if measured else [],
            "F1": as_list(self.mean_f1),
            "classes": {
                str(self.class_ids[k]): {"precision": as_list(self.precision[k]), "F1": as_list(self.f1_by_score[k])}
                for k in measured
            },
        }


class _Operating:
    """The detections of a class that has `objects`, by score: what is kept at a threshold, and what of it is right."""

    def __init__(self, scores: np.ndarray, hits: np.ndarray, objects: int) -> None:
        order = np.argsort(-scores, kind="stable")
        self.scores, self.objects = scores[order], objects
        self.right = np.concatenate([[0], np.cumsum(hits[order])])  # among the first k detections

    def f1_at(self, thresholds: np.ndarray) -> np.ndarray:
        """Return F1 of the detections that score at least as much, 0 where there is nothing."""
        # Scores fall, and `searchsorted` wants them to rise: hence the signs. "right" keeps those that are equal.
        kept = np.searchsorted(-self.scores, -thresholds, side="right")
        # F1 = 2 TP / (detections + objects), which is 2 TP / (2 TP + FP + FN).
        return 2 * self.right[kept] / np.maximum(kept + self.objects, 1)

    def best(self) -> tuple[float, float, float, float | None]:
        """Return the largest F1, with precision, recall and threshold there."""
        # F1 changes at the detections' own scores alone: no finer grid finds a larger one.
        f1 = self.f1_at(self.scores)
        if not f1.any():
            return 0.0, 0.0, 0.0, None
        threshold = self.scores[f1.argmax()]
        kept = int((self.scores >= threshold).sum())
        right = self.right[kept]
        return f1.max(), right / kept, right / self.objects, threshold
