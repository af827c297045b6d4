"""hotcoco's counts of panoptic segments are ours, to the last bit; what it does not take is matched by ours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.scoring.hotcoco_panoptic import match_by_hotcoco
from datasets.scoring.panoptic_quality import Counts, match_segments
from util.panoptic_png import encode_segments

CATEGORIES = [{"id": id_, "name": str(id_), "isthing": int(id_ < 4)} for id_ in range(1, 7)]


def both(folder: Path, ids: list[np.ndarray], rows: list[list[dict[str, Any]]]) -> list[dict[int, Counts] | None]:
    """The counts of hotcoco and ours of an image's true and found segments."""
    for name, image in zip(("truth", "found"), ids):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "1.png").write_bytes(encode_segments(image))
    truth, found = ({"image_id": 1, "file_name": "1.png", "segments_info": row} for row in rows)
    image = {"id": 1, "file_name": "1.jpg", "height": ids[0].shape[0], "width": ids[0].shape[1]}
    folders = (folder / "truth", folder / "found")
    theirs = match_by_hotcoco(truth, found, image=image, categories=CATEGORIES, folders=folders)
    return [theirs, match_segments(ids[0], rows[0], ids[1], rows[1])]


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_equal_to_the_last_bit(tmp_path: Path, seed: int) -> None:
    pytest.importorskip("hotcoco", reason="hotcoco is not installed")
    rng = np.random.default_rng(seed)
    # Blocks of segments, not in the order of their ids, and void; the prediction is shifted and in part wrong.
    names = rng.permutation(np.arange(1, 4000))[:42] * (rng.random(42) < 0.9)
    truth = np.kron(names.reshape(6, 7), np.ones((9, 11), int))
    shift = rng.integers(0, 3, 2)
    found = np.roll(truth, shift, (0, 1)) * 3
    true_rows = [
        {"id": int(id_), "category_id": int(rng.integers(1, 7)), "iscrowd": 0}
        for id_ in rng.permutation(np.setdiff1d(truth, [0]))
    ]
    # One crowd of a class at most, as COCO has it.
    true_rows[3].update(iscrowd=1, category_id=1)
    true_rows[5].update(iscrowd=1, category_id=2)
    class_of = {3 * row["id"]: row["category_id"] for row in true_rows}
    found_rows = [
        {"id": id_, "category_id": c if rng.random() < 0.8 else int(rng.integers(1, 7))} for id_, c in class_of.items()
    ]
    theirs, ours = both(tmp_path, [truth, found], [true_rows, found_rows])
    assert theirs is not None and theirs == ours and any(count.tp > 1 for count in ours.values())


@pytest.mark.parametrize(
    "odd", ["a segment 0", "a segment without a pixel", "pixels without a segment", "two crowds of a class", "a size"]
)
def test_what_it_does_not_take_is_left_to_ours(tmp_path: Path, odd: str) -> None:
    ids = np.repeat([[1, 2]], 4, 0)
    found, rows = ids.copy(), [{"id": 1, "category_id": 2}, {"id": 2, "category_id": 5}]
    true_rows = [row | {"iscrowd": 0} for row in rows]
    if odd == "a segment 0":
        found, rows = ids - 1, [{"id": 0, "category_id": 2}, {"id": 1, "category_id": 5}]
    elif odd == "a segment without a pixel":
        rows = [*rows, {"id": 9, "category_id": 2}]
    elif odd == "two crowds of a class":
        true_rows = [row | {"iscrowd": 1, "category_id": 2} for row in rows]
    elif odd == "pixels without a segment":
        rows = rows[:1]
    else:
        with pytest.raises(ValueError, match="pixels"):
            both(tmp_path, [ids, ids[:2]], [true_rows, rows])
        return
    assert both(tmp_path, [ids, found], [true_rows, rows])[0] is None
