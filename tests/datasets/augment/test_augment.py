"""Augmentation switches: masks and boxes stay together, DETR's random stream stays as it is, mistakes are one line."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import Subset

import datasets
import datasets.transforms as T
import main
import run_data
from datasets.augment.color import ColorJitter
from datasets.augment.mosaic import Mosaic, mosaic
from datasets.augment.place import MEAN_COLOUR
from datasets.augment.scale import RelativeCrop, ScaleJitter
from datasets.augment.switches import Augmentation, make_training_transforms
from datasets.augment.turns import RandomRotate90, RandomVerticalFlip, rotate90, vflip
from datasets.loader import set_epoch
from datasets.shapes.dataset import ShapesDataset, make_shapes_transforms
from datasets.sizes import ImageSizes
from tests.datasets.test_transforms import gradient_image, seeded, target
from tests.helpers import TINY, Run, assert_refused
from util.box_ops import masks_to_boxes
from util.dist.distributed import Launch

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")


def test_without_switches_the_transforms_are_detrs() -> None:
    """Equal transforms draw equal numbers: test_transforms.py holds DETR's own."""
    for sizes in ({}, {"image_size": 96, "max_size": 120, "crop_size": (20, 30)}):
        made = make_training_transforms(Augmentation(), ImageSizes(**sizes), as_uint8=True)
        assert repr(made) == repr(T.make_coco_transforms("train", as_uint8=True, **sizes))
    assert [type(part) for part in make_shapes_transforms("train").transforms[:-1]] == [T.RandomHorizontalFlip]
    # Numbers of the stream after one image: a switch that draws while it is off would move them.
    seeded(make_training_transforms(Augmentation(), ImageSizes(image_size=40)), gradient_image(60, 40), 5)
    assert (round(random.random(), 9), torch.randint(10**9, (1,)).item()) == STREAM


#: Of the commit before there were switches.
STREAM = (0.029005228, 503177917)


def test_no_flip_and_the_order_of_the_switches() -> None:
    every = Augmentation(flip=False, vertical_flip=True, rotate90=True, color_jitter=0.3, crop_sides=(0.6, 1))
    made = make_training_transforms(every, ImageSizes(), fast_resize=True).transforms
    kinds = [T.ToPixels, RandomVerticalFlip, RandomRotate90, T.RandomSelect, ColorJitter, T.Compose]
    assert [type(part) for part in made] == kinds
    assert make_shapes_transforms("val", augmentation=every).transforms[:-1] == []


TURNS = [
    (vflip, lambda pixels: pixels[::-1]),
    *((lambda i, t, k=k: rotate90(i, t, k), lambda pixels, k=k: np.rot90(pixels, k)) for k in range(4)),
]


@pytest.mark.parametrize(("turn", "by_numpy"), TURNS, ids=["vflip", "0", "90", "180", "270"])
def test_turns_take_pixels_boxes_and_masks_along(turn: Any, by_numpy: Any) -> None:
    image, labelled = gradient_image(9, 6), target([1, 2, 4, 3], [5, 0, 9, 6], width=9, height=6, masks=True)
    turned, got = turn(image, labelled)
    assert np.array_equal(np.asarray(turned), by_numpy(np.asarray(image)))
    assert got["size"].tolist() == [turned.height, turned.width] and got["orig_size"].tolist() == [6, 9]
    assert torch.equal(got["boxes"], edges(got["masks"])) and torch.equal(got["area"], labelled["area"])
    pixels, of_tensor = turn(T.ToPixels()(image, None)[0], labelled)
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(turned))
    assert turn(image, None)[1] is None and all(torch.equal(of_tensor[key], got[key]) for key in got)


def edges(masks: torch.Tensor) -> torch.Tensor:
    """Boxes of masks whose right and bottom edges lie after the last pixel, as COCO's do."""
    return masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1]) if len(masks) else torch.zeros(0, 4)


