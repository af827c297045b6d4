"""Sheets of images: contact sheets, and grids of truth beside detections."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle_tools
from torch.utils.data import Subset

from tests.util.draw.images import blank, changed, has_colour
from util.draw import sheets
from util.draw.boxes import GRID_TILE
from util.draw.sheets import Objects, contact_sheet, detection_grid, draw_evaluation

RED, BLUE = (255, 0, 0), (0, 0, 255)


class FakeDataset:
    """Six grey images of 64 x 48 with one object each; image k has the id 100 + k and the class 1 + k % 2."""

    class_names = {1: "cat", 2: "dog"}

    def __init__(self) -> None:
        self.loaded: list[int] = []

    def __len__(self) -> int:
        return 6

    def image_id(self, index: int) -> int:
        return 100 + index

    def load(self, index: int):
        self.loaded.append(index)
        return blank(64, 48), {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1 + index % 2])}


class FakeEvaluator:
    def __init__(self, results: list[dict], masks: list[dict] | None = None) -> None:
        self.found = {"bbox": results} | ({"segm": masks} if masks is not None else {})
        self.iou_types = tuple(self.found)

    def results(self, iou_type: str) -> list[dict]:
        return self.found[iou_type]


def capture_grid(monkeypatch) -> dict:
    """Let `draw_evaluation` hand its grid to a dict instead of drawing it."""
    seen = {}
    monkeypatch.setattr(sheets, "detection_grid", lambda images, **kwargs: seen.update(images=images, **kwargs))
    return seen


# --- contact_sheet ----------------------------------------------------------------------------------------------------


def test_rows_of_images_in_their_order(tmp_path: Path) -> None:
    tiles = [
        (Image.new("RGB", (GRID_TILE, 100), RED), "a"),
        (Image.new("RGB", (GRID_TILE, 60), RED), "b"),
        (Image.new("RGB", (200, GRID_TILE), BLUE), "c"),
    ]
    contact_sheet(tiles, columns=2, path=tmp_path / "new" / "sheet.png", title="A title")
    with Image.open(tmp_path / "new" / "sheet.png") as sheet:
        colours = [sheet.convert("RGB").getpixel(p) for p in ((184, 130), (524, 150), (184, 400), (524, 400))]
        assert sheet.width == 2 * 24 + 2 * GRID_TILE + 20
    assert colours == [RED, RED, BLUE, (255, 255, 255)]


def test_long_captions_keep_both_ends_within_the_tile(tmp_path: Path) -> None:
    tile = Image.new("RGB", (GRID_TILE, 50), RED)
    contact_sheet([(tile, "x" * 500)], columns=4, path=tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        margin = sheet.convert("L").crop((0, 0, 20, sheet.height))
        assert sheet.width == 2 * 24 + GRID_TILE and margin.getextrema() == (255, 255)


@pytest.mark.parametrize(("tiles", "columns"), [([], 3), ([(Image.new("RGB", (9, 9)), "a")], 0)])
def test_nothing_to_show_is_refused(tmp_path: Path, tiles: list, columns: int) -> None:
    with pytest.raises(ValueError, match="a sheet needs images and columns"):
        contact_sheet(tiles, columns=columns, path=tmp_path / "sheet.png")


# --- detection_grid ---------------------------------------------------------------------------------------------------


def grid_of(tmp_path, count: int, columns: int, **kwargs) -> Image.Image:
    truth = Objects(boxes=[[10, 10, 40, 40]], labels=[1])
    found = Objects(boxes=[[12, 12, 44, 44], [0, 0, 20, 20]], labels=[2, 3], scores=[0.8, 0.4])
    path = tmp_path / "new" / "grid.png"
    detection_grid([(blank(64, 48), truth, found)] * count, columns=columns, path=path, **kwargs)
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"], "no unfinished file stays behind"
    with Image.open(path) as grid:
        assert grid.format == "PNG"
        return grid.convert("RGB")


def test_grid_shows_truth_and_sure_detections(tmp_path):
    grid = grid_of(tmp_path, 1, 1)
    half = grid.width // 2
    left, right = grid.crop((0, 0, half, grid.height)), grid.crop((half, 0, grid.width, grid.height))
    assert has_colour(left, 1) and not has_colour(left, 2)
    assert has_colour(right, 2) and not has_colour(right, 1)
    assert not has_colour(grid, 3)


def test_grid_has_rows_and_columns(tmp_path):
    one, two, five = (grid_of(tmp_path, count, 2) for count in (1, 2, 5))
    assert one.width < two.width == five.width
    assert two.width > 4 * GRID_TILE
    assert five.height - two.height >= 2 * 240  # two more rows of images that are 320 x 240 when drawn


def test_grid_has_room_for_a_title_and_a_legend(tmp_path):
    plain, titled = grid_of(tmp_path, 2, 2), grid_of(tmp_path, 2, 2, title="a run", class_names={7: "cup"})
    assert titled.height > plain.height
    assert has_colour(titled, 7) and not has_colour(plain, 7)


def test_legend_that_does_not_fit_is_left_out(tmp_path):
    names = {k: f"quite a long name {k}" for k in range(10, 60)}
    assert not has_colour(grid_of(tmp_path, 1, 1, title="a run", class_names=names), 59)


def test_grid_is_the_same_each_time(tmp_path):
    assert not changed(grid_of(tmp_path, 3, 2), grid_of(tmp_path, 3, 2)).any()


def test_failed_grid_leaves_the_old_file(tmp_path, monkeypatch):
    grid_of(tmp_path, 1, 1)
    before = (tmp_path / "new" / "grid.png").read_bytes()

    def full_disk(self, file, **kwargs):
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        grid_of(tmp_path, 1, 1)
    assert (tmp_path / "new" / "grid.png").read_bytes() == before


@pytest.mark.parametrize(("count", "columns"), [(0, 3), (2, 0)])
def test_empty_grid_is_refused(tmp_path, count, columns):
    with pytest.raises(ValueError, match="needs images and columns"):
        grid_of(tmp_path, count, columns)


# --- draw_evaluation --------------------------------------------------------------------------------------------------


def test_evaluation_pairs_images_with_their_detections(monkeypatch, tmp_path):
    seen = capture_grid(monkeypatch)
    results = [
        {"image_id": 105, "category_id": 2, "bbox": [1.0, 2.0, 10.0, 20.0], "score": 0.7},
        {"image_id": 999, "category_id": 1, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.9},
    ]
    draw_evaluation(tmp_path / "d.png", FakeDataset(), FakeEvaluator(results))
    assert len(seen["images"]) == 6
    assert [truth.labels.tolist() for _, truth, _ in seen["images"]] == [[1], [2]] * 3
    assert [len(found.labels) for _, _, found in seen["images"]] == [0, 0, 0, 0, 0, 1]
    last = seen["images"][5][2]
    assert last.boxes.tolist() == [[1, 2, 11, 22]] and last.labels == [2] and last.scores == [0.7]
    assert seen["class_names"] == FakeDataset.class_names


def test_evaluation_chooses_images_evenly_also_from_subsets(monkeypatch, tmp_path):
    capture_grid(monkeypatch)
    dataset = FakeDataset()
    draw_evaluation(tmp_path / "d.png", dataset, FakeEvaluator([]), count=3)
    assert dataset.loaded == [0, 2, 5]
    dataset.loaded.clear()
    draw_evaluation(tmp_path / "d.png", Subset(Subset(dataset, [5, 3, 1]), [2, 0]), FakeEvaluator([]))
    assert dataset.loaded == [1, 5]


def test_evaluation_writes_an_image(tmp_path):
    path = tmp_path / "detections.png"
    result = {"image_id": 100, "category_id": 2, "bbox": [1, 2, 30, 20], "score": 0.7}
    draw_evaluation(path, FakeDataset(), FakeEvaluator([result]), columns=2)
    with Image.open(path) as grid:
        assert grid.width > 4 * GRID_TILE and has_colour(grid.convert("RGB"), 1)


def half_mask() -> np.ndarray:
    mask = np.zeros((48, 64), dtype=np.uint8, order="F")
    mask[:, :32] = 1
    return mask


def test_an_evaluation_with_masks_draws_those_of_truth_and_detections(monkeypatch, tmp_path):
    seen = capture_grid(monkeypatch)
    dataset = FakeDataset()
    load = dataset.load
    dataset.load = lambda k: (load(k)[0], load(k)[1] | {"masks": torch.ones(1, 48, 64, dtype=torch.bool)})
    common = {"image_id": 105, "category_id": 2}
    boxes = [common | {"bbox": [1.0, 2.0, 10.0, 20.0], "score": score} for score in (0.7, 0.1)]
    masks = [common | {"segmentation": rle_tools.encode(half_mask()), "score": score} for score in (0.7, 0.1)]
    draw_evaluation(tmp_path / "d.png", dataset, FakeEvaluator(boxes, masks))
    _, truth, found = seen["images"][5]
    assert truth.masks.all() and len(found.masks) == 1 and (found.masks[0] == half_mask()).all()
    assert seen["images"][0][2].masks is None
