"""The line before a run that cannot work, and the runs that do without it."""

import argparse

import numpy as np
import pytest
from torch.utils.data import Subset

from run_data import Data
from settings import Weights
from training.prospects import FEW_IMAGES, warn_of_few_images

PLAIN = {"dataset_file": "coco", "queries": "learned", "overfit": 0}


def line(images: int, *, paths: dict | None = None, part: bool = False, **flags: object) -> str | None:
    train = np.zeros(images)
    data = Data(Subset(train, [0]) if part else train, train, 2, {1: "cell"}, None)
    return warn_of_few_images(argparse.Namespace(**PLAIN | flags), data, Weights(None, None, None, paths or {}))


def test_plain_detr_on_few_images_is_warned_about() -> None:
    said = line(205)
    assert said is not None and "205 images" in said and "--queries encoder" in said and "\n" not in said


@pytest.mark.parametrize(
    "case",
    [
        {"images": FEW_IMAGES},
        {"images": FEW_IMAGES, "part": True},
        {"images": 205, "queries": "encoder"},
        {"images": 205, "overfit": 4},
        {"images": 205, "dataset_file": "shapes"},
        {"images": 205, "paths": {"start": "detr.pth"}},
    ],
)
def test_others_are_not(case: dict) -> None:
    assert line(**case) is None


def test_an_evaluation_is_not() -> None:
    val = np.zeros(3)
    data = Data(None, val, 2, {1: "cell"}, None)
    assert warn_of_few_images(argparse.Namespace(**PLAIN), data, Weights(None, None, None, {})) is None
