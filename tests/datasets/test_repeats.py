"""Repeat factors: LVIS's rule, the mean over epochs, and epochs of equal length on every process."""

from collections import Counter

import numpy as np
import pytest
from torch.utils.data import Subset

import datasets
from datasets.augment.mosaic import Mosaic
from datasets.loader import make_sampler
from datasets.repeats import RepeatedImages, class_factors, image_factors
from datasets.shapes.dataset import ShapesDataset
from tests.helpers import TINY, Run, assert_refused

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

#: Ten images: class 1 in nine, class 2 in two, class 3 in one; the last has none.
LABELS = [np.array(labels, dtype=np.int64) for labels in [[1, 1], [1, 2], [1, 2, 2, 3], *[[1]] * 6, []]]


def test_factors_are_lviss() -> None:
    of_class = class_factors(LABELS, 0.4)
    assert of_class == pytest.approx({1: 1, 2: 2**0.5, 3: 2})
    assert image_factors(LABELS, of_class).tolist() == pytest.approx([1, 2**0.5, 2, *[1] * 7])


def test_factors_of_many_images_are_those_of_each() -> None:
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, 9, count) for count in rng.integers(0, 4, 200)]
    of_class = class_factors(labels, 0.3)
    parts = {c: np.mean([c in of_image for of_image in labels]) for c in range(9)}
    assert of_class == pytest.approx({c: max(1, (0.3 / part) ** 0.5) for c, part in parts.items()})
    expected = [max((of_class[c] for c in of_image.tolist()), default=1.0) for of_image in labels]
    assert image_factors(labels, of_class).tolist() == expected


def test_epochs_are_equally_long_and_the_mean_is_the_factor() -> None:
    factors = np.array([1.0, 1.3, 2.5, 1.0, 3.0, 1.7])
    images = RepeatedImages(factors)
    assert len(images) == 11  # of 10.5
    seen = Counter()
    for epoch in range(600):
        counts = np.bincount(images.shuffled(np.random.default_rng(epoch)), minlength=6)
        assert counts.sum() == 11
        # Up to one image comes once more, to fill the half.
        assert (np.floor(factors) <= counts).all() and (counts > np.ceil(factors)).sum() <= 1
        seen.update(dict(enumerate(counts.tolist())))
    mean = np.array([seen[k] for k in range(6)]) / 600
    assert (mean - factors).sum() == pytest.approx(0.5) and np.abs(mean - factors).max() < 0.2


@pytest.mark.parametrize("aspects", [None, np.linspace(0.5, 2, 10)], ids=["plain", "aspect_grouping"])
@pytest.mark.parametrize("world_size", [1, 3])
def test_processes_have_as_many_and_seed_and_epoch_decide(aspects: np.ndarray | None, world_size: int) -> None:
    images = RepeatedImages(image_factors(LABELS, class_factors(LABELS, 0.4)))

    def order(rank: int, epoch: int) -> list[int]:
        place = {"seed": 7, "rank": rank, "world_size": world_size}
        made = make_sampler(range(10), batch_size=2, shuffle=True, aspects=aspects, repeats=images, **place)
        made.set_epoch(epoch)
        assert len(list(made)) == len(made)
        return list(made)

    ranks = [order(rank, 1) for rank in range(world_size)]
    assert len(set(map(len, ranks))) == 1 and ranks == [order(rank, 1) for rank in range(world_size)]
    assert ranks != [order(rank, 2) for rank in range(world_size)]
    counts = Counter(image for rank in ranks for image in rank)
    assert set(counts) == set(range(10)) and counts[2] >= 2
    assert sum(counts.values()) >= len(images) == 12


def test_labels_are_those_of_the_images_that_are_used(capsys: pytest.CaptureFixture[str]) -> None:
    data = ShapesDataset(image_set="train", size=8, image_size=32)
    expected = [data.load(index)[1]["labels"].tolist() for index in (6, 2)]
    chosen = Subset(Mosaic(Subset(data, [1, 2, 6]), 0.5, lambda image, target: (image, target)), [2, 1])
    assert [labels.tolist() for labels in datasets.labels_of_images(chosen)] == expected
    assert len(datasets.repeated_images(chosen, 1.0)) >= 2
    assert "--repeat_factor 1.0: an epoch has" in capsys.readouterr().out


def test_a_threshold_that_is_no_part_is_refused(run: Run) -> None:
    assert_refused(run(f"{TINY} --repeat_factor 1.5"), "--repeat_factor 1.5", "at most 1")
