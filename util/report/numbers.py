"""All numbers of a kind of detections (boxes or masks), in plain types, from hotcoco's scores."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .evaluated import Evaluated

#: Errors as TIDE (Bolya et al. 2020) splits them, in its order, with what they are.
TIDE_ERRORS = {
    "Cls": ("class", "in the right place, of the wrong class"),
    "Loc": ("localisation", "of the right class, IoU 0.1 to 0.5"),
    "Both": ("both", "wrong class and IoU 0.1 to 0.5"),
    "Dupe": ("duplicate", "an object that a surer detection has already"),
    "Bkg": ("background", "where no object is"),
    "Miss": ("missed", "objects that nothing found"),
}
AREAS = ("all", "small", "medium", "large")
#: Scores at which F1 is computed.
THRESHOLDS = np.linspace(0, 1, 101)
#: Decimals that are written down.
DIGITS = 5


def describe_kind(evaluated: Evaluated, kind: str, detections: list[dict[str, Any]]) -> dict[str, Any]:
    """Score the detections of a kind and return every number of its part of the page."""
    scores = evaluated.score(kind, detections)
    curves = Curves(evaluated, scores, detections)
    classes = describe_classes(evaluated, scores, curves)
    threshold = curves.best_threshold()
    calibration = describe_calibration(scores, classes)
    return {
        "metrics": metrics(scores, evaluated.max_dets),
        "by_iou": {f"{iou:.2f}": ap for iou, ap in zip(scores.params.iou_thrs, _by_iou(scores))},
        "by_size": _by_size(evaluated, scores),
        "threshold": threshold,
        "F1": _number(curves.mean_f1.max()),
        "classes": classes,
        "curves": curves.as_dict(),
        "confusion": describe_confusion(evaluated, kind, curves.counted, threshold),
        "calibration": calibration,
        "errors": describe_errors(scores),
    }


def metrics(scores: Any, max_dets: int) -> dict[str, float | None]:
    """Return COCO's twelve numbers in COCO's order, AR100 under the most detections; None where there is none."""
    names = (f"AR{max_dets}" if name == "AR100" else name for name in scores.metric_keys())
    return {name: _number(value) for name, value in zip(names, scores.stats)}


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
        return {name: None if value is None else _number(value) for name, value in zip(names, self.operating[k].best())}

    def as_dict(self) -> dict[str, Any]:
        """Return recalls and thresholds, and the mean and every measured class over them."""
        measured = [k for k in range(len(self.class_ids)) if self.measured[k]]
        return {
            "iou": 0.5,
            "recall": _list(self.recall),
            "threshold": _list(THRESHOLDS),
            "precision": _list(self.precision[measured].mean(0)) if measured else [],
            "F1": _list(self.mean_f1),
            "classes": {
                str(self.class_ids[k]): {"precision": _list(self.precision[k]), "F1": _list(self.f1_by_score[k])}
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
        kept = np.searchsorted(-self.scores, -thresholds, side="right")
        return 2 * self.right[kept] / np.maximum(kept + self.objects, 1)

    def best(self) -> tuple[float, float, float, float | None]:
        """Return the largest F1, with precision, recall and threshold there."""
        f1 = self.f1_at(self.scores)
        if not f1.any():
            return 0.0, 0.0, 0.0, None
        threshold = self.scores[f1.argmax()]
        kept = int((self.scores >= threshold).sum())
        right = self.right[kept]
        return f1.max(), right / kept, right / self.objects, threshold


def describe_classes(evaluated: Evaluated, scores: Any, curves: Curves) -> list[dict[str, Any]]:
    """List the classes: objects, AP by IoU and size, AR, and the best F1 with its threshold."""
    precision, recall = (np.asarray(scores.eval[name]) for name in ("precision", "recall"))  # (T, R, K, A, M), no R
    half, three_quarters = (_place(scores.params.iou_thrs, iou) for iou in (0.5, 0.75))
    objects = [o for image_id in evaluated.image_ids for o in evaluated.objects_of(image_id)]
    counts = Counter(o["category_id"] for o in objects)
    images = Counter(label for _, label in {(o["image_id"], o["category_id"]) for o in objects})
    rows = []
    for k, class_id in enumerate(curves.class_ids):
        by_area = {name: _mean(precision[:, :, k, a, -1]) for a, name in enumerate(("AP", "APs", "APm", "APl"))}
        rows.append(
            {
                "id": int(class_id),
                "name": evaluated.class_names[class_id],
                "objects": counts[class_id],
                "images": images[class_id],
                "AP": by_area.pop("AP"),
                "AP50": _mean(precision[half, :, k, 0, -1]),
                "AP75": _mean(precision[three_quarters, :, k, 0, -1]),
                **by_area,
                "AR": _mean(recall[:, k, 0, -1]),
                **curves.best_of(k),
            }
        )
    return rows


def describe_confusion(
    evaluated: Evaluated, kind: str, counted: Sequence[dict[str, Any]], threshold: float
) -> dict[str, Any]:
    """Return hotcoco's confusion matrix of detections that score at least `threshold`, without classes that are empty.

    `matrix` has a row for each true class and one for the background, columns for the detected ones; `pairs` are the
    most frequent mistakes between two classes. hotcoco's would take detections of crowds for false ones, so that only
    those that `counted` are handed to it.
    """
    scores = evaluated.score(kind, [found for found in counted if found["score"] >= threshold])
    found = scores.confusion_matrix(iou_thr=0.5, max_det=len(counted) + 1)
    whole = np.asarray(found["matrix"], dtype=np.int64)  # (K + 1, K + 1)
    used = np.flatnonzero(whole.sum(0) + whole.sum(1))
    used = np.union1d(used, [len(whole) - 1])  # the background, also where nothing is
    matrix = whole[np.ix_(used, used)]
    names = [evaluated.class_names[found["cat_ids"][k]] for k in used[:-1]]
    totals = matrix.sum(1)
    pairs = [
        {"true": names[i], "detected": names[j], "count": int(matrix[i, j]), "share": _number(matrix[i, j] / totals[i])}
        for i, j in np.argwhere(matrix[:-1, :-1])
        if i != j
    ]
    pairs.sort(key=lambda pair: (-pair["count"], pair["true"], pair["detected"]))
    return {"iou": 0.5, "threshold": threshold, "names": names, "matrix": matrix.tolist(), "pairs": pairs[:12]}


def describe_calibration(scores: Any, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return hotcoco's calibration at IoU 0.5, and add each class's error to its row as `ECE`."""
    found = scores.calibration(n_bins=10, iou_threshold=0.5)
    for row in classes:
        row["ECE"] = _number(found["per_category"].get(row["name"], -1))
    bins = [
        {
            "from": _number(b["bin_lower"]),
            "to": _number(b["bin_upper"]),
            "score": _number(b["avg_confidence"]) if b["count"] else None,
            "correct": _number(b["avg_accuracy"]) if b["count"] else None,
            "count": int(b["count"]),
        }
        for b in found["bins"]
    ]
    return {"ECE": _number(found["ece"]), "MCE": _number(found["mce"]), "count": found["num_detections"], "bins": bins}


