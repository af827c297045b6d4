"""The flat store: what went in comes out, and processes share it."""

import io
import json
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from datasets.annotations import read_annotations
from datasets.annotations.table import Annotations


@pytest.fixture
def annotations(tmp_path: Path, tiny_annotations: dict[str, Any]) -> Annotations:
    """The store of the tiny annotations, one file name being no ASCII."""
    tiny_annotations["images"][1]["file_name"] = "Größe \ud800.png"
    (tmp_path / "instances.json").write_text(json.dumps(tiny_annotations))
    return read_annotations(tmp_path / "instances.json")


def test_images_by_id(annotations: Annotations) -> None:
    assert len(annotations) == 4 and annotations.image_ids.dtype == np.int64
    assert annotations.image_ids.tolist() == [1, 4, 7, 9]
    assert [annotations.file_name(index) for index in (0, 1)] == ["Größe \ud800.png", "000000000004.png"]
    assert [annotations.image_size(index) for index in range(4)] == [(40, 60), (50, 40), (47, 33), (40, 60)]
    assert annotations.class_names == {7: "cat", 3: "dog"}


def test_objects_with_and_without_crowds(annotations: Annotations) -> None:
    assert annotations.object_counts().tolist() == [2, 1, 0, 1] and annotations.object_counts().dtype == np.int64
    boxes, labels = annotations.boxes_of(0)
    assert boxes.tolist() == [[10, 10, 20, 10], [0, 0, 20, 20]] and labels.tolist() == [3, 7]
    of_images = [annotations.boxes_of(index)[1].tolist() for index in range(4)]
    assert [labels.tolist() for labels in annotations.labels_by_image()] == of_images
    assert [a["iscrowd"] for a in annotations.objects_of(0)] == [0, 0, 1] and annotations.objects_of(2) == []
    assert annotations.boxes_of(2)[0].shape == (0, 4) and boxes.dtype == np.float64
    assert "segmentation" not in annotations.objects_of(0, segmentation=False)[0]


def test_an_object_is_a_plain_dictionary_of_its_own(annotations: Annotations, tiny_annotations: dict[str, Any]) -> None:
    (first, *_), (again, *_) = annotations.objects_of(0), annotations.objects_of(0)
    assert first == again == tiny_annotations["annotations"][0] and first is not again
    assert json.loads(json.dumps(first)) == first


def test_pycocotools_index_has_the_same(annotations: Annotations, capfd: pytest.CaptureFixture[str]) -> None:
    coco = annotations.to_coco()
    assert capfd.readouterr() == ("", "")
    assert sorted(coco.imgs) == [1, 4, 7, 9] and sorted(coco.cats) == [3, 7]
    assert coco.getAnnIds(imgIds=[1], iscrowd=0) == [1, 2]
    assert [coco.imgToAnns[id_] for id_ in (1, 4, 9)] == [annotations.objects_of(index) for index in (0, 1, 3)]


def test_nothing_is_kept_as_objects_and_processes_share_it(annotations: Annotations) -> None:
    small = {"categories", "class_names", "_masks", "listed", "left_out"}
    tensors = [value for part in (annotations, annotations._masks) for value in vars(part).values()]
    tensors = [value for value in tensors if isinstance(value, Tensor)]
    assert all(isinstance(value, Tensor) for key, value in vars(annotations).items() if key not in small)
    assert annotations.memory() == sum(tensor.nbytes for tensor in tensors)
    # What a worker that is spawned, not forked, is sent: handles of shared memory instead of a copy.
    ForkingPickler(io.BytesIO()).dump(annotations)
    assert all(tensor.is_shared() for tensor in tensors)
    assert annotations.boxes_of(0)[1].tolist() == [3, 7]
