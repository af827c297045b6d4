"""Panoptic images for people: colours, outlines and names of segments."""

import numpy as np
import pytest

from tests.util.draw.images import GREY, blank, has_colour
from util.draw import panoptic as drawing
from util.draw.boxes import class_colour
from util.draw.panoptic import draw_panoptic


def test_segments_have_their_colours_outlines_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list = []
    monkeypatch.setattr(drawing, "draw_names", lambda image, places, colours, names: written.extend([places, names]))
    ids = np.zeros((320, 320), dtype=int)
    ids[:, 200:] = 1
    segments = [{"id": 0, "category_id": 7}, {"id": 1, "category_id": 3}, {"id": 2, "category_id": 1}]
    drawn = draw_panoptic(blank(), ids, segments, ["sky", "tree", "lost"])
    for x, label in ((50, 7), (300, 3)):
        mixed = 0.4 * np.array(GREY) + 0.6 * np.array(class_colour(label))
        assert np.abs(np.array(drawn.getpixel((x, 100))) - mixed).max() <= 1
    assert sum(drawn.getpixel((200, 100))) < sum(drawn.getpixel((50, 100))) / 2
    places, names = written
    assert names == ["sky", "tree"]  # what has no pixels has no name
    assert 50 < places[0][0] < 150 and 240 < places[1][0] < 280


def test_a_small_image_without_segments_is_enlarged() -> None:
    drawn = draw_panoptic(blank(80, 40), np.zeros((40, 80), dtype=int), [], [])
    assert drawn.size == (320, 160) and not has_colour(drawn, 1)
