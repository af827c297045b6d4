"""The generated `shapes` dataset: what it promises of images, annotations and repeatability."""

import contextlib
import hashlib
import io
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.cocoeval import COCOeval
from torch.utils.data import DataLoader

from datasets.shapes import draw as shapes_draw
from datasets.shapes.dataset import ShapesDataset, make_shapes_transforms
from datasets.shapes.draw import (
    CHANNEL_WEIGHTS,
    CLASS_NAMES,
    ELLIPSE,
    LARGEST,
    MIN_VISIBLE,
    RECTANGLE,
    STAR,
    TRIANGLE,
    plan_scene,
)
from util.errors import DatasetError

ROOT = Path(__file__).resolve().parents[3]
GOLDEN_LABELS = [1, 4]
GOLDEN_BOXES = [[60, 84, 128, 143], [74, 15, 138, 76]]


def make(image_set: str = "val", size: int = 8, **kwargs) -> ShapesDataset:
    return ShapesDataset(image_set=image_set, size=size, **kwargs)


def digest(dataset: ShapesDataset, index: int) -> str:
    """A fingerprint of an image and its whole target."""
    image, target = dataset.load(index)
    parts = [np.asarray(image).tobytes(), *(target[key].numpy().tobytes() for key in sorted(target))]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def boxes_of_masks(masks: torch.Tensor) -> list[list[int]]:
    """Tight boxes, right and bottom edge exclusive, by looking at every pixel."""
    boxes = []
    for mask in masks:
        rows, columns = mask.nonzero(as_tuple=True)
        boxes.append([columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1])
    return boxes


# --- the interface ----------------------------------------------------------------------------------------------------


def test_target_has_the_fields_of_a_coco_target():
    image, target = make(image_size=96).load(3)
    n = len(target["labels"])
    assert image.mode == "RGB" and image.size == (96, 96)
    assert target["boxes"].shape == (n, 4) and target["boxes"].dtype == torch.float32
    assert target["area"].shape == (n,) and target["area"].dtype == torch.float32
    assert target["labels"].dtype == target["iscrowd"].dtype == target["image_id"].dtype == torch.int64
    assert target["iscrowd"].tolist() == [0] * n
    assert target["image_id"].tolist() == [3]
    assert target["size"].tolist() == target["orig_size"].tolist() == [96, 96]
    assert "masks" not in target


def test_classes_follow_detrs_count():
    dataset = make()
    assert dataset.class_names == {1: "ellipse", 2: "rectangle", 3: "triangle", 4: "star"}
    assert dataset.num_classes == 5


def test_transforms_are_applied_to_items_only():
    dataset = make(transforms=lambda image, target: (image.size, sorted(target)))
    size, keys = dataset[0]
    assert size == (160, 160) and "boxes" in keys
    assert dataset.load(0)[0].size == (160, 160)


@pytest.mark.parametrize("index", [-1, 8])
def test_index_outside_is_an_index_error(index):
    with pytest.raises(IndexError, match="of 8"):
        make()[index]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_set": "training"}, "training"),
        ({"size": 0}, "--val_size"),
        ({"image_set": "train", "size": 0}, "--train_size"),
        ({"image_size": 31}, "--image_size"),
        ({"seed": -1}, "--seed"),
        ({"max_objects": 0}, "max_objects"),
        ({"max_objects": 13}, "max_objects"),
    ],
)
def test_arguments_out_of_range_are_named(arguments, named):
    with pytest.raises(DatasetError) as error:
        make(**arguments)
    assert named in str(error.value) and "\n" not in str(error.value)


# --- annotations are exact --------------------------------------------------------------------------------------------


def test_boxes_and_areas_are_those_of_the_visible_pixels():
    dataset = make(return_masks=True)
    for index in range(len(dataset)):
        target = dataset.load(index)[1]
        masks = target["masks"]
        assert masks.dtype == torch.bool and masks.shape == (len(target["labels"]), 160, 160)
        assert masks.sum(0).max() == 1, "a pixel belongs to one object at most"
        assert target["boxes"].tolist() == boxes_of_masks(masks)
        assert target["area"].tolist() == masks.flatten(1).sum(1).tolist()