def describe_errors(scores: Any) -> dict[str, Any]:
    """Return TIDE's errors: the AP50 that mending each alone would add, its share of the sum, and their counts."""
    found = scores.tide_errors(pos_thr=0.5, bg_thr=0.1)
    gain = {key: max(0.0, value) for key, value in found["delta_ap"].items()}  # rounding may give -0.0
    total = sum(gain[key] for key in TIDE_ERRORS)
    kinds = [
        {
            "error": name,
            "meaning": meaning,
            "dAP": _number(gain[key]),
            "share": _number(gain[key] / total) if total > 0 else None,
            "count": int(found["counts"][key]),
        }
        for key, (name, meaning) in TIDE_ERRORS.items()
    ]
    special = {name: _number(gain[key]) for key, name in (("FP", "false positives"), ("FN", "missed"))}
    return {"AP50": _number(found["ap_base"]), "kinds": kinds, "all_of": special}


def _by_iou(scores: Any) -> list[float | None]:
    precision = np.asarray(scores.eval["precision"])[:, :, :, 0, -1]
    return [_mean(at_iou) for at_iou in precision]


def _by_size(evaluated: Evaluated, scores: Any) -> list[dict[str, Any]]:
    """List AP, AR and objects by COCO's sizes: areas below 32^2, up to 96^2, and above."""
    precision, recall = (np.asarray(scores.eval[name]) for name in ("precision", "recall"))
    areas = np.array([o["area"] for i in evaluated.image_ids for o in evaluated.objects_of(i)])
    return [
        {
            "size": name,
            "AP": _mean(precision[:, :, :, a, -1]),
            "AR": _mean(recall[:, :, a, -1]),
            "objects": int(((areas >= least) & (areas <= most)).sum()),
        }
        for a, (name, (least, most)) in enumerate(zip(AREAS, scores.params.area_rng))
    ]


def _place(values: Sequence[float], wanted: float) -> int:
    return int(np.abs(np.asarray(values) - wanted).argmin())


def _mean(values: np.ndarray) -> float | None:
    """Return the mean of what was measured; -1 marks the rest."""
    measured = values[values > -1]
    return _number(measured.mean()) if measured.size else None


def _number(value: float) -> float | None:
    """Return a number as it is written down, None for one that was not measured."""
    return None if value < 0 else round(float(value), DIGITS)


def _list(values: np.ndarray) -> list[float]:
    return np.round(values, DIGITS).tolist()
