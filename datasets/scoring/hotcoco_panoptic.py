"""Match the panoptic segments of an image by hotcoco: the counts of `match_segments` to the last bit, in less time."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .backends import why_not_hotcoco
from .panoptic_quality import VOID, Counts


def match_by_hotcoco(
    truth: Mapping[str, Any],
    found: Mapping[str, Any],
    *,
    image: Mapping[str, Any],
    categories: list[dict[str, Any]],
    folders: tuple[Path, Path],
) -> dict[int, Counts] | None:
    """Compare one image's segments; counts by category id, None where hotcoco is not there or not for this image.

    Args:
        truth, found: rows of panoptic annotations: `image_id`, `file_name`, `segments_info`.
        image, categories: of the ground truth's file.
        folders: of the PNGs of `truth` and of `found`.
    """
    panoptic = _panoptic()
    if panoptic is None or _differs(truth, found):
        return None
    data = {"images": [dict(image)], "annotations": [dict(truth)], "categories": categories}
    try:
        evaluation = panoptic.PanopticEval(
            data, {"annotations": [dict(found)]}, gt_folder=str(folders[0]), pred_folder=str(folders[1])
        )
        evaluation.evaluate()
    except (ValueError, TypeError, KeyError, OSError, RuntimeError):
        # Segments without a pixel, pixels without a segment, files: our own matching takes them or has the message.
        return None
    counts = {
        int(id_): Counts(iou=row["iou"], tp=row["tp"], fp=row["fp"], fn=row["fn"])
        for id_, row in evaluation.results()["per_class"].items()
    }
    return {id_: count for id_, count in counts.items() if count.tp + count.fp + count.fn}


def _differs(truth: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Tell if hotcoco, as panopticapi, counts an image otherwise: 0 is void to it, not an id that a segment may have,
    and of several crowds of a class it knows the last.
    """
    crowds = [s["category_id"] for s in truth["segments_info"] if s.get("iscrowd")]
    return len(set(crowds)) < len(crowds) or any(s["id"] == VOID for r in (truth, found) for s in r["segments_info"])


@functools.cache
def _panoptic() -> Any:
    """Return hotcoco's module for panoptic images, None without one."""
    if why_not_hotcoco() is not None:
        return None
    try:
        from hotcoco import panoptic
    except ImportError:
        return None
    return panoptic
