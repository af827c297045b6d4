"""The report of two evaluations of the same images: what changed from A to B, and whether it may be chance."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from .choice import Diagnosis, choose_differing, count_differing, diagnose
from .curves import Curves
from .evaluated import Evaluated, import_hotcoco
from .page import image_cards, images_as_data, note_unreadable, write_page
from .pictures import Pictures
from .single import COUNT, KIND_NAMES

#: Bootstrap samples. On 5,000 images with 100 detections each, one takes about half a second of a core.
SAMPLES = 200
#: Samples that are timed first, to say how long all will take.
PROBE = 4
CONFIDENCE = 0.95


def write_comparison(
    a: Evaluated, b: Evaluated, folder: str | os.PathLike, *, count: int = COUNT, samples: int = SAMPLES
) -> list[Path]:
    """Write `index.html` and `report.json` about the change from a to b, and return them.

    Args:
        a, b: evaluations of the same images and objects.
        folder: created if it is not there; files of an earlier report are replaced.
        count: images to show of those that b finds better, and as many of the others.
        samples: bootstrap samples for the intervals; 0 leaves them out.

    Raises UserError for evaluations of different data, or as `write_report`.
    """
    _refuse_different(a, b)
    kinds = [kind for kind in a.kinds if kind in b.kinds]
    # Without a threshold: AP needs the whole ranking.
    found = {kind: [run.detections(kind) for run in (a, b)] for kind in kinds}
    scores = {kind: [run.score(kind, own) for run, own in zip((a, b), pair)] for kind, pair in found.items()}
    compared = {kind: compare_kind(pair, b, samples) for kind, pair in scores.items()}
    kind = kinds[-1]  # masks where both have them
    # Each at its own best threshold: at a common one the run whose scores are lower would look worse than it is.
    in_a, in_b = (
        diagnose(run, kind, threshold=Curves(run, of_run, own).best_threshold())
        for run, of_run, own in zip((a, b), scores[kind], found[kind])
    )
    chosen = choose_differing(in_a, in_b, count)
    # Both runs have the same images; those of the later one are likelier to be in their place.
    pictures = Pictures(b, kind)
    cards = {name: image_cards(choices, pictures) for name, choices in chosen.items()}
    data = {
        "a": _describe(a, in_a),
        "b": _describe(b, in_b),
        "notes": [*a.notes, *(note for note in b.notes if note not in a.notes), *note_unreadable(pictures, chosen)],
        "images": len(b.image_ids),
        "objects": sum(len(b.objects_of(image_id)) for image_id in b.image_ids),
        "samples": samples,
        "confidence": CONFIDENCE,
        "kinds": compared,
        "differing": count_differing(in_a, in_b) | {"kind": kind},
        "shown": {name: images_as_data(b, choices) for name, choices in chosen.items()},
    }
    sections = {"better": f"Better in {b.name}", "worse": f"Worse in {b.name}"}
    return write_page(folder, "comparison.html", data, {"cards": cards, "sections": sections, "kind_names": KIND_NAMES})


def compare_kind(pair: list[Any], evaluated: Evaluated, samples: int) -> dict[str, Any]:
    """Return both runs' numbers, the differences with hotcoco's intervals, and each class's AP."""
    compare = import_hotcoco().compare
    if samples > 2 * PROBE:
        began = time.monotonic()
        # Its time grows with images, classes and detections in ways that only a try tells.
        compare(*pair, n_bootstrap=PROBE)
        seconds = (time.monotonic() - began) / PROBE * samples
        if seconds > 10:
            print(f"{samples} bootstrap samples take up to {seconds:.0f} s (--bootstrap N: others)", flush=True)
    found = compare(*pair, n_bootstrap=samples, confidence=CONFIDENCE)
    rows = []
    for name in found["metric_keys"]:
        before, after = found["metrics_a"][name], found["metrics_b"][name]
        # -1 is COCO's "not measured": no object of that size, say.
        known = before >= 0 and after >= 0
        interval = (found["ci"] or {}).get(name) if known else None
        rows.append(
            {
                "name": f"AR{evaluated.max_dets}" if name == "AR100" else name,
                "a": round(before, 5) if before >= 0 else None,
                "b": round(after, 5) if after >= 0 else None,
                "change": round(found["deltas"][name], 5) if known else None,
                "lower": round(interval["lower"], 5) if interval else None,
                "upper": round(interval["upper"], 5) if interval else None,
                "share_above_0": round(interval["prob_positive"], 4) if interval else None,
            }
        )
    classes = [
        {
            "id": row["cat_id"],
            "name": row["cat_name"],
            "a": round(row["ap_a"], 5),
            "b": round(row["ap_b"], 5),
            "change": round(row["delta"], 5),
        }
        for row in found["per_category"]
        if row["ap_a"] >= 0 and row["ap_b"] >= 0
    ]
    return {"metrics": rows, "classes": sorted(classes, key=lambda row: -row["change"])}


def _describe(run: Evaluated, looked: Diagnosis) -> Mapping[str, Any]:
    return {"name": run.name, "facts": dict(run.facts), "threshold": looked.threshold}


def _refuse_different(a: Evaluated, b: Evaluated) -> None:
    """Refuse to compare what was measured on different data. Raises UserError."""
    if set(a.image_ids) != set(b.image_ids):
        shared = len(set(a.image_ids) & set(b.image_ids))
        raise UserError(
            f"{a.name} and {b.name} were evaluated on different images ({len(a.image_ids)} and {len(b.image_ids)}, "
            f"{shared} in both): evaluate both on the same"
        )
    if a.class_names != b.class_names or _objects(a) != _objects(b):
        raise UserError(f"{a.name} and {b.name} were evaluated by different annotations: evaluate both by the same")
    if a.max_dets != b.max_dets:
        raise UserError(f"{a.name} counts {a.max_dets} detections and {b.name} {b.max_dets}: give both one --max_dets")


def _objects(run: Evaluated) -> list[tuple]:
    rows = [(a["image_id"], a["category_id"], *a["bbox"]) for i in run.image_ids for a in run.objects_of(i)]
    # Order in the file does not matter, ids may be counted anew.
    return sorted(rows)
