"""Whatever an annotation file holds, reading ends with annotations that hold together or one line of DatasetError.

Faults in every field of valid dictionaries, and broken bytes in the text of one; hypothesis makes the same 750 files
in every run. `make soak` makes many more: SOAK says how many.
"""

import copy
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as rle_tools

from datasets.annotations import read_annotations, write_annotations
from datasets.annotations.findings import Action, Findings
from datasets.annotations.table import Annotations
from datasets.coco import ConvertCocoPolysToMask
from util.errors import DatasetError

#: Images of 12 x 9 (w x h): polygons, plain and compressed run lengths, a crowd, and an image
#: without size.
VALID: dict[str, Any] = {
    "info": {"year": 2026},
    "images": [
        {"id": 3, "file_name": "a.png", "height": 9, "width": 12},
        {"id": 8, "file_name": "b.png", "height": 9, "width": 12},
        {"id": 9, "file_name": "c.png"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 3,
            "category_id": 1,
            "bbox": [1, 2, 5.5, 4],
            "area": 20.5,
            "iscrowd": 0,
            "segmentation": [[1, 2, 6.5, 2, 6.5, 6, 1, 6], [1, 1, 3, 1, 3, 3]],
        },
        {
            "id": 2,
            "image_id": 8,
            "category_id": 2,
            "bbox": [0, 0, 12, 9],
            "area": 60,
            "iscrowd": 1,
            "segmentation": {"size": [9, 12], "counts": [20, 60, 28]},
        },
        {
            "id": 5,
            "image_id": 8,
            "category_id": 2,
            "bbox": [2, 2, 3, 3],
            "area": 9,
            "iscrowd": 0,
            "segmentation": {"size": [9, 12], "counts": "d0l1l0"},
        },
        {"id": 6, "image_id": 9, "category_id": 1, "bbox": [2, 2, 3, 3], "area": 9, "iscrowd": 0, "segmentation": []},
    ],
    "categories": [{"id": 1, "name": "1", "supercategory": "all"}, {"id": 2, "name": "two"}, {"id": 0, "name": "all"}],
}
ENTRIES = [(key, number) for key in ("images", "annotations", "categories") for number in range(len(VALID[key]))]
FIELDS = [(key, number, field) for key, number in ENTRIES for field in VALID[key][number]]
NUMBERS = [
    0,
    1,
    2,
    3,
    7,
    8,
    -1,
    2**31,
    2**63,
    -(2**63),
    10**40,
    0.5,
    -0.0,
    12.0,
    1e-300,
    1e6,
    1e308,
    float("nan"),
    -float("inf"),
]
TEXTS = [
    "",
    "1",
    " 8 ",
    "2.0",
    "-3",
    "1e400",
    "1_0",
    "nan",
    "inf",
    "x",
    "\n",
    "\ud800",
    "é",
    "9" * 5000,
    "d0l1l0",
    "0" * 40,
    "o" * 9,
]
ATOMS = st.sampled_from([None, True, False, *NUMBERS, *TEXTS])
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts", "id"]), inner, max_size=2)
    ),
    max_leaves=8,
)
BITS = [bytes([code]) for code in b"0123456789" * 3 + b'-.eE",:[]{} nN\\u\x00\xff']
BOXES = st.lists(st.sampled_from(NUMBERS) | st.floats(-20, 20), min_size=4, max_size=4)
RUNS = st.fixed_dictionaries(
    {
        "size": st.sampled_from([[9, 12], [12, 9], ["9", 12.0], [0, 0], [10**5, 10**5], [9]]),
        "counts": st.lists(st.sampled_from([0, 1, 20, 60, 28, 108, -1, 2**32]), max_size=5)
        | st.text("0do1lP", max_size=9),
    }
)
POLYGONS = st.lists(st.lists(st.sampled_from([0, 3.5, 9, -40, 1e5, 1e9, "4", float("nan")]), max_size=9), max_size=3)


