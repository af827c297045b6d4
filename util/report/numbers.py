"""All numbers of a kind of detections (boxes or masks), in plain types, from hotcoco's scores."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from .curves import Curves
from .evaluated import Evaluated
from .rounding import number

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
        "F1": number(curves.mean_f1.max()),
        "classes": classes,
        "curves": curves.as_dict(),
        "confusion": describe_confusion(evaluated, kind, curves.counted, threshold),
        "calibration": calibration,
        "errors": describe_errors(scores),
    }


def metrics(scores: Any, max_dets: int) -> dict[str, float | None]:
    """Return COCO's twelve numbers in COCO's order, AR100 under the most detections; None where there is none."""
    names = (f"AR{max_dets}" if name == "AR100" else name for name in scores.metric_keys())
    return {name: number(value) for name, value in zip(names, scores.stats)}


def describe_classes(evaluated: Evaluated, scores: Any, curves: Curves) -> list[dict[str, Any]]:
    """List the classes: objects, AP by IoU and size, AR, and the best F1 with its threshold."""
    precision, recall = (np.asarray(scores.eval[name]) for name in ("precision", "recall"))  # (T, R, K, A, M), no R
    half, three_quarters = (_place(scores.params.iou_thrs, iou) for iou in (0.5, 0.75))
    objects = [o for image_id in evaluated.image_ids for o in evaluated.objects_of(image_id)]
    counts = Counter(o["category_id"] for o in objects)
    # The set counts an image once a class, however many objects it has.
    images = Counter(label for _, label in {(o["image_id"], o["category_id"]) for o in objects})
    rows = []
    for k, class_id in enumerate(curves.class_ids):
        # The last of the limits of detections, the largest.
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
    # Of 80 classes a small set may show ten: the others would be empty rows and columns.
    used = np.flatnonzero(whole.sum(0) + whole.sum(1))
    used = np.union1d(used, [len(whole) - 1])  # the background, also where nothing is
    # Rows and columns together: the diagonal stays the diagonal.
    matrix = whole[np.ix_(used, used)]
    names = [evaluated.class_names[found["cat_ids"][k]] for k in used[:-1]]
    # Objects of each true class, those that nothing found included.
    totals = matrix.sum(1)
    pairs = [
        {"true": names[i], "detected": names[j], "count": int(matrix[i, j]), "share": number(matrix[i, j] / totals[i])}
        for i, j in np.argwhere(matrix[:-1, :-1])
        if i != j
    ]
    pairs.sort(key=lambda pair: (-pair["count"], pair["true"], pair["detected"]))
    return {"iou": 0.5, "threshold": threshold, "names": names, "matrix": matrix.tolist(), "pairs": pairs[:12]}


def describe_calibration(scores: Any, classes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return hotcoco's calibration at IoU 0.5, and add each class's error to its row as `ECE`."""
    found = scores.calibration(n_bins=10, iou_threshold=0.5)
    for row in classes:
        # -1 is not measured, which `number` makes None.
        row["ECE"] = number(found["per_category"].get(row["name"], -1))
    bins = [
        {
            "from": number(b["bin_lower"]),
            "to": number(b["bin_upper"]),
            "score": number(b["avg_confidence"]) if b["count"] else None,
            "correct": number(b["avg_accuracy"]) if b["count"] else None,
            "count": int(b["count"]),
        }
        for b in found["bins"]
    ]
    return {"ECE": number(found["ece"]), "MCE": number(found["mce"]), "count": found["num_detections"], "bins": bins}


def describe_errors(scores: Any) -> dict[str, Any]:
    """Return TIDE's errors: the AP50 that mending each alone would add, its share of the sum, and their counts."""
    found = scores.tide_errors(pos_thr=0.5, bg_thr=0.1)
    gain = {key: max(0.0, value) for key, value in found["delta_ap"].items()}  # rounding may give -0.0
    total = sum(gain[key] for key in TIDE_ERRORS)
    kinds = [
        {
            "error": name,
            "meaning": meaning,
            "dAP": number(gain[key]),
            "share": number(gain[key] / total) if total > 0 else None,
            "count": int(found["counts"][key]),
        }
        for key, (name, meaning) in TIDE_ERRORS.items()
    ]
    special = {name: number(gain[key]) for key, name in (("FP", "false positives"), ("FN", "missed"))}
    return {"AP50": number(found["ap_base"]), "kinds": kinds, "all_of": special}


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
    return number(measured.mean()) if measured.size else None
