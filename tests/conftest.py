"""Settings and fixtures of all tests: one thread, repeatable examples, small folders of data, and the command."""

import gc
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import _browser as _browser
from tests.browser import browser_page as browser_page
from tests.garbage import look_less_often
from tests.order import longest_first

# No torch, numpy or project above: the process that only hands out the tests would import them before all others start.

ROOT = Path(__file__).resolve().parents[1]

# One thread, in the programs that tests start, too: more of them would wait for each other on the same few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the settings of all tests, in each process that runs some."""
    # Nobody looks at log records; without any handler Python prints warnings among a command's errors.
    logging.getLogger().addHandler(logging.NullHandler())
    config = session.config
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    # Looking for garbage takes a fifth of the time of the imports.
    gc.disable()
    import torch

    torch.set_num_threads(1)
    _repeat_examples()


def _repeat_examples() -> None:
    """Have Hypothesis take the same examples in every run, with no bound on their time."""
    from hypothesis import settings
    from hypothesis.configuration import set_hypothesis_home_dir
    from hypothesis.internal.conjecture import providers

    # Its files lie where git does not look.
    set_hypothesis_home_dir(ROOT / ".pytest_cache" / "hypothesis")
    settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
    settings.load_profile("repeatable")
    # Hypothesis also draws the numbers and words in those modules of the project that are imported so far, which
    # depends on the tests that ran before in the same process: an example must not.
    if hasattr(providers, "_get_local_constants"):
        providers._get_local_constants = lambda: providers._local_constants


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: no process is left with a long one when all others are done."""
    items[:] = longest_first(items, getattr(config, "workerinput", {}).get("workercount", 1))


def pytest_collection_finish() -> None:
    """All is imported: the search for garbage begins, with what tests make."""
    look_less_often()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Checkpoints are written as ever, but nobody waits until the disk has them: this machine stays on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder `shared` beside the checkout, with real images; its tests are skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` beside the checkout")
    return folder


@pytest.fixture
def tiny_annotations() -> dict[str, Any]:
    """Annotations of four images with ids 1, 4, 7, 9 and sparse category ids, by hand.

    1: two polygons and a crowd, 4: an object as run lengths without `area` and `iscrowd`,
    7: none, 9: a box that hangs over the edge, one with width 0 and one of `bbox` [].
    """
    square = {"iscrowd": 0, "segmentation": [[10, 10, 30, 10, 30, 20, 10, 20]], "area": 200, "bbox": [10, 10, 20, 10]}
    triangle = {"iscrowd": 0, "segmentation": [[0, 0, 20, 0, 0, 20]], "area": 200.5, "bbox": [0, 0, 20, 20]}
    crowd = {"iscrowd": 1, "segmentation": {"size": [40, 60], "counts": [2400]}, "area": 9, "bbox": [0, 0, 9, 9]}
    # Run lengths go down the columns of the 50 x 40 image (h x w): 100 zeros are its first two columns.
    columns = {"segmentation": {"size": [50, 40], "counts": [100, 50, 1850]}, "bbox": [2, 0, 1, 50]}
    objects = [
        {"id": 1, "image_id": 1, "category_id": 3, **square},
        {"id": 2, "image_id": 1, "category_id": 7, **triangle},
        {"id": 3, "image_id": 1, "category_id": 3, **crowd},
        {"id": 4, "image_id": 4, "category_id": 3, **columns},
        {"id": 5, "image_id": 9, "category_id": 7, "bbox": [50, 30, 30, 30], "area": 900, "segmentation": [[]]},
        {"id": 6, "image_id": 9, "category_id": 7, "bbox": [5, 5, 0, 10], "area": 0, "segmentation": []},
        {"id": 8, "image_id": 9, "category_id": 3, "bbox": [], "segmentation": []},
    ]
    sizes = {9: (60, 40), 1: (60, 40), 7: (33, 47), 4: (40, 50)}
    images = [{"id": i, "file_name": f"{i:012d}.png", "width": w, "height": h} for i, (w, h) in sizes.items()]
    categories = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]
    return {"images": images, "annotations": objects, "categories": categories}


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write annotations and images (a seeded noise) as both splits of a folder in COCO's layout, and return it."""

    import numpy as np
    from PIL import Image

    def write(annotations: dict[str, Any]) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / "coco"
        (root / "annotations").mkdir(parents=True, exist_ok=True)
        for split in ("train2017", "val2017"):
            (root / split).mkdir(exist_ok=True)
            (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(annotations))
            for image in annotations["images"]:
                pixels = rng.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / image["file_name"])
        return root

    return write


