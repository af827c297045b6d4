"""Drawn boxes and names, and grids of truth beside detections."""

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle_tools
from torch.utils.data import Subset

from util.draw import boxes as visualize
from util.draw.boxes import (
    GRID_TILE,
    Objects,
    class_colour,
    detection_grid,
    draw_detections,
    draw_evaluation,
)

GREY = (120, 120, 120)


def blank(width: int = 320, height: int = 320) -> Image.Image:
    return Image.new("RGB", (width, height), GREY)


def has_colour(image: Image.Image, label: int) -> bool:
    return bool((np.asarray(image) == class_colour(label)).all(axis=2).any())


def changed(before: Image.Image, after: Image.Image) -> np.ndarray:
    return (np.asarray(before) != np.asarray(after)).any(axis=2)


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
    monkeypatch.setattr(visualize, "detection_grid", lambda images, **kwargs: seen.update(images=images, **kwargs))
    return seen


# --- class_colour -----------------------------------------------------------------------------------------------------


def test_first_classes_have_colours_far_apart():
    colours = np.array([class_colour(label) for label in range(1, 9)], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours, axis=2) + 1000 * np.eye(8)
    assert distances.min() > 75


def test_all_cocos_classes_have_their_own_colour():
    assert len({class_colour(label) for label in range(0, 91)}) == 91
    assert class_colour(torch.tensor(7)) == class_colour(7)


# --- draw_detections --------------------------------------------------------------------------------------------------


def test_box_lies_where_it_should_and_the_original_is_untouched():
    image = blank()
    drawn = draw_detections(image, torch.tensor([[100.0, 150.0, 200.0, 250.0]]), torch.tensor([4]))
    assert not changed(image, blank()).any()
    colour = class_colour(4)
    assert drawn.getpixel((100, 200)) == drawn.getpixel((150, 150)) == colour
    assert drawn.getpixel((199, 200)) == drawn.getpixel((150, 249)) == colour  # the last pixels inside the box
    assert colour not in (drawn.getpixel((200, 200)), drawn.getpixel((150, 250)), drawn.getpixel((99, 200)))
    assert drawn.getpixel((150, 200)) == drawn.getpixel((215, 200)) == GREY


def test_small_images_are_enlarged_and_boxes_with_them():
    drawn = draw_detections(blank(80, 40), [[20, 10, 60, 30]], [1])
    assert drawn.size == (320, 160)
    assert drawn.getpixel((80, 100)) == drawn.getpixel((160, 40)) == class_colour(1)


def test_large_images_keep_their_size_unless_told():
    assert draw_detections(blank(800, 600), [], []).size == (800, 600)
    assert draw_detections(blank(800, 600), [], [], longer_side=400).size == (400, 300)


def test_nothing_to_draw_leaves_the_image():
    assert not changed(draw_detections(blank(), torch.zeros(0, 4), torch.zeros(0)), blank()).any()


def test_other_modes_become_rgb():
    assert draw_detections(Image.new("L", (320, 320), 9), [[10, 10, 90, 90]], [2]).mode == "RGB"


def test_low_scores_are_left_out():
    drawn = draw_detections(blank(), [[10, 50, 90, 90], [150, 150, 250, 250]], [1, 2], scores=[0.3, 0.9], min_score=0.5)
    assert not has_colour(drawn, 1) and has_colour(drawn, 2)


def test_the_surest_box_lies_on_top():
    box = [100, 100, 200, 200]
    for scores, top in (([0.9, 0.6], 1), ([0.6, 0.9], 2)):
        assert draw_detections(blank(), [box, box], [1, 2], scores=scores).getpixel((100, 150)) == class_colour(top)


@pytest.mark.parametrize(
    ("names", "scores", "texts"),
    [({3: "star"}, None, ["star", "5"]), ({3: "star", 5: "cup"}, [0.874, 1.0], ["star 87", "cup 100"])],
)
def test_names_and_scores_are_written(monkeypatch, names, scores, texts):
    written = []
    monkeypatch.setattr(visualize, "_draw_names", lambda image, boxes, labels, names: written.extend(names))
    draw_detections(blank(), [[9, 9, 99, 99], [50, 50, 150, 150]], [3, 5], scores=scores, class_names=names)
    assert sorted(written) == sorted(texts)


def test_names_of_the_same_box_do_not_cover_each_other(monkeypatch):
    patches = []
    place = visualize._free_patch
    monkeypatch.setattr(visualize, "_free_patch", lambda *args: patches.append(place(*args)) or patches[-1])
    draw_detections(blank(), [[100, 100, 220, 220]] * 4, [1, 2, 3, 4], class_names={k: "class" for k in range(1, 5)})
    assert len(patches) == 4
    assert sum(visualize._overlap(a, b) for i, a in enumerate(patches) for b in patches[:i]) == 0


@pytest.mark.parametrize("box", [[-30, -20, 40, 30], [0, 0, 320, 320], [300, 300, 340, 350], [0, 310, 5, 319]])
def test_names_stay_inside_the_image(monkeypatch, box):
    patches = []
    place = visualize._free_patch
    monkeypatch.setattr(visualize, "_free_patch", lambda *args: patches.append(place(*args)) or patches[-1])
    draw_detections(blank(), [box], [1], class_names={1: "rectangle"})
    left, top, right, bottom = patches[0]
    assert 0 <= left < right <= 320 and 0 <= top < bottom <= 320


def test_a_box_without_extent_is_drawn():
    assert has_colour(draw_detections(blank(), [[50.0, 60.0, 50.0, 60.0]], [1]), 1)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 boxes, 1 labels"):
        draw_detections(blank(), [[0, 0, 1, 1], [0, 0, 2, 2]], [1])


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


# --- masks ------------------------------------------------------------------------------------------------------------


def half_mask() -> np.ndarray:
    mask = np.zeros((48, 64), dtype=np.uint8, order="F")
    mask[:, :32] = 1
    return mask


def test_masks_shine_through_and_have_an_outline():
    mask = np.zeros((320, 320), dtype=bool)
    mask[100:200, 100:200] = True
    drawn = draw_detections(blank(), [[20, 20, 60, 60]], [4], masks=[mask])
    inside, colour = np.array(drawn.getpixel((150, 150))), np.array(class_colour(4))
    assert (np.abs(inside - GREY) < np.abs(colour - GREY)).all() and (inside != GREY).any()
    assert drawn.getpixel((100, 150)) == class_colour(4) and drawn.getpixel((250, 250)) == GREY
    assert sum(drawn.getpixel((99, 150))) < sum(GREY) / 2  # the seam


def test_masks_below_the_score_are_left_out_like_their_boxes():
    masks = torch.zeros(2, 320, 320, dtype=torch.bool)
    masks[0, 100:200, 100:200] = True
    drawn = draw_detections(
        blank(), [[0, 0, 9, 9], [20, 20, 60, 60]], [1, 2], scores=[0.2, 0.9], masks=masks, min_score=0.5
    )
    assert drawn.getpixel((150, 150)) == GREY


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
