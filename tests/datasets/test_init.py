"""Datasets by name, subsets of them, and the lines that wrong flags end with."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from torch.utils.data import Subset, TensorDataset

from datasets import build_dataset, coco, get_coco_api_from_dataset, subset, unwrap
from datasets.image_files import by_base_name, by_file_name, image_finder
from datasets.layout import find_layout
from util.errors import DatasetError


def test_coco_by_name_and_sizes(coco_folder: Path) -> None:
    args = Namespace(
        dataset_file="coco",
        coco_path=str(coco_folder),
        masks=True,
        num_classes=9,
        image_size=80,
        max_size=90,
        train_scales=[30, 40],
        crop_resize=[20],
        crop_size=[10, 15],
    )
    val = build_dataset("val", args)
    assert val[0][0].shape == (3, 60, 90) and val.num_classes == 9 and "masks" in val[0][1]
    train = build_dataset("train", args)
    assert {min(train[i % 4][0].shape[1:]) for i in range(24)} == {30, 40}


def test_coco_with_the_flags_of_detr_alone(coco_folder: Path) -> None:
    val = build_dataset("val", Namespace(dataset_file="coco", coco_path=coco_folder, masks=False))
    assert val[0][0].shape == (3, 800, 1200) and val.num_classes == 8


def test_shapes_by_name() -> None:
    args = Namespace(
        dataset_file="shapes", masks=False, num_classes=None, image_size=96, train_size=5, val_size=3, seed=1
    )
    train, val = build_dataset("train", args), build_dataset("val", args)
    assert (len(train), len(val)) == (5, 3)
    assert train[0][0].shape == (3, 96, 96) and train.num_classes == 5


@pytest.mark.parametrize("coco_path", [None, ""])
def test_coco_needs_its_path(coco_path: str | None) -> None:
    with pytest.raises(DatasetError, match="--dataset_file coco needs --data_path"):
        build_dataset("train", Namespace(dataset_file="coco", coco_path=coco_path, masks=False))


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(
        DatasetError, match="--dataset_file voc: .* known are coco, coco_panoptic, hgp, cppe5, custom, shapes$"
    ):
        build_dataset("train", Namespace(dataset_file="voc"))


def test_ground_truth_under_subsets(coco_folder: Path) -> None:
    dataset = build_dataset("val", Namespace(dataset_file="coco", coco_path=coco_folder, masks=False))
    nested = Subset(Subset(dataset, [0, 2, 3]), [1])
    assert unwrap(nested) is dataset and unwrap(dataset) is dataset
    assert get_coco_api_from_dataset(nested) is dataset.coco


def test_subset_is_random_seeded_and_in_order() -> None:
    dataset = TensorDataset(torch.arange(100))
    torch.manual_seed(0)
    first = subset(dataset, 0.2, seed=3).indices
    torch.manual_seed(1)
    assert subset(dataset, 0.2, seed=3).indices == first == sorted(set(first))
    assert len(first) == 20 and first != list(range(20)) and subset(dataset, 0.2, seed=4).indices != first


def test_subset_keeps_at_least_one_and_may_keep_all() -> None:
    dataset = TensorDataset(torch.arange(5))
    assert subset(dataset, 1.0, seed=0) is dataset
    assert [len(subset(dataset, fraction, seed=0)) for fraction in (0.001, 0.3, 0.5, 0.7)] == [1, 2, 2, 4]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_subset_refuses_other_fractions(fraction: float) -> None:
    with pytest.raises(DatasetError, match="^--fast_dev_run takes a fraction above 0 and at most 1"):
        subset(TensorDataset(torch.arange(5)), fraction, seed=0)


def test_data_path_and_detrs_name_for_it_are_the_same(coco_folder: Path) -> None:
    for name in ("data_path", "coco_path"):
        args = Namespace(dataset_file="coco", masks=False, **{name: str(coco_folder)})
        assert build_dataset("val", args).img_folder == coco_folder / "val2017"


def test_named_parts_of_a_layout_of_ones_own(coco_folder: Path) -> None:
    args = Namespace(
        dataset_file="custom",
        masks=False,
        val_images=coco_folder / "val2017",
        val_annotations=coco_folder / "annotations" / "instances_val2017.json",
    )
    assert len(build_dataset("val", args)) == 4
    with pytest.raises(DatasetError, match="there is no train split.*--train_images --train_annotations"):
        build_dataset("train", args)


def test_images_are_found_by_the_rule_of_the_dataset() -> None:
    named = find_layout("custom", None, val_images="x", val_annotations="y")
    assert image_finder("coco", named, "val") is by_file_name
    assert image_finder("custom", named, "val") is image_finder("cppe5", named, "val") is by_base_name
    assert image_finder("hgp", named, "val").keywords == {"prefixes": ("V",)}
    assert image_finder("custom", replace(named, name="HGP"), "train").keywords == {"prefixes": ("T",)}


def test_images_are_detrs_floats_unless_bytes_are_asked_for(coco_folder: Path) -> None:
    args = Namespace(dataset_file="coco", coco_path=coco_folder, masks=False)
    floats, bytes_ = build_dataset("val", args)[0][0], build_dataset("val", args, as_uint8=True)[0][0]
    assert floats.dtype == torch.float32 and bytes_.dtype == torch.uint8
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (bytes_ / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(floats, expected, rtol=0, atol=1e-6)


def test_splits_are_built_as_the_original_builds_them(coco_folder: Path) -> None:
    args = Namespace(coco_path=str(coco_folder), masks=True)
    dataset = coco.build("val", args)
    image, target = dataset[0]
    assert image.dtype == torch.float32 and target["masks"].dtype == torch.bool
    assert isinstance(dataset, torchvision.datasets.CocoDetection) and dataset.ids == [1, 4, 7, 9]
    assert dataset._transforms is dataset.transforms and dataset.coco.loadImgs(dataset.ids[0])[0]["id"] == 1
    again = coco.CocoDetection(coco_folder / "val2017", dataset.ann_file, dataset.transforms, True)
    assert torch.equal(again[0][0], image)