SIDES = st.integers(24, 90)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(SIDES, SIDES, st.integers(0, 10**6), st.sampled_from(range(6)), st.booleans())
def test_boxes_are_those_of_the_masks(width: int, height: int, seed: int, kind: int, as_tensor: bool) -> None:
    transform = [
        RelativeCrop(0.3, 1.0),
        ScaleJitter(0.2, 3.0, 40, 60),
        ScaleJitter(1.0, 1.0, 40),
        RandomRotate90(),
        RandomVerticalFlip(),
        T.Compose([RandomRotate90(), RelativeCrop(0.5, 0.9), ScaleJitter(0.5, 2.0, 30), ColorJitter(0.5)]),
    ][kind]
    boxes = [0, 0, width, height], [2, 3, width // 2, height // 3], [width - 3, height - 2, width, height]
    image, labelled = gradient_image(width, height), target(*boxes, width=width, height=height, masks=True)
    before = {key: value.clone() for key, value in labelled.items()}
    image, got = seeded(transform, T.ToPixels()(image, None)[0] if as_tensor else image, seed, labelled)
    assert all(torch.equal(labelled[key], before[key]) for key in before), "the given target is left as it was"
    assert T.image_size(image) == tuple(got["size"].tolist()) == tuple(got["masks"].shape[1:])
    assert len({len(got[key]) for key in ("boxes", "labels", "area", "iscrowd", "masks")}) == 1
    assert got["labels"].tolist() == sorted(got["labels"].tolist())
    sides = got["boxes"][:, 2:] - got["boxes"][:, :2]
    assert (sides > 0).all() and (got["boxes"] >= 0).all()
    torch.testing.assert_close(got["area"], sides.prod(1), rtol=1e-4, atol=1e-2)
    # The nearest pixel of a scaled mask may be one off per edge; of a mask thinner than that nothing may be left.
    seen = got["masks"].flatten(1).any(1)
    slack = 1 + max(T.image_size(image)[k] / (height, width)[k] for k in (0, 1)) * ("Scale" in repr(transform))
    assert (edges(got["masks"][seen]) - got["boxes"][seen]).abs().max() <= slack


def test_scale_jitter_has_the_size_of_the_evaluation_and_mean_colour_around() -> None:
    labelled = target([0, 0, 60, 40], width=60, height=40)
    small, got = seeded(ScaleJitter(0.5, 0.5, 20, 100), gradient_image(60, 40), 1, labelled)
    assert small.size == (30, 20) and got["area"].tolist() == [150]
    left, top, right, bottom = got["boxes"][0].int().tolist()
    outside = np.ones((20, 30), bool)
    outside[top:bottom, left:right] = False
    assert (right - left, bottom - top) == (15, 10) and (np.asarray(small)[outside] == MEAN_COLOUR).all()
    large, got = seeded(ScaleJitter(2, 2, 20, 100), gradient_image(60, 40), 1, labelled)
    assert large.size == (30, 20) and got["boxes"].tolist() == [[0, 0, 30, 20]]
    # 1 / 2 of the sides, 30 x 20 pixels, are seen at their own size.
    assert np.ptp(np.asarray(large)[..., 0]) == 29 and np.ptp(np.asarray(large)[..., 1]) == 19


def test_crop_probability_is_the_part_that_is_cropped() -> None:
    for probability, sides in ((0.0, {(40, 60)}), (1.0, {(40, 40), (40, 60)})):
        transform = Augmentation(crop_probability=probability, crop_sides=(0.5, 0.5)).scaling(
            ImageSizes(image_size=40, train_scales=[40])
        )
        assert {seeded(transform, gradient_image(60, 40), seed)[0].size[::-1] for seed in range(5)} <= sides
    cropped = [seeded(transform, gradient_image(60, 40), seed)[0].getpixel((0, 0))[0] > 0 for seed in range(5)]
    assert any(cropped)


def test_color_jitter_is_close_to_torchvisions_and_equal_for_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.transforms import functional as F

    image = Image.fromarray(np.random.default_rng(0).integers(60, 180, (20, 30, 3), dtype=np.uint8))
    drawn = iter([0.9, 1.1, 1.2, 0.0] * 2)
    monkeypatch.setattr(random, "uniform", lambda low, high: next(drawn))
    jittered, _ = ColorJitter(0.4)(image, None)
    expected = F.adjust_saturation(F.adjust_contrast(F.adjust_brightness(image, 0.9), 1.1), 1.2)
    assert np.abs(np.asarray(jittered, int) - np.asarray(expected, int)).max() <= 3
    pixels, _ = ColorJitter(0.4)(T.ToPixels()(image, None)[0], None)
    assert pixels.dtype == torch.uint8
    assert np.abs(pixels.permute(1, 2, 0).numpy().astype(int) - np.asarray(jittered, int)).max() <= 1
    monkeypatch.undo()
    grey = Image.new("RGB", (4, 4), (90, 90, 90))
    channels = np.asarray(seeded(ColorJitter(1.0), grey, 3)[0], int)
    assert np.ptp(channels, axis=-1).max() <= 1, "neither saturation nor hue colours a grey pixel"


def four(width: int = 60, height: int = 40) -> list[tuple[Image.Image, T.Target]]:
    """Four images of other sizes, each with an object over all of it and one that fills its last pixel."""
    sizes = [(width, height), (30, 90), (77, 20), (40, 40)]
    return [(gradient_image(w, h), target([0, 0, w, h], [w - 1, h - 1, w, h], width=w, height=h)) for w, h in sizes]


@pytest.mark.parametrize("seed", range(3))
def test_a_mosaic_has_the_size_of_its_first_image_and_objects_that_tile_it(seed: int) -> None:
    random.seed(seed)
    examples = [(i, t | {"masks": torch.ones(2, *t["size"].tolist(), dtype=torch.bool)}) for i, t in four()]
    image, got = mosaic(examples)
    assert image.size == (60, 40) and got["size"].tolist() == [40, 60] and got["image_id"].tolist() == [5]
    whole = got["labels"] == 0
    assert whole.sum() == 4 and got["area"][whole].sum() == 60 * 40
    assert (got["masks"][whole].sum(0) == 1).all(), "every pixel is of one image"
    torch.testing.assert_close(edges(got["masks"][whole]), got["boxes"][whole])
    assert len({len(got[key]) for key in ("boxes", "labels", "area", "iscrowd", "masks")}) == 1


def test_mosaics_come_with_their_probability_and_from_the_subset_alone() -> None:
    data = ShapesDataset(image_set="train", size=6, image_size=32, transforms=make_shapes_transforms("val"))
    part = Subset(data, [4])
    made = Mosaic(part, 1.0, data.transforms)
    assert len(made) == 1 and datasets.unwrap(made) is data and datasets.aspect_ratios(made).tolist() == [1]
    random.seed(0)
    (image, got), alone = made.__getitems__([0])[0], data[4]
    assert image.shape == alone[0].shape and got["image_id"] == 4
    assert set(got["labels"].tolist()) <= set(alone[1]["labels"].tolist())
    never = Mosaic(part, 0.0, data.transforms)[0]
    assert torch.equal(never[0], alone[0]) and not torch.equal(image, alone[0])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--mosaic 1.5", ["--mosaic 1.5", "0 to 1"]),
        ("--color_jitter -1", ["--color_jitter -1"]),
        ("--scale_jitter 2 1", ["--scale_jitter 2.0 1.0", "lower first"]),
        ("--scale_jitter 0.5 2 --train_scales 480", ["--scale_jitter", "--train_scales"]),
        ("--crop_sides 0.6 1.2", ["--crop_sides 0.6 1.2"]),
        ("--crop_sides 0.6 1", ["--crop_sides", "shapes"]),
        ("--mosaic 0.5 --num_buckets 2", ["--mosaic", "--num_buckets"]),
    ],
)
def test_switches_that_cannot_work_are_refused(run: Run, flags: str, words: list[str]) -> None:
    assert_refused(run(f"{TINY} --epochs 1 {flags}"), *words)


@pytest.mark.slow
def test_loaded_batches_depend_on_seed_and_epoch_alone() -> None:
    flags = "--no_flip --vertical_flip --rotate90 --color_jitter 0.3 --mosaic 0.5 --scale_jitter 0.5 1.5 --masks"
    cfg = main.parse_flags(f"{TINY} --num_workers 2 --image_size 32 {flags}".split())
    launch = Launch()
    passes = []
    for epochs in ([0, 1], [1]):
        loader = run_data.build_loader(run_data.build_split("train", cfg), cfg, launch, train=True)
        random.seed(len(passes))
        for epoch in epochs:
            set_epoch(loader, epoch)
            passes.append(list(loader))
    (first, again), other = passes[1:], passes[0]
    for (images, targets), (images_again, targets_again) in zip(first, again, strict=True):
        assert torch.equal(images.tensors, images_again.tensors)
        assert all(torch.equal(a[key], b[key]) for a, b in zip(targets, targets_again) for key in a)
    assert not torch.equal(first[0][0].tensors, other[0][0].tensors)
