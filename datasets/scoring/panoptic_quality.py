"""Panoptic quality by its definition.

Source: Kirillov, He, Girshick, Rother, Dollar: Panoptic Segmentation, CVPR 2019, section 4. A predicted and a true
segment of the same class match where their IoU is above 0.5; no segment can then match two. Per class,

    PQ = sum of the matches' IoU / (TP + FP / 2 + FN / 2) = SQ * RQ
    SQ = mean IoU of the matches,  RQ = TP / (TP + FP / 2 + FN / 2)

and classes are averaged. Pixels of no true segment (void) do not count in any union, crowds match nothing and are not
missed, and an unmatched prediction that lies by more than half in void or in crowds of its class is no false positive.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: The id of pixels that belong to no segment.
VOID = 0


@dataclass
class Counts:
    """Matches (tp, with the sum of their IoU), wrong (fp) and missed (fn) segments of one class."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __iadd__(self, other: "Counts") -> "Counts":
        self.iou += other.iou
        self.tp += other.tp
        self.fp += other.fp
        self.fn += other.fn
        return self

    def quality(self) -> dict[str, float] | None:
        """`pq`, `sq` and `rq` in 0..1; None where there is neither a true nor a predicted segment."""
        if self.tp + self.fp + self.fn == 0:
            return None
        size = self.tp + 0.5 * self.fp + 0.5 * self.fn
        # PQ = SQ * RQ, with half of the wrong and half of the missed: RQ is the F1 score.
        return {"pq": self.iou / size, "sq": self.iou / self.tp if self.tp else 0.0, "rq": self.tp / size}


def match_segments(
    truth: np.ndarray,
    true_segments: Sequence[Mapping[str, Any]],
    found: np.ndarray,
    found_segments: Sequence[Mapping[str, Any]],
) -> dict[int, Counts]:
    """Compare one image's segments; counts by category id.

    truth, found: segment ids (H, W); ids that no segment has are void. The segments: dictionaries with `id` and
    `category_id`, true ones may have `iscrowd`. Raises ValueError for images of different sizes.
    """
    if truth.shape != found.shape:
        raise ValueError(f"the prediction has {found.shape} pixels, the ground truth {truth.shape}")
    shared = _overlaps(truth, true_segments, found, found_segments)
    true_class = np.array([s["category_id"] for s in true_segments], dtype=int)
    found_class = np.array([s["category_id"] for s in found_segments], dtype=int)
    crowd = np.array([bool(s.get("iscrowd")) for s in true_segments], dtype=bool)

    # (T, F) shared pixels of true and found segments; the row and column of void are apart.
    pixels = shared[:-1, :-1]
    # Areas in pixels of the images, not those that are listed.
    true_area, found_area = shared[:-1].sum(1), shared[:, :-1].sum(0)
    # Pixels of no true segment count in no union: a prediction is not punished for what nobody labelled.
    not_void = found_area - shared[-1, :-1]
    iou = pixels / np.maximum(1, true_area[:, None] + not_void[None] - pixels)
    same = true_class[:, None] == found_class
    # Above a half, at most one pair for a segment: two matches would need more than all of its pixels.
    match = (iou > 0.5) & same & ~crowd[:, None]
    # Void, and crowds of the same class: what lies there by more than half is neither right nor wrong.
    ignored = shared[-1, :-1] + (pixels * (same & crowd[:, None])).sum(0)
    wrong = ~match.any(0) & ~(ignored > 0.5 * found_area)
    missed = ~match.any(1) & ~crowd

    counts: dict[int, Counts] = {}
    # By the true segments' ids, as panopticapi and hotcoco add them up: sums of floats depend on the order.
    for t, f in sorted(zip(*match.nonzero()), key=lambda pair: true_segments[pair[0]]["id"]):
        _add(counts, true_class[t], Counts(iou=float(iou[t, f]), tp=1))
    for f in wrong.nonzero()[0]:
        _add(counts, found_class[f], Counts(fp=1))
    for t in missed.nonzero()[0]:
        _add(counts, true_class[t], Counts(fn=1))
    return counts


def panoptic_quality(counts: Mapping[int, Counts], categories: Iterable[int]) -> dict[str, float]:
    """Average `pq`, `sq` and `rq` (0..1) of those of `categories` that occur, and count them (`n`); zeros for none."""
    measured = [q for c in categories if c in counts and (q := counts[c].quality()) is not None]
    return {name: sum(q[name] for q in measured) / max(1, len(measured)) for name in ("pq", "sq", "rq")} | {
        "n": len(measured)
    }


def _overlaps(
    truth: np.ndarray, true_segments: Sequence[Mapping], found: np.ndarray, found_segments: Sequence[Mapping]
) -> np.ndarray:
    """Count the pixels that true and predicted segments share (T + 1, F + 1); void is the last row and column."""
    # Along the rows both images stay the same for many pixels: one look at each such run instead of each pixel.
    true_ids, found_ids = truth.ravel(), found.ravel()
    begins = np.flatnonzero((true_ids[1:] != true_ids[:-1]) | (found_ids[1:] != found_ids[:-1])) + 1
    begins = np.concatenate([np.zeros(min(1, true_ids.size), dtype=begins.dtype), begins])  # (runs,)
    lengths = np.diff(begins, append=true_ids.size)
    rows, columns = _places(true_ids[begins], true_segments), _places(found_ids[begins], found_segments)
    width = len(found_segments) + 1
    # Each run's pair of places as one number. The sums are float64, exact for far more pixels than an image has.
    pairs = np.bincount(rows * width + columns, weights=lengths, minlength=(len(true_segments) + 1) * width)
    return pairs.astype(np.int64).reshape(-1, width)


def _places(ids: np.ndarray, segments: Sequence[Mapping]) -> np.ndarray:
    """Return for each id (N,) the place of its segment in the list, `len(segments)` where it has none."""
    # A few ids instead of a dictionary look-up for each of thousands of runs.
    seen, inverse = np.unique(ids, return_inverse=True)
    place = {segment["id"]: k for k, segment in enumerate(segments)}
    return np.array([place.get(int(id_), len(segments)) for id_ in seen], dtype=np.int64)[inverse]


def _add(counts: dict[int, Counts], category: int, found: Counts) -> None:
    counts[int(category)] = counts.get(int(category), Counts())
    counts[int(category)] += found