def test_masks_are_the_drawn_pixels(monkeypatch):
    """Paint shape k in the flat grey 0.05 * (k + 1) on black: every pixel off the soft edges tells whose it is."""
    scene = plan_scene(np.random.default_rng(5), size=160, max_objects=12)
    count = len(scene.shapes)
    assert count >= 4
    greys = iter(0.05 * (k + 1) for k in range(count))
    monkeypatch.setattr(shapes_draw, "random_background", lambda rng, size: np.zeros((3, size, size), np.float32))
    monkeypatch.setattr(shapes_draw, "add_grain", lambda canvas, rng: None)
    monkeypatch.setattr(shapes_draw, "_pick_colour", lambda rng, neighbours: np.full(3, next(greys), np.float32))
    monkeypatch.setattr(shapes_draw, "_shaded", lambda rng, colour, shape: colour[:, None, None])
    image = shapes_draw.paint(scene, np.random.default_rng(0))
    drawn = np.rint(image[0] / 255 / 0.05).astype(int)
    edges = np.zeros((160, 160), bool)
    for shape in scene.shapes:
        edges[shape.extent] |= np.abs(shape.distance) < 0.5
    assert edges.mean() < 0.2
    np.testing.assert_array_equal(drawn[~edges], scene.owner[~edges])
    for k, mask in enumerate(scene.masks()):
        np.testing.assert_array_equal(mask[~edges], drawn[~edges] == k + 1)


@pytest.mark.parametrize(
    ("label", "form", "area"),
    [
        (ELLIPSE, 1.0, math.pi),  # a circle
        (ELLIPSE, 0.0, math.pi / 2),  # half axes 1 and 0.5
        (RECTANGLE, 1.0, 2.0),  # a square
        (RECTANGLE, 0.0, 2 * math.sin(2 * math.atan(0.45))),
        (TRIANGLE, 0.5, 3 * math.sqrt(3) / 4),  # equilateral
        (STAR, 0.5, 5 * math.sin(math.pi / 5) * math.sin(math.pi / 10) / math.sin(7 * math.pi / 10)),  # pentagram
    ],
)
def test_shapes_have_the_area_of_their_formula(label, form, area):
    class Fixed:
        def random(self, count):
            return np.array([0.5, 0.5, 0.123, form])  # the middle of the image, some angle

    shape = shapes_draw._random_shape(Fixed(), label, 60.0, 160)
    assert np.count_nonzero(shape.distance < 0) == pytest.approx(area * 60**2, rel=0.01)


def test_every_class_occurs_and_some_objects_are_partly_hidden():
    scenes = [plan_scene(np.random.default_rng(seed), size=160, max_objects=6) for seed in range(100)]
    labels = [shape.label for scene in scenes for shape in scene.shapes]
    hidden = [seen < full for scene in scenes for seen, full in zip(scene.visible, scene.drawn, strict=True)]
    assert min(labels.count(label) for label in CLASS_NAMES) > 0.15 * len(labels)
    assert 0.15 < np.mean(hidden) < 0.6


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(32, 200), max_objects=st.integers(1, 12))
def test_layouts_of_any_size_are_sound(seed, size, max_objects):
    scene = plan_scene(np.random.default_rng(seed), size=size, max_objects=max_objects)
    boxes, areas = scene.boxes_and_areas()
    assert 1 <= len(scene.shapes) <= max_objects
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= size).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes[:, 2:] - boxes[:, :2]).max() <= LARGEST * size + 2
    np.testing.assert_array_equal(areas, scene.masks().sum(axis=(1, 2)))
    drawn = [np.count_nonzero(shape.distance < 0) for shape in scene.shapes]
    assert (areas >= MIN_VISIBLE * np.array(drawn)).all()


# --- a person can see them --------------------------------------------------------------------------------------------


def test_objects_stand_out_from_busy_backgrounds():
    dataset = make(size=80, return_masks=True)
    contrasts, busy = [], []
    for index in range(len(dataset)):
        image, target = dataset.load(index)
        pixels = np.asarray(image).astype(np.float32) / 255
        background = ~target["masks"].any(0).numpy()
        busy.append(pixels[background].std(axis=0).mean())
        for mask, (left, top, right, bottom) in zip(
            target["masks"].numpy(), target["boxes"].int().tolist(), strict=True
        ):
            window = np.zeros_like(background)
            window[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = True
            if (window & background).sum() >= 30:
                difference = pixels[mask].mean(0) - pixels[window & background].mean(0)
                contrasts.append(np.sqrt(difference**2 @ CHANNEL_WEIGHTS))
    assert len(contrasts) > 100
    assert min(contrasts) > 0.2
    assert min(busy) > 0.04


# --- repeatability ----------------------------------------------------------------------------------------------------


def test_the_first_image_stays_what_it_was():
    """A change of these images changes every number that was published for the dataset: make it knowingly."""
    target = make().load(0)[1]
    assert target["labels"].tolist() == GOLDEN_LABELS
    torch.testing.assert_close(target["boxes"], torch.tensor(GOLDEN_BOXES, dtype=torch.float32), atol=1, rtol=0)


def test_global_random_state_is_neither_used_nor_changed():
    dataset = make()
    before = digest(dataset, 2)
    states = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].tolist()
    dataset.load(5)
    assert random.getstate() == states[0]
    assert torch.equal(torch.get_rng_state(), states[1])
    assert np.random.get_state()[1].tolist() == states[2]
    random.seed(1), torch.manual_seed(1), np.random.seed(1)
    assert digest(make(), 2) == before


