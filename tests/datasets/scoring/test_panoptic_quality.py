"""Panoptic quality by hand, from the definition: matching, void, crowds, and averages over classes."""

import numpy as np
import pytest

from datasets.scoring.panoptic_quality import Counts, match_segments, panoptic_quality

CAT, DOG, SKY = 17, 18, 187


def segments(**categories: int) -> list[dict]:
    """Segments with the ids of their names: s1=CAT is segment 1 of class CAT; c2=CAT a crowd."""
    return [{"id": int(name[1:]), "category_id": c, "iscrowd": int(name[0] == "c")} for name, c in categories.items()]


def row(*runs: tuple[int, int]) -> np.ndarray:
    """An image of one row: (id, pixels) runs."""
    return np.concatenate([np.full(n, id_) for id_, n in runs])[None]


def test_a_perfect_prediction_has_quality_one() -> None:
    ids = row((1, 6), (2, 4))
    counts = match_segments(
        ids, segments(s1=CAT, s2=SKY), ids * 7, [{"id": 7, "category_id": CAT}, {"id": 14, "category_id": SKY}]
    )
    assert counts == {CAT: Counts(iou=1.0, tp=1), SKY: Counts(iou=1.0, tp=1)}
    assert panoptic_quality(counts, [CAT, DOG, SKY]) == {"pq": 1, "sq": 1, "rq": 1, "n": 2}


def test_a_match_needs_more_than_half_of_the_union() -> None:
    truth = row((1, 6), (2, 6))
    half = match_segments(truth, segments(s1=CAT, s2=SKY), row((1, 3), (2, 9)), segments(s1=CAT, s2=SKY))
    assert half[CAT] == Counts(fp=1, fn=1)  # 3 of 6: exactly a half
    assert half[SKY] == Counts(iou=6 / 9, tp=1)
    more = match_segments(truth, segments(s1=CAT, s2=SKY), row((1, 4), (2, 8)), segments(s1=CAT, s2=SKY))
    assert more[CAT] == Counts(iou=4 / 6, tp=1)


def test_another_class_in_the_same_place_is_wrong_and_missed() -> None:
    ids = row((1, 5))
    assert match_segments(ids, segments(s1=CAT), ids, segments(s1=DOG)) == {CAT: Counts(fn=1), DOG: Counts(fp=1)}


def test_the_numbers_of_a_class_by_hand() -> None:
    """Two matches of IoU 0.8 and 0.6, one false positive, two missed: PQ = 1.4 / (2 + 1/2 + 1) = 0.4, RQ 4/7."""
    quality = Counts(iou=1.4, tp=2, fp=1, fn=2).quality()
    assert quality == pytest.approx({"pq": 0.4, "sq": 0.7, "rq": 4 / 7})
    assert quality["pq"] == pytest.approx(quality["sq"] * quality["rq"])


def test_classes_are_averaged_and_those_that_do_not_occur_do_not_count() -> None:
    counts = {CAT: Counts(iou=0.8, tp=1), SKY: Counts(fn=3), DOG: Counts()}
    assert panoptic_quality(counts, [CAT, DOG, SKY, 99]) == pytest.approx({"pq": 0.4, "sq": 0.4, "rq": 0.5, "n": 2})


def test_nothing_to_measure_is_no_division_by_zero() -> None:
    assert (
        panoptic_quality({}, [CAT])
        == panoptic_quality({CAT: Counts(tp=1, iou=1)}, [])
        == {"pq": 0, "sq": 0, "rq": 0, "n": 0}
    )
    assert match_segments(row((0, 5)), [], row((0, 5)), []) == {}


# ---- void


def test_void_does_not_count_in_the_union() -> None:
    """Prediction of 10 pixels over a cat of 4 and void of 6: IoU 4/4, though only 4 of 10 pixels are right."""
    counts = match_segments(row((1, 4), (0, 6)), segments(s1=CAT), row((1, 10)), segments(s1=CAT))
    assert counts == {CAT: Counts(iou=1.0, tp=1)}


@pytest.mark.parametrize(("void", "wrong"), [(6, 0), (5, 1), (4, 1)])
def test_a_prediction_mostly_in_void_is_not_wrong(void: int, wrong: int) -> None:
    truth = row((1, 10 - void), (0, void), (1, 20))
    counts = match_segments(truth, segments(s1=SKY), row((1, 10), (2, 20)), segments(s1=CAT, s2=SKY))
    assert counts.get(CAT, Counts()).fp == wrong  # exactly a half is wrong


def test_pixels_of_an_id_that_is_not_listed_are_void() -> None:
    counts = match_segments(row((1, 4), (9, 6)), segments(s1=CAT), row((1, 4), (8, 6)), segments(s1=CAT))
    assert counts == {CAT: Counts(iou=1.0, tp=1)}


def test_a_prediction_may_have_the_id_zero() -> None:
    """DETR numbers its segments from 0, which in the ground truth is void."""
    counts = match_segments(
        row((1, 4), (2, 4)), segments(s1=CAT, s2=SKY), row((0, 4), (1, 4)), segments(s0=CAT, s1=SKY)
    )
    assert counts == {CAT: Counts(iou=1.0, tp=1), SKY: Counts(iou=1.0, tp=1)}


# ---- crowds


def test_a_crowd_matches_nothing_and_is_not_missed() -> None:
    ids = row((1, 8))
    assert match_segments(ids, segments(c1=CAT), ids, segments(s1=CAT)) == {}
    assert match_segments(ids, segments(c1=CAT), row((0, 8)), []) == {}


def test_a_prediction_of_another_class_on_a_crowd_is_wrong() -> None:
    ids = row((1, 8))
    assert match_segments(ids, segments(c1=CAT), ids, segments(s1=DOG)) == {DOG: Counts(fp=1)}


def test_void_and_crowd_count_together() -> None:
    """A cat over 3 pixels of void, 3 of a crowd of cats and 4 of sky: 6 of 10 are ignored."""
    truth = row((0, 3), (1, 3), (2, 24))
    found = row((1, 10), (2, 20))
    assert match_segments(truth, segments(c1=CAT, s2=SKY), found, segments(s1=CAT, s2=SKY)) == {
        SKY: Counts(iou=20 / 24, tp=1)
    }
    assert match_segments(truth, segments(c1=DOG, s2=SKY), found, segments(s1=CAT, s2=SKY))[CAT] == Counts(fp=1)


def test_all_crowds_of_a_class_count() -> None:
    truth = row((1, 3), (2, 3), (3, 4))
    assert match_segments(truth, segments(c1=CAT, c2=CAT, s3=SKY), row((1, 10)), segments(s1=CAT)) == {
        SKY: Counts(fn=1)
    }


def test_images_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="pixels"):
        match_segments(row((1, 4)), segments(s1=CAT), row((1, 5)), segments(s1=CAT))
