"""Every transform against boxes computed by hand, DETR's sizes to the pixel, and its use of random numbers."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import datasets.transforms as T
from util.errors import DatasetError
from util.nested_tensor import nested_tensor_from_tensor_list


def gradient_image(width: int, height: int) -> Image.Image:
    """An image in which every pixel tells where it was: red is x, green is y (modulo 256)."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x % 256, y % 256, np.full_like(x, 77)], axis=-1).astype(np.uint8))


def target(*boxes: list[float], width: int, height: int, masks: bool = False) -> T.Target:
    """A target with one object per box, labels 0, 1, ...; each mask is its box."""
    tensor = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    made = {
        "boxes": tensor,
        "labels": torch.arange(len(boxes)),
        "area": (tensor[:, 2:] - tensor[:, :2]).prod(1),
        "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
        "image_id": torch.tensor([5]),
        "orig_size": torch.tensor([height, width]),
        "size": torch.tensor([height, width]),
    }
    if masks:
        made["masks"] = torch.zeros(len(boxes), height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(made["masks"], tensor.int().tolist()):
            mask[y0:y1, x0:x1] = True
    return made


def seeded(transform: Any, image: Image.Image, seed: int, given: T.Target | None = None) -> T.Example:
    """Apply with both random generators at `seed`."""
    random.seed(seed)
    torch.manual_seed(seed)
    return transform(image, given)


def test_crop_shifts_clamps_and_drops() -> None:
    boxes = [10, 20, 110, 220], [600, 10, 630, 40], [0, 0, 31, 60], [530, 100, 600, 450]
    given_target = target(*boxes, width=640, height=480)
    image, got = T.crop(gradient_image(640, 480), given_target, (50, 30, 400, 500))
    assert image.size == (500, 400) and image.getpixel((0, 0)) == (30, 50, 77)
    # The second lies outside, the fourth only touches the right edge; one pixel of the third is enough to stay.
    assert got["boxes"].tolist() == [[0, 0, 80, 170], [0, 0, 1, 10]]
    assert got["area"].tolist() == [13600, 10]
    assert got["labels"].tolist() == [0, 2] and got["iscrowd"].tolist() == [0, 0]
    assert got["size"].tolist() == [400, 500] and got["orig_size"].tolist() == [480, 640]


def test_crop_cuts_masks_and_filters_them_by_boxes() -> None:
    given_target = target([1, 1, 4, 3], [6, 0, 8, 2], width=8, height=6, masks=True)
    _, got = T.crop(gradient_image(8, 6), given_target, (2, 2, 4, 4))
    assert got["boxes"].tolist() == [[0, 0, 2, 1]]
    assert got["masks"].int().tolist() == [[[1, 1, 0, 0], [0] * 4, [0] * 4, [0] * 4]]


def test_crop_of_masks_alone_keeps_the_visible() -> None:
    given_target = target([1, 1, 4, 3], [6, 0, 8, 2], width=8, height=6, masks=True)
    del given_target["boxes"]
    _, got = T.crop(gradient_image(8, 6), given_target, (0, 5, 6, 3))
    assert got["labels"].tolist() == [1] and got["masks"].shape == (1, 6, 3)


def test_hflip_mirrors_at_the_width() -> None:
    image, got = T.hflip(gradient_image(640, 480), target([10, 20, 110, 220], width=640, height=480, masks=True))
    assert got["boxes"].tolist() == [[530, 20, 630, 220]]
    assert image.getpixel((0, 3)) == (639 % 256, 3, 77)
    assert got["masks"][0, 100].nonzero().flatten().tolist() == list(range(530, 630))


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, (1066, 800)),
        (500, 375, (1066, 800)),
        (640, 360, (1333, 750)),
        (1000, 300, (1333, 400)),
        (427, 640, (800, 1199)),
        (375, 500, (800, 1066)),
        (800, 1000, (800, 1000)),
        (5000, 1, (5000, 1)),
    ],
)
def test_resized_shape_is_detrs(width: int, height: int, expected: tuple[int, int]) -> None:
    assert T.resized_shape(width, height, 800, 1333) == expected[::-1]


def test_limited_size_rounds_half_to_even() -> None:
    # 5 * 50 / 100 = 2.5 becomes 2, and 7 * 50 / 100 = 3.5 becomes 4.
    assert T.resized_shape(100, 50, 40, 5) == (2, 4)
    assert T.resized_shape(100, 50, 40, 7) == (4, 8)