@pytest.mark.slow
def test_another_process_draws_the_same():
    """Also one whose matrix products round as on an old processor: images must not depend on the machine."""
    dataset = make(return_masks=True)
    program = (
        "from tests.datasets.shapes.test_dataset import digest, make\n"
        "print(*[digest(make(return_masks=True), i) for i in (4, 1)])"
    )
    old = os.environ | {"OPENBLAS_CORETYPE": "Prescott"}
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=old, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.split() == [digest(dataset, 4), digest(dataset, 1)], result.stderr


def test_loader_workers_draw_the_same():
    dataset = make(size=4, transforms=make_shapes_transforms("val"))
    batches = DataLoader(dataset, batch_size=None, num_workers=2)
    for index, (image, target) in enumerate(batches):
        torch.testing.assert_close(image, dataset[index][0], rtol=0, atol=0)
        torch.testing.assert_close(target["boxes"], dataset[index][1]["boxes"], rtol=0, atol=0)


def test_seed_split_and_index_each_change_the_image():
    variants = [make(), make(seed=43), make("train"), make("test")]
    assert len({digest(dataset, index) for dataset in variants for index in (0, 1)}) == 8


def test_the_number_of_images_does_not_change_them():
    assert digest(make(size=3), 2) == digest(make(size=1000), 2)


# --- for the trainer and the evaluator --------------------------------------------------------------------------------


def test_object_counts_are_those_of_the_images():
    dataset = make(size=60, max_objects=4)
    counts = dataset.object_counts()
    assert counts.dtype == np.int64 and set(counts) == {1, 2, 3, 4}
    assert counts[:8].tolist() == [len(dataset.load(index)[1]["labels"]) for index in range(8)]


def test_coco_holds_the_same_annotations(capsys):
    dataset = make(size=5, return_masks=True)
    coco = dataset.coco
    assert capsys.readouterr().out == ""
    assert dataset.coco is coco
    assert sorted(coco.imgs) == [dataset.image_id(index) for index in range(5)]
    assert min(coco.anns) == 1  # pycocotools mistakes a match with annotation 0 for none
    json.dumps(coco.dataset)  # plain types only
    for index in range(5):
        target = dataset.load(index)[1]
        annotations = coco.imgToAnns[dataset.image_id(index)]
        assert [a["category_id"] for a in annotations] == target["labels"].tolist()
        assert [a["area"] for a in annotations] == target["area"].tolist()
        xywh = torch.tensor([a["bbox"] for a in annotations])
        torch.testing.assert_close(torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], dim=1), target["boxes"])
        for annotation, mask in zip(annotations, target["masks"].numpy(), strict=True):
            np.testing.assert_array_equal(coco.annToMask(annotation).astype(bool), mask)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_truth_as_detections_has_ap_one(kind):
    dataset = make(size=12)
    keys = {"bbox": ("bbox",), "segm": ("segmentation",)}[kind]
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "score": 0.9, **{key: a[key] for key in keys}}
        for a in dataset.coco.dataset["annotations"]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(dataset.coco, dataset.coco.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_training_transforms_mirror_half_of_the_images_and_normalize_all():
    dataset = make("train", transforms=make_shapes_transforms("train"))
    truth = dataset.load(0)[1]["boxes"]
    plain = (truth[:, 0] + truth[:, 2]) / 320
    random.seed(0)
    centres = [dataset[0][1]["boxes"][:, 0] for _ in range(20)]
    mirrored = sum(torch.allclose(centre, 1 - plain) for centre in centres)
    assert mirrored + sum(torch.allclose(centre, plain) for centre in centres) == 20
    assert 4 < mirrored < 16


def test_validation_transforms_leave_the_image_as_it_is():
    dataset = make(transforms=make_shapes_transforms("val"))
    image, target = dataset[1]
    pil_image, truth = dataset.load(1)
    undone = (
        image * torch.tensor([0.229, 0.224, 0.225])[:, None, None] + torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    )
    torch.testing.assert_close(undone, torch.from_numpy(np.array(pil_image)).permute(2, 0, 1) / 255)
    x0, y0, x1, y1 = truth["boxes"].unbind(1)
    torch.testing.assert_close(target["boxes"], torch.stack([x0 + x1, y0 + y1, 2 * (x1 - x0), 2 * (y1 - y0)], 1) / 320)