@pytest.fixture
def coco_folder(write_coco: Callable[[dict[str, Any]], Path], tiny_annotations: dict[str, Any]) -> Path:
    """A folder in COCO's layout with the four images of `tiny_annotations` as train2017 and as val2017."""
    return write_coco(tiny_annotations)


@pytest.fixture
def cppe5_folder(tmp_path: Path) -> Path:
    """CPPE-5's layout: an image whose annotated width and height are swapped, and an RGBA one with a prefixed name."""
    import numpy as np
    from PIL import Image

    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    Image.new("L", (60, 40), 9).save(tmp_path / "images" / "1.jpg")
    Image.fromarray(np.full((20, 30, 4), 200, dtype=np.uint8)).save(tmp_path / "images" / "2.png")
    images = [
        {"id": 1, "file_name": "1.jpg", "width": 40, "height": 60},
        {"id": 2, "file_name": "/content/data/images/2.png", "width": 30, "height": 20},
    ]
    objects = [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [30, 10, 25, 10], "area": 250, "iscrowd": 0},
        {"id": 2, "image_id": 2, "category_id": 5, "bbox": [20, 10, 15, 5], "area": 75, "iscrowd": 0},
    ]
    names = ("Coverall", "Face_Shield", "Gloves", "Goggles", "Mask")
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    for split in ("train", "test"):
        (tmp_path / "annotations" / f"{split}.json").write_text(
            json.dumps({"images": images, "annotations": objects, "categories": categories})
        )
    return tmp_path


@pytest.fixture
def panoptic_folder(tmp_path: Path) -> Path:
    """COCO's panoptic layout with the same two small images as both splits, and their boxes."""
    from tests.datasets.panoptic_folder import panoptic_data, write_panoptic_folder

    root = tmp_path / "panoptic"
    root.mkdir()
    write_panoptic_folder(root, panoptic_data())
    annotations = root / "annotations"
    (root / "train2017").symlink_to(root / "val2017")
    (annotations / "panoptic_train2017").symlink_to(annotations / "panoptic_val2017")
    (annotations / "panoptic_train2017.json").symlink_to(annotations / "panoptic_val2017.json")
    dog = {
        "id": 1,
        "image_id": 9,
        "category_id": 18,
        "bbox": [2, 1, 3, 2],
        "area": 6,
        "iscrowd": 0,
        "segmentation": [[2, 1, 5, 1, 5, 3, 2, 3]],
    }
    instances = panoptic_data() | {"annotations": [dog], "categories": [{"id": 18, "name": "dog"}]}
    for split in ("train", "val"):
        (annotations / f"instances_{split}2017.json").write_text(json.dumps(instances))
    return root


@pytest.fixture(scope="module")
def narrow_resnet18() -> Iterator[None]:
    """ResNet-18 has an eighth of its channels and one block a stage in this module, and in processes that it forks."""
    from tests import small_runs  # not above, as `main` below

    with pytest.MonkeyPatch.context() as patch:
        small_runs.narrow(patch)
        yield


@pytest.fixture(scope="module")
def narrow_resnet50() -> Iterator[None]:
    """ResNet-50 has an eighth of its channels in this module's tests."""
    from tests import small_runs

    with pytest.MonkeyPatch.context() as patch:
        small_runs.narrow_resnet50(patch)
        yield


@pytest.fixture(scope="module")
def undrawn_curves() -> Iterator[None]:
    """Runs of this module's tests, and of the processes that they fork, draw no curves and small detections."""
    from tests import small_runs

    with pytest.MonkeyPatch.context() as patch:
        small_runs.leave_undrawn(patch)
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: its exit code, what it printed, and its errors."""
    import main  # not above: many tests never need it, and it takes seconds

    def call(flags: str, *more: object) -> tuple[int, str, str]:
        try:
            code = main.cli(flags.split() + [str(m) for m in more])
        except SystemExit as exit_:
            code = exit_.code
        return code, *capsys.readouterr()

    return call