def test_resize_scales_boxes_by_the_rounded_sizes() -> None:
    image, got = T.resize(gradient_image(640, 480), target([10, 20, 110, 220], width=640, height=480), 800, 1333)
    assert image.size == (1066, 800) and got["size"].tolist() == [800, 1066]
    torch.testing.assert_close(got["boxes"], torch.tensor([[16.65625, 33.333333, 183.21875, 366.666667]]))
    assert got["area"].item() == pytest.approx(20000 * (1066 / 640) * (800 / 480), rel=1e-6)
    assert got["orig_size"].tolist() == [480, 640]


def test_resize_to_width_and_height() -> None:
    image, got = T.resize(gradient_image(60, 40), target([6, 4, 12, 8], width=60, height=40), (30, 80))
    assert image.size == (30, 80)
    assert got["boxes"].tolist() == [[3, 8, 6, 16]]


def test_resize_takes_the_nearest_mask_pixel() -> None:
    _, got = T.resize(gradient_image(4, 4), target([1, 0, 3, 2], width=4, height=4, masks=True), 8)
    assert got["masks"].dtype == torch.bool
    assert got["masks"].int().tolist() == [[[0, 0, 1, 1, 1, 1, 0, 0]] * 4 + [[0] * 8] * 4]


def test_resize_interpolates_as_pil_bilinear() -> None:
    image = gradient_image(40, 30)
    resized, _ = T.resize(image, None, 15)
    assert np.array_equal(np.array(resized), np.array(image.resize((20, 15), Image.Resampling.BILINEAR)))


def test_pad_adds_below_and_right() -> None:
    image, got = T.pad(gradient_image(4, 3), target([1, 1, 3, 2], width=4, height=3, masks=True), (2, 5))
    assert image.size == (6, 8) and image.getpixel((5, 0)) == (0, 0, 0)
    assert got["size"].tolist() == [8, 6] and got["boxes"].tolist() == [[1, 1, 3, 2]]
    assert got["masks"].shape == (1, 8, 6) and got["masks"].sum() == 2


def test_center_crop() -> None:
    image, got = T.CenterCrop((20, 30))(gradient_image(61, 40), target([20, 15, 70, 18], width=61, height=40))
    # (61 - 30) / 2 = 15.5 rounds to 16.
    assert image.getpixel((0, 0)) == (16, 10, 77)
    assert got["boxes"].tolist() == [[4, 5, 30, 8]]


def test_random_crop_has_its_size_and_refuses_smaller_images() -> None:
    image, _ = T.RandomCrop((20, 30))(gradient_image(60, 40), None)
    assert image.size == (30, 20)
    with pytest.raises(ValueError, match="larger than"):
        T.RandomCrop((20, 70))(gradient_image(60, 40), None)


def test_random_size_crop_draws_sizes_from_random_and_places_from_torch() -> None:
    image, _ = seeded(T.RandomSizeCrop(10, 30), gradient_image(60, 40), seed=3)
    random.seed(3)
    width, height = random.randint(10, 30), random.randint(10, 30)
    torch.manual_seed(3)
    top, left = torch.randint(0, 40 - height + 1, (1,)).item(), torch.randint(0, 60 - width + 1, (1,)).item()
    assert image.size == (width, height)
    assert image.getpixel((0, 0)) == (left, top, 77)


@pytest.mark.parametrize("seed", range(5))
def test_random_size_crop_of_a_small_image_stays_inside(seed: int) -> None:
    image, _ = seeded(T.RandomSizeCrop(384, 600), gradient_image(50, 450), seed)
    assert image.width == 50 and 384 <= image.height <= 450


def test_random_flip_and_select_compare_random_with_p() -> None:
    image = gradient_image(8, 8)
    for seed in range(10):
        random.seed(seed)
        below = random.random() < 0.3
        flipped, _ = seeded(T.RandomHorizontalFlip(0.3), image, seed)
        chosen, _ = seeded(T.RandomSelect(T.CenterCrop((2, 2)), T.CenterCrop((4, 4)), p=0.3), image, seed)
        assert (flipped.getpixel((0, 0)) == (7, 0, 77)) == below
        assert chosen.width == (2 if below else 4)


def test_random_resize_and_pad_choose_within_bounds() -> None:
    for seed in range(10):
        random.seed(seed)
        size = random.choice([10, 20, 30])
        resized, _ = seeded(T.RandomResize([10, 20, 30]), gradient_image(80, 40), seed)
        assert resized.size == (2 * size, size)
        random.seed(seed)
        right, bottom = random.randint(0, 5), random.randint(0, 5)
        padded, _ = seeded(T.RandomPad(5), gradient_image(8, 8), seed)
        assert padded.size == (8 + right, 8 + bottom)


