"""The line that a trial on few images ends with."""

import math

import pytest

from training.verdict import Trial, judge

FIRST = {"loss": 20.0, "loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}


def trial(*, fell: float = 0.2, ap50: float = 0.0, steps: int = 300, small_side: float = 40, **last: float) -> Trial:
    end = {name: value * fell for name, value in FIRST.items()} | last
    return Trial(4, steps, 90, FIRST, end, ap50, small_side, "--data_path mine")


@pytest.mark.parametrize(
    ("case", "word", "hint"),
    [
        ({"ap50": 0.95}, "LEARNS", "AP50 0.95 on the 4 images"),
        ({"ap50": 0.5}, "BEGINS TO LEARN", "--max_steps"),
        ({"ap50": 0.05}, "SLOW", "--queries encoder"),
        ({"fell": 0.95}, "DOES NOT LEARN", "--lr_find"),
        ({"fell": 0.95, "ap50": -1.0}, "DOES NOT LEARN", "AP50 0.00"),
        ({"fell": 0.95, "steps": 3}, "TOO FEW STEPS TO TELL", "--image_size"),
        ({"loss_bbox": 4.9}, "SLOW", "python -m datasets.check --data_path mine --sheet"),
        ({"loss_ce": 1.9}, "SLOW", "names and ids"),
        ({"small_side": 5.0}, "SLOW", "raise --image_size"),
        ({"loss": math.nan}, "BROKEN", "smaller --lr"),
    ],
)
def test_the_line_says_what_was_reached_and_what_to_look_at(case: dict, word: str, hint: str) -> None:
    said = judge(trial(**case))
    assert f": {word}: " in said and hint in said and "\n" not in said
    assert ("look at" in said) == (
        word == "DOES NOT LEARN" or any(k in case for k in ("loss_bbox", "loss_ce", "small_side"))
    )
