"""Targets by hand from the tiny folder, and the errors of folders and images."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle_tools
from torch._utils import ExceptionWrapper

from datasets import coco, transforms
from datasets.coco import CocoDetection, ConvertCocoPolysToMask, convert_coco_poly_to_mask
from datasets.transforms import make_coco_transforms
from util.errors import DatasetError, ImageError


def test_targets_of_the_tiny_folder(coco_folder: Path) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder)
    assert [dataset.image_id(i) for i in range(len(dataset))] == [1, 4, 7, 9]
    _, first = dataset[0]
    assert first["boxes"].tolist() == [[10, 10, 30, 20], [0, 0, 20, 20]]
    assert first["labels"].tolist() == [3, 7]
    assert first["area"].tolist() == [200, 200.5]
    assert first["image_id"].tolist() == [1]
    assert first["orig_size"].tolist() == first["size"].tolist() == [40, 60]
    # Clamped at the edges of an image of 60 x 40; area as the file says; the box of width 0 is left out.
    _, last = dataset[3]
    assert last["boxes"].tolist() == [[50, 30, 60, 40]] and last["area"].tolist() == [900]


@pytest.mark.parametrize("masks", [False, True])
def test_keys_shapes_and_types_also_without_objects(coco_folder: Path, masks: bool) -> None:
    dataset = coco.open_split("train", coco_path=coco_folder, return_masks=masks)
    for index, count in enumerate([2, 1, 0, 1]):
        image, target = dataset[index]
        expected = {
            "boxes": ((count, 4), torch.float32),
            "labels": ((count,), torch.int64),
            "area": ((count,), torch.float32),
            "iscrowd": ((count,), torch.int64),
            "image_id": ((1,), torch.int64),
            "orig_size": ((2,), torch.int64),
            "size": ((2,), torch.int64),
        }
        if masks:
            expected["masks"] = ((count, image.height, image.width), torch.bool)
        assert {key: (tuple(value.shape), value.dtype) for key, value in target.items()} == expected


def test_masks_of_polygons_run_lengths_and_nothing(coco_folder: Path) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder, return_masks=True)
    square, triangle = dataset[0][1]["masks"]
    expected = torch.zeros(40, 60, dtype=torch.bool)
    expected[10:20, 10:30] = True
    assert torch.equal(square, expected)
    assert triangle[0, 0] and triangle[1, 17] and not triangle[12, 12]
    columns = dataset[1][1]["masks"][0]
    assert columns.any(0).nonzero().flatten().tolist() == [2] and columns[:, 2].all()
    assert not dataset[3][1]["masks"].any()


def test_compressed_run_lengths_of_an_object() -> None:
    mask = np.zeros((6, 5), dtype=np.uint8)
    mask[1:4, 2:] = 1
    compressed = rle_tools.encode(np.asfortranarray(mask))
    text = {"size": [6, 5], "counts": compressed["counts"].decode()}
    both = convert_coco_poly_to_mask([compressed, text, [[0, 0, 2, 0, 2, 2, 0, 2], [3, 4, 5, 4, 5, 6, 3, 6]]], 6, 5)
    assert both.dtype == torch.bool
    assert torch.equal(both[0], torch.from_numpy(mask).bool()) and torch.equal(both[1], both[0])
    assert both[2].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1], [4, 3], [4, 4], [5, 3], [5, 4]]
    assert convert_coco_poly_to_mask([], 6, 5).shape == (0, 6, 5)


def test_annotations_that_never_saw_the_reader() -> None:
    annotations = [
        {"bbox": [], "category_id": 1},
        {"bbox": [1, 2, 3, 4], "category_id": 2, "segmentation": [[]]},
        {"bbox": [0, 0, 9, 9], "category_id": 5, "iscrowd": 1},
    ]
    prepare = ConvertCocoPolysToMask(return_masks=True)
    _, target = prepare(Image.new("RGB", (10, 8)), {"image_id": 3, "annotations": annotations})
    assert target["boxes"].tolist() == [[1, 2, 4, 6]] and target["labels"].tolist() == [2]
    assert target["area"].tolist() == [12] and target["masks"].shape == (1, 8, 10) and not target["masks"].any()


def test_keypoints_come_as_annotated_and_follow_their_objects() -> None:
    person = {"category_id": 1, "iscrowd": 0, "area": 100, "keypoints": [3, 4, 2, 0, 0, 0]}
    annotations = [
        person | {"bbox": [0, 0, 10, 10]},
        person | {"bbox": [20, 5, 10, 10], "keypoints": [25, 9, 1, 8, 7, 2]},
    ]
    image = Image.new("RGB", (40, 20))
    target = ConvertCocoPolysToMask()(image, {"image_id": 1, "annotations": annotations})[1]
    assert target["keypoints"].tolist() == [[[3, 4, 2], [0, 0, 0]], [[25, 9, 1], [8, 7, 2]]]
    cut = transforms.crop(image, target, (0, 15, 20, 20))[1]
    assert cut["keypoints"].tolist() == [[[25, 9, 1], [8, 7, 2]]] and cut["boxes"].tolist() == [[5, 5, 15, 15]]
    without = [{name: value for name, value in annotations[0].items() if name != "keypoints"}, annotations[1]]
    assert "keypoints" not in ConvertCocoPolysToMask()(image, {"image_id": 1, "annotations": without})[1]


def test_classes_counts_and_ground_truth(coco_folder: Path) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder)
    assert dataset.class_names == {7: "cat", 3: "dog"} and dataset.num_classes == 8
    assert coco.open_split("val", coco_path=coco_folder, num_classes=20).num_classes == 20
    assert dataset.object_counts().tolist() == [2, 1, 0, 1]
    assert sorted(dataset.coco.imgs) == [1, 4, 7, 9]


def test_load_is_before_and_getitem_after_transforms(coco_folder: Path) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder, transforms=make_coco_transforms("val", image_size=80))
    image, target = dataset.load(0)
    assert image.mode == "RGB" and image.size == (60, 40) and target["boxes"][0].tolist() == [10, 10, 30, 20]
    tensor, transformed = dataset[0]
    assert tensor.shape == (3, 80, 120)
    torch.testing.assert_close(transformed["boxes"][0], torch.tensor([1 / 3, 3 / 8, 1 / 3, 1 / 4]))


def test_gray_and_palette_images_become_rgb(coco_folder: Path) -> None:
    for mode in ("L", "P", "RGBA", "1"):
        Image.new(mode, (60, 40)).save(coco_folder / "val2017" / "000000000001.png")
        assert coco.open_split("val", coco_path=coco_folder).load(0)[0].mode == "RGB"


def test_dataset_can_be_sent_to_a_worker(coco_folder: Path) -> None:
    dataset = pickle.loads(pickle.dumps(coco.open_split("val", coco_path=coco_folder)))
    assert torch.equal(dataset[0][1]["boxes"], coco.open_split("val", coco_path=coco_folder)[0][1]["boxes"])


def test_folders_that_are_not_there(coco_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"^--coco_path {tmp_path / 'absent'}: no such folder$"):
        coco.open_split("val", coco_path=tmp_path / "absent")
    (coco_folder / "val2017").rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="val2017: no such image folder"):
        coco.open_split("val", coco_path=coco_folder)


def test_label_beyond_num_classes_is_refused(coco_folder: Path) -> None:
    with pytest.raises(DatasetError, match="instances_train2017.json: annotation id 2: category_id 7 .*--num_classes"):
        coco.open_split("train", coco_path=coco_folder, num_classes=5)


@pytest.mark.parametrize("broken", ["absent", "text", "empty", "truncated", "bad header"])
def test_unreadable_image_names_path_and_image_id(coco_folder: Path, broken: str) -> None:
    path = coco_folder / "val2017" / "000000000004.png"
    content = path.read_bytes()
    changed = {
        "text": b"not an image",
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "bad header": content[:40] + b"\0" * 20 + content[60:],
    }
    path.unlink() if broken == "absent" else path.write_bytes(changed[broken])
    dataset = coco.open_split("val", coco_path=coco_folder)
    with pytest.raises(ImageError) as caught:
        dataset[1]
    line = str(caught.value)
    assert line.startswith(f"{path}: cannot read the image with image id 4 of ") and "\n" not in line
    assert dataset[0][1]["labels"].tolist() == [3, 7]


def test_a_workers_error_is_still_one_line(coco_folder: Path) -> None:
    (coco_folder / "train2017" / "000000000004.png").unlink()
    # What a DataLoader does with an error of its worker (without the five seconds that it then waits for it).
    try:
        coco.open_split("train", coco_path=coco_folder)[1]
    except ImageError:
        sent = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(ImageError, match="Traceback") as caught:
        sent.reraise()
    assert caught.value.line().startswith(f"{coco_folder / 'train2017' / '000000000004.png'}: cannot read")
    assert caught.value.line().endswith("(no such file)")


def test_run_lengths_of_another_size_than_the_image_name_file_and_image(
    write_coco: Callable[[dict[str, Any]], Path], tiny_annotations: dict[str, Any]
) -> None:
    root = write_coco(tiny_annotations)
    Image.new("RGB", (40, 49)).save(root / "val2017" / "000000000004.png")  # the file says 40 x 50
    with pytest.raises(DatasetError, match="instances_val2017.json: annotation id 4: .*--masks needs them at its size"):
        coco.open_split("val", coco_path=root, return_masks=True)
    assert len(coco.open_split("val", coco_path=root)) == 4


def test_repairs_are_one_line_and_refused_when_strict(coco_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder)
    line = capsys.readouterr().out
    assert line.startswith(f"{dataset.ann_file}: repaired on reading: ") and line.count("\n") == 1
    assert "boxes over the edge of their image: 1 (clamped to the image)" in line
    assert "annotations without a box: 1 (dropped)" in line and "crowds" not in line
    assert dataset.findings["crowds"].count == 1
    with pytest.raises(DatasetError, match="instances_val2017.json: annotation id .*: strict reading refuses"):
        coco.open_split("val", coco_path=coco_folder, strict=True)


def test_the_image_is_asked_before_a_box_is_cut(
    write_coco: Callable[[dict[str, Any]], Path], tiny_annotations: dict[str, Any]
) -> None:
    root = write_coco(tiny_annotations)
    Image.new("RGB", (80, 60)).save(root / "val2017" / "000000000009.png")  # the file says 60 x 40
    dataset = coco.open_split("val", coco_path=root)
    assert dataset[3][1]["boxes"].tolist() == [[50, 30, 80, 60]]
    assert dataset.annotations.image_size(3) == (60, 80) and dataset.coco.anns[5]["bbox"] == [50, 30, 30, 30]
    assert dataset.findings["images with another height or width than their file"].count == 1


def test_evaluation_reads_what_training_reads(coco_folder: Path) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder)
    for index in range(len(dataset)):
        annotations = [a for a in dataset.coco.imgToAnns[dataset.image_id(index)] if not a["iscrowd"]]
        boxes = torch.tensor([a["bbox"] for a in annotations]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert torch.equal(dataset[index][1]["boxes"], boxes)


def test_ground_truth_is_made_once_and_not_sent_to_workers(coco_folder: Path) -> None:
    dataset = coco.open_split("val", coco_path=coco_folder)
    assert "coco" not in vars(dataset)
    assert dataset.coco is dataset.coco and "coco" not in vars(pickle.loads(pickle.dumps(dataset)))


def test_images_and_annotations_anywhere(coco_folder: Path) -> None:
    dataset = CocoDetection(
        img_folder=coco_folder / "val2017", ann_file=coco_folder / "annotations" / "instances_train2017.json"
    )
    assert len(dataset) == 4


def test_real_images(shared_dir: Path) -> None:
    root = shared_dir / "data" / "coco_mini"
    dataset = coco.open_split("val", coco_path=root, transforms=make_coco_transforms("val"), return_masks=True)
    listed = json.loads((root / "annotations" / "instances_val2017.json").read_text())["annotations"]
    assert (len(dataset), dataset.num_classes, dataset.class_names[1]) == (64, 91, "person")
    assert dataset.object_counts().sum() == sum(not annotation["iscrowd"] for annotation in listed)
    image, target = dataset[0]
    assert min(image.shape[1:]) == 800 or max(image.shape[1:]) == 1333
    assert target["masks"].shape[1:] == image.shape[1:] and (target["boxes"] <= 1).all()