def test_to_tensor_and_normalize() -> None:
    made = T.Compose([T.ToTensor(), T.Normalize(T.IMAGENET_MEAN, T.IMAGENET_STD)])
    image, got = made(Image.new("RGB", (200, 100)), target([20, 10, 60, 30], width=200, height=100))
    assert image.shape == (3, 100, 200) and image.dtype == torch.float32
    assert image[0, 0, 0].item() == pytest.approx(-2.1179039)
    torch.testing.assert_close(got["boxes"], torch.tensor([[0.2, 0.2, 0.2, 0.2]]))
    assert got["area"].tolist() == [800]


def test_bytes_are_pils_pixels_and_boxes_become_relative() -> None:
    image, labelled = gradient_image(6, 4), target([1, 1, 4, 3], width=6, height=4)
    pixels, made = T.ToUint8Tensor()(image, labelled)
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 4, 6)
    assert all(tuple(pixels[:, y, x].tolist()) == image.getpixel((x, y)) for x in range(6) for y in range(4))
    torch.testing.assert_close(made["boxes"], torch.tensor([[2.5 / 6, 2 / 4, 3 / 6, 2 / 4]]))
    assert T.ToUint8Tensor()(image)[1] is None and T.ToUint8Tensor()(image, {})[1] == {}


@pytest.mark.parametrize("image_set", ["train", "val"])
def test_bytes_normalised_in_the_batch_are_detrs_floats(image_set: str) -> None:
    """Whichever way an image goes, the model gets the same numbers for the same seeds."""
    sizes = dict(image_size=40, crop_resize=[20, 30], crop_size=[12, 30])
    for seed in range(8):
        image, labelled = gradient_image(37, 29), target([3, 4, 30, 20], width=37, height=29)
        floats, expected = seeded(T.make_coco_transforms(image_set, **sizes), image, seed, labelled)
        pixels, made = seeded(T.make_coco_transforms(image_set, **sizes, as_uint8=True), image, seed, labelled)
        batch = nested_tensor_from_tensor_list([pixels]).normalized()
        torch.testing.assert_close(batch.tensors[0], floats, atol=1e-6, rtol=0)
        assert made.keys() == expected.keys() and all(torch.equal(made[key], expected[key]) for key in made)


def test_random_erasing_leaves_the_target() -> None:
    given_target = target([2, 2, 5, 5], width=20, height=20)
    image, got = seeded(T.RandomErasing(p=1.0, value=9), torch.zeros(3, 20, 20), 0, given_target)
    assert (image == 9).any() and got is given_target


TRANSFORMS = [
    T.RandomCrop((20, 30)),
    T.RandomSizeCrop(10, 30),
    T.CenterCrop((20, 30)),
    T.RandomHorizontalFlip(1.0),
    T.RandomResize([25]),
    T.RandomPad(9),
    T.Compose([T.RandomResize([30]), T.ToTensor(), T.Normalize([0.5], [0.5])]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("boxes", [[], [[3, 4, 50, 30], [10, 10, 20, 20]]], ids=["empty", "two"])
def test_given_target_is_left_as_it_was(transform: T.Transform, boxes: list[list[float]]) -> None:
    given_target = target(*boxes, width=60, height=40, masks=True)
    before = {key: value.clone() for key, value in given_target.items()}
    image, got = seeded(transform, gradient_image(60, 40), 0, given_target)
    assert given_target.keys() == before.keys()
    assert all(torch.equal(given_target[key], before[key]) for key in before)
    count = len(got["labels"])
    assert all(len(got[key]) == count for key in ("boxes", "area", "iscrowd", "masks"))
    width, height = image.size if isinstance(image, Image.Image) else image.shape[:0:-1]
    assert got["size"].tolist() == [height, width] and got["masks"].shape[1:] == (height, width)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: type(t).__name__)
def test_an_image_without_target_is_transformed_the_same(transform: T.Transform) -> None:
    image, nothing = seeded(transform, gradient_image(60, 40), 1)
    with_target, _ = seeded(transform, gradient_image(60, 40), 1, target([3, 4, 50, 30], width=60, height=40))
    assert nothing is None
    assert np.array_equal(np.asarray(image), np.asarray(with_target))


@settings(max_examples=60)
@given(
    st.integers(30, 90),
    st.integers(30, 90),
    st.integers(0, 10**6),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), max_size=4),
)
def test_training_boxes_stay_inside_the_image(width: int, height: int, seed: int, corners: list[tuple]) -> None:
    boxes = [[min(a, c) * width, min(b, d) * height, max(a, c) * width, max(b, d) * height] for a, b, c, d in corners]
    made = T.make_coco_transforms("train", image_size=40)
    image, got = seeded(made, gradient_image(width, height), seed, target(*boxes, width=width, height=height))
    half = got["boxes"][:, 2:] / 2
    assert (got["boxes"][:, :2] - half >= -1e-5).all() and (got["boxes"][:, :2] + half <= 1 + 1e-5).all()
    assert len(got["boxes"]) == len(got["labels"]) <= len(boxes)
    assert image.shape[1:] == tuple(got["size"].tolist())


