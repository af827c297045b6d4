"""The images of a report: found best and worst, likely mislabelled, and those on which two runs differ."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .evaluated import Evaluated

#: What hotcoco counts in an image without objects and detections, which it leaves out.
NOTHING_THERE = {"tp": 0, "fp": 0, "fn": 0, "f1": 1.0}


@dataclass(frozen=True)
class ImageChoice:
    """An image with the reason why it is shown.

    Attributes:
        image_id: its id.
        counts: found, false and missed objects and F1 of each run by its name, at the run's threshold.
        suspects: what may be wrong with its annotations, the surest first.
        detections: those to draw of each run, by its name.
    """

    image_id: int
    counts: Mapping[str, Mapping[str, Any]]
    detections: Mapping[str, list[dict[str, Any]]]
    suspects: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Diagnosis:
    """hotcoco's diagnostics of the detections of a run that score at least `threshold`, at IoU 0.5."""

    evaluated: Evaluated
    kind: str
    threshold: float
    found: list[dict[str, Any]]  # hotcoco's detection k is number k - 1
    images: dict[int, dict[str, Any]]
    label_errors: list[dict[str, Any]]

    @property
    def by_image(self) -> dict[int, list[dict[str, Any]]]:
        grouped: dict[int, list[dict[str, Any]]] = {}
        for detection in self.found:
            grouped.setdefault(detection["image_id"], []).append(detection)
        return grouped


def diagnose(evaluated: Evaluated, kind: str, *, threshold: float) -> Diagnosis:
    """Look at the detections above the threshold image by image: low scores are no mistakes of a detector."""
    found = evaluated.detections(kind, min_score=threshold)
    scores = evaluated.score(kind, found)
    # Below 0.5 a contradiction is no evidence against an annotation, however low the detector's threshold is.
    diagnostics = scores.image_diagnostics(iou_thr=0.5, score_thr=max(threshold, 0.5))
    return Diagnosis(evaluated, kind, threshold, found, diagnostics["img_summary"], diagnostics["label_errors"])


def choose_images(diagnosis: Diagnosis, count: int) -> dict[str, list[ImageChoice]]:
    """Return `count` images each under "best", "worst" and "mislabelled".

    By F1; among equals, the images with more found objects are better, those with more mistakes worse. An image is not
    among both, and a best one has an object that was found.
    """
    name, by_image = diagnosis.evaluated.name, diagnosis.by_image

    def choice(image_id: int) -> ImageChoice:
        counts = diagnosis.images.get(image_id, NOTHING_THERE)
        return ImageChoice(image_id, {name: _counts(counts)}, {name: by_image.get(image_id, [])})

    rows = diagnosis.images
    # The id last, so that the order is the same in every run.
    ranked = sorted(rows, key=lambda i: (-rows[i]["f1"], rows[i]["fp"] + rows[i]["fn"], -rows[i]["tp"], i))
    best = [i for i in ranked if rows[i]["tp"]][:count]
    worst = sorted(
        # An image without mistakes is not among the worst, even of a detector that makes none.
        (i for i in ranked if rows[i]["fp"] + rows[i]["fn"] and i not in set(best)),
        key=lambda i: (rows[i]["f1"], -rows[i]["fp"] - rows[i]["fn"], i),
    )[:count]
    return {
        "best": [choice(i) for i in best],
        "worst": [choice(i) for i in worst],
        "mislabelled": _mislabelled(diagnosis, count),
    }


def _mislabelled(diagnosis: Diagnosis, count: int) -> list[ImageChoice]:
    """Return the images whose truth the surest detections contradict, with these detections alone."""
    # By image, in the order of each one's surest contradiction: dictionaries keep it.
    suspects: dict[int, list[dict[str, Any]]] = {}
    for error in sorted(diagnosis.label_errors, key=lambda e: (-e["dt_score"], e["dt_id"])):
        suspects.setdefault(error["image_id"], []).append(error)
    name = diagnosis.evaluated.name
    return [
        ImageChoice(
            image_id,
            {name: _counts(diagnosis.images.get(image_id, NOTHING_THERE))},
            # Detections are numbered from 1, as COCO's ids are.
            {name: [diagnosis.found[error["dt_id"] - 1] for error in errors]},
            [_suspect(error) for error in errors],
        )
        for image_id, errors in list(suspects.items())[:count]
    ]


def choose_differing(a: Diagnosis, b: Diagnosis, count: int) -> dict[str, list[ImageChoice]]:
    """Return `count` images each on which b has the higher F1 ("better") and the lower one ("worse")."""
    drawn = {one.evaluated.name: one.by_image for one in (a, b)}

    def f1(one: Diagnosis, image_id: int) -> float:
        return one.images.get(image_id, NOTHING_THERE)["f1"]

    def choice(image_id: int) -> ImageChoice:
        counts = {one.evaluated.name: _counts(one.images.get(image_id, NOTHING_THERE)) for one in (a, b)}
        return ImageChoice(image_id, counts, {name: found.get(image_id, []) for name, found in drawn.items()})

    # hotcoco leaves out images without objects and detections: one may be in one run's list alone.
    gains = {image_id: f1(b, image_id) - f1(a, image_id) for image_id in a.images.keys() | b.images.keys()}
    # The largest gain first; the id makes the order the same in every run.
    ranked = sorted(gains, key=lambda i: (-gains[i], i))
    return {
        "better": [choice(i) for i in ranked if gains[i] > 0][:count],
        "worse": [choice(i) for i in reversed(ranked) if gains[i] < 0][:count],
    }


def count_differing(a: Diagnosis, b: Diagnosis) -> dict[str, int]:
    """Count the images on which b has a higher F1 than a, the same, and a lower one."""
    counts = {"better": 0, "equal": 0, "worse": 0}
    for image_id in a.evaluated.image_ids:
        before, after = (one.images.get(image_id, NOTHING_THERE)["f1"] for one in (a, b))
        counts["better" if after > before else "worse" if after < before else "equal"] += 1
    return counts


def _counts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"found": row["tp"], "false": row["fp"], "missed": row["fn"], "F1": round(row["f1"], 4)}


def _suspect(error: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "problem": "another class" if error["type"] == "wrong_label" else "not annotated",
        "detected": error["dt_category"],
        "score": round(error["dt_score"], 4),
        "annotated": error["gt_category"],
        "iou": round(error["iou"], 4),
        "annotation": error["gt_id"],
    }