@st.composite
def faulty(draw: st.DrawFn) -> dict[str, Any]:
    """A valid file with one to four faults: a field changed or lost, an entry lost, repeated or anything else."""
    data = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 4))):
        fault = draw(
            st.sampled_from(["change", "change", "change", "shape", "shape", "lose", "entry", "repeat", "list"])
        )
        key, number, field = draw(st.sampled_from(FIELDS))
        entries = data.get(key)
        entry = entries[number] if isinstance(entries, list) and number < len(entries) else None
        if fault == "list":
            data[key] = draw(VALUES)
        elif fault == "entry" and entry is not None:
            entries[number] = draw(VALUES)
        elif fault == "repeat" and entry is not None:
            entries.append(copy.deepcopy(entry))
        elif fault == "lose" and isinstance(entry, dict):
            entry.pop(field, None)
        elif fault == "shape" and isinstance(entry, dict):
            entry |= {"bbox": draw(BOXES), "segmentation": draw(RUNS | POLYGONS)}
        elif isinstance(entry, dict):
            entry[field] = draw(VALUES)
    return data


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """The valid file's text with some bytes changed, cut out or repeated, perhaps cut off."""
    text = bytearray(json.dumps(VALID).encode())
    bits = st.sampled_from(BITS) | st.binary(max_size=3)
    for _ in range(draw(st.integers(1, 3))):
        place, length = draw(st.integers(0, len(text) - 1)), draw(st.integers(0, 2))
        text[place : place + length] = draw(bits)
    return bytes(text[: draw(st.integers(1, len(text)))]) if draw(st.integers(0, 9)) == 0 else bytes(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples."""
    return tmp_path_factory.mktemp("faults")


def read(path: Path, **asked: Any) -> tuple[Annotations | None, Findings]:
    """The annotations, None where they are refused; the refusal names the file and, for an entry's fault, its id."""
    findings = Findings()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)  # numpy's overflows and NaNs
            annotations = read_annotations(path, findings=findings, **asked)
    except DatasetError as error:
        line = str(error)
        assert line.startswith(f"{path}: ") and "\n" not in line and len(line) < 600
        if findings.worst() is Action.REFUSED:
            assert re.search(r": (image|annotation|category) id \S", line)
        return None, findings
    assert findings.worst() is not Action.REFUSED
    return annotations, findings


def examine(annotations: Annotations, *, masks: bool) -> None:
    """Check what all the rest of the code relies on."""
    ids = annotations.image_ids
    assert (np.diff(ids) > 0).all() and len(ids) == len(annotations)
    every = [annotation for index in range(len(ids)) for annotation in annotations.objects_of(index)]
    assert len({a["id"] for a in every} - {0}) == len(every)
    counts = annotations.object_counts()
    for index in range(len(ids)):
        boxes, labels = annotations.boxes_of(index)
        assert len(boxes) == len(labels) == counts[index] and np.isfinite(boxes).all() and (boxes[:, 2:] > 0).all()
        assert set(labels.tolist()) <= set(annotations.class_names) and annotations.file_name(index)
        height, width = annotations.image_size(index) or (9, 12)
        if height * width < 10_000:
            target = {"image_id": int(ids[index]), "annotations": annotations.objects_of(index)}
            prepare = ConvertCocoPolysToMask(return_masks=masks)
            _, target = prepare(Image.new("1", (width, height)), target)
            assert (target["boxes"][:, 2:] > target["boxes"][:, :2]).all()
    coco = annotations.to_coco()
    assert sorted(coco.imgs) == ids.tolist() and len(coco.anns) == len(every)
    if masks:
        assert all(rle_tools.area(coco.annToRLE(annotation)) >= 0 for annotation in every)


def read_and_reread(path: Path, *, masks: bool) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Read `path`, use what comes, write it repaired and read that strictly: both contents, None where refused."""
    annotations, _ = read(path, need_masks=masks)
    if annotations is None:
        return None, None
    examine(annotations, masks=masks)
    out = path.with_name("repaired.json")
    write_annotations(annotations, out)
    again, findings = read(out, strict=True, need_masks=masks)
    assert again is not None, [finding.line() for finding in findings]
    return annotations.to_dict(), again.to_dict()


EXAMPLES = settings(
    max_examples=int(os.environ.get("SOAK", "250")),
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    deadline=None,
    database=None,
)


@pytest.mark.slow
@EXAMPLES
@given(data=faulty())
def test_faults_in_every_field(folder: Path, data: dict[str, Any]) -> None:
    path = folder / "instances.json"
    path.write_text(json.dumps(data))
    once, again = read_and_reread(path, masks=False)
    assert once == again


@pytest.mark.slow
@EXAMPLES
@given(data=faulty())
def test_faults_in_every_field_with_masks(folder: Path, data: dict[str, Any]) -> None:
    if isinstance(data["images"], list):  # all with a size, or masks are refused before anything else happens
        for image in data["images"]:
            if isinstance(image, dict):
                image |= {"height": image.get("height", 9), "width": image.get("width", 12)}
    path = folder / "instances.json"
    path.write_text(json.dumps(data))
    once, again = read_and_reread(path, masks=True)
    assert once == again


@pytest.mark.slow
@EXAMPLES
@given(content=mutated())
def test_broken_bytes(folder: Path, content: bytes) -> None:
    path = folder / "instances.json"
    path.write_bytes(content)
    once, again = read_and_reread(path, masks=False)
    assert once == again


def test_the_valid_file_is_read(folder: Path) -> None:
    path = folder / "instances.json"
    path.write_text(json.dumps(VALID))
    annotations, findings = read(path, strict=True, num_queries=5)
    assert annotations is not None and len(annotations) == 3 and findings.worst() is Action.KEPT
    assert annotations.object_counts().tolist() == [1, 1, 1]
    once, again = read_and_reread(path, masks=False)
    assert once == again