def test_coco_transforms_default_to_detrs_sizes() -> None:
    _, select, _ = T.make_coco_transforms("train").transforms
    scales = T.RandomResize([480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800], max_size=1333)
    cut = T.Compose([T.RandomResize([400, 500, 600]), T.RandomSizeCrop(384, 600), scales])
    assert select == T.RandomSelect(scales, cut, p=0.5)
    assert T.make_coco_transforms("val").transforms[0] == T.RandomResize([800], max_size=1333)


def test_coco_transforms_follow_image_size_in_proportion() -> None:
    select = T.make_coco_transforms("train", image_size=400, crop_size=(100, 200)).transforms[1]
    scales = T.RandomResize([240, 256, 272, 288, 304, 320, 336, 352, 368, 384, 400], max_size=666)
    cut = T.Compose([T.RandomResize([200, 250, 300]), T.RandomSizeCrop(100, 200), scales])
    assert select == T.RandomSelect(scales, cut, p=0.5)
    val = T.make_coco_transforms("val", image_size=400, max_size=500).transforms[0]
    assert val == T.RandomResize([400], max_size=500)


@pytest.mark.parametrize(
    ("flag", "sizes"),
    [
        ("image_size", 0),
        ("max_size", 0),
        ("train_scales", [480, -1]),
        ("crop_resize", [0]),
        ("crop_size", [384]),
    ],
)
def test_impossible_sizes_name_their_flag(flag: str, sizes: Any) -> None:
    with pytest.raises(DatasetError, match=f"^--{flag} takes .* at least 1, got"):
        T.make_coco_transforms("train", **{flag: sizes})


def test_unknown_image_set() -> None:
    with pytest.raises(ValueError, match="'train' or 'val'"):
        T.make_coco_transforms("test")


@pytest.mark.slow
@pytest.mark.parametrize("as_uint8", [True, False])
def test_fast_resize_draws_the_same_and_rounds_otherwise(as_uint8: bool) -> None:
    """Twenty seeds, so that both branches, flips and crops occur: same targets and sizes, pixels within 1 of 255."""
    noise = np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC)
    given_target = target([10, 20, 300, 400], [500, 100, 620, 470], width=640, height=480, masks=True)
    exact, fast = (T.make_coco_transforms("train", as_uint8=as_uint8, fast_resize=flag) for flag in (False, True))
    differs = []
    for seed in range(20):
        expected, expected_target = seeded(exact, image, seed, given_target)
        got, got_target = seeded(fast, image, seed, given_target)
        assert got.shape == expected.shape and got.dtype == expected.dtype
        assert all(torch.equal(got_target[key], value) for key, value in expected_target.items())
        step = 1 if as_uint8 else 1 / 255 / min(T.IMAGENET_STD)
        apart = (got.double() - expected.double()).abs()
        assert apart.max() <= 2.001 * step, "one for each of two resizes"
        differs.append((apart > 1e-5).double().mean().item())
    assert 0 < np.mean(differs) < 0.01


def test_evaluation_resizes_as_ever() -> None:
    assert "ToPixels" not in repr(T.make_coco_transforms("val", fast_resize=True))
    assert "ToPixels()" in repr(T.make_coco_transforms("train", fast_resize=True))


def test_pixels_as_a_tensor_go_through_every_transform() -> None:
    image, given_target = gradient_image(64, 48), target([4, 5, 30, 40], width=64, height=48)
    for transform in (
        T.RandomHorizontalFlip(p=1),
        T.RandomPad(5),
        T.RandomCrop((20, 30)),
        T.RandomSizeCrop(10, 30),
        T.CenterCrop((21, 31)),
    ):
        expected, expected_target = seeded(T.Compose([transform, T.ToUint8Tensor()]), image, 3, given_target)
        got, got_target = seeded(T.Compose([T.ToPixels(), transform, T.ToUint8Tensor()]), image, 3, given_target)
        assert torch.equal(got, expected), transform
        assert all(torch.equal(got_target[key], value) for key, value in expected_target.items())
