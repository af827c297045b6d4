"""Objects drawn over an image: colours, boxes, names and masks."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.util.draw.images import GREY, blank, changed, has_colour
from util.draw import boxes as drawing
from util.draw import names as placing
from util.draw.boxes import class_colour, draw_detections, draw_objects

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
    monkeypatch.setattr(drawing, "draw_names", lambda image, boxes, colours, names: written.extend(names))
    draw_detections(blank(), [[9, 9, 99, 99], [50, 50, 150, 150]], [3, 5], scores=scores, class_names=names)
    assert sorted(written) == sorted(texts)


def test_names_of_the_same_box_do_not_cover_each_other(monkeypatch):
    patches = []
    place = placing.free_patch
    monkeypatch.setattr(placing, "free_patch", lambda *args: patches.append(place(*args)) or patches[-1])
    draw_detections(blank(), [[100, 100, 220, 220]] * 4, [1, 2, 3, 4], class_names={k: "class" for k in range(1, 5)})
    assert len(patches) == 4
    assert sum(placing.overlap(a, b) for i, a in enumerate(patches) for b in patches[:i]) == 0


@pytest.mark.parametrize("box", [[-30, -20, 40, 30], [0, 0, 320, 320], [300, 300, 340, 350], [0, 310, 5, 319]])
def test_names_stay_inside_the_image(monkeypatch, box):
    patches = []
    place = placing.free_patch
    monkeypatch.setattr(placing, "free_patch", lambda *args: patches.append(place(*args)) or patches[-1])
    draw_detections(blank(), [box], [1], class_names={1: "rectangle"})
    left, top, right, bottom = patches[0]
    assert 0 <= left < right <= 320 and 0 <= top < bottom <= 320


@pytest.mark.parametrize("size", [(100, 75), (6000, 4000), (40, 900), (900, 30), (1, 1)])
def test_letters_fit_images_of_any_size(monkeypatch, size):
    written = []
    monkeypatch.setattr(
        placing, "free_patch", lambda box, patch, canvas, taken: written.append(patch) or (0, 0, *patch)
    )
    drawn = draw_detections(blank(*size), [[0, 0, *size]], [1], class_names={1: "a class with a long name"})
    (width, height), shown = written[0], drawn.width / min(drawn.width, 1200)
    assert width <= drawn.width and height - 4 >= 10 * shown  # on a screen 1200 pixels wide


def test_boxes_are_cut_at_the_edges_and_those_outside_are_not_drawn_over():
    drawn = draw_detections(blank(), [[-50, 100, 400, 500], [330, 50, 400, 90]], [1, 2])
    assert drawn.getpixel((0, 200)) == drawn.getpixel((319, 200)) == drawn.getpixel((150, 319)) == class_colour(1)


def test_marked_boxes_are_dashed():
    boxes, labels = np.array([[50, 50, 250, 250], [20, 20, 30, 300]]), np.array([1, 2])
    drawn = draw_objects(blank(), boxes, labels, ["a", "b"], marked=np.array([True, False]))
    outline = np.asarray(drawn)[120:240, 50]
    assert (outline == 255).all(1).any() and (outline == class_colour(1)).all(1).any()
    assert (np.asarray(drawn)[50:290, 20] == class_colour(2)).all()


def test_a_box_without_extent_is_drawn():
    assert has_colour(draw_detections(blank(), [[50.0, 60.0, 50.0, 60.0]], [1]), 1)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="2 boxes, 1 labels"):
        draw_detections(blank(), [[0, 0, 1, 1], [0, 0, 2, 2]], [1])


# --- masks ------------------------------------------------------------------------------------------------------------


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
