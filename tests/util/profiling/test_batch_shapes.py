"""Costs of padding over an epoch, counted by hand."""

import pytest
import torch

from datasets.collate import Collate, ObjectSizes
from util.profiling import batch_shapes as batch_shapes
from util.profiling.batch_shapes import BatchShapes, describe_shapes


def batch(*sizes: tuple[int, int], count: int = 1, collate: Collate = Collate()) -> tuple:  # noqa: B008 (frozen)
    return collate(
        [
            (
                torch.ones(3, h, w),
                {"size": torch.tensor([h, w]), "labels": torch.ones(count), "image_id": torch.ones(1)},
            )
            for h, w in sizes
        ]
    )


def test_padding_and_distinct_shapes_are_counted() -> None:
    shapes = BatchShapes()
    shapes.add(*batch((10, 20), (20, 10)))
    shapes.add(*batch((20, 20), (5, 20), count=3))
    shapes.add(*batch((10, 10)))
    # Canvases of 2 * 400, 2 * 400 and 100 pixels, of which 400, 500 and 100 are images.
    assert shapes.summary() == {"padding": pytest.approx(700 / 1700), "shapes": 2, "object_sizes": 2}
    assert describe_shapes(shapes.summary()) == (
        "padding: 41.2% of the pixels, distinct input shapes: 2, lengths of object lists: 2"
    )


def test_one_canvas_and_one_length_are_one_shape() -> None:
    shapes = BatchShapes()
    collate = Collate(canvas=(40, 40), objects=ObjectSizes(sizes=(5,), no_object=9))
    for i in range(1, 5):
        shapes.add(*batch((i, 40), (40, i), count=i, collate=collate))
    assert (shapes.summary()["shapes"], shapes.summary()["object_sizes"]) == (1, 1)


def test_nothing_seen_is_no_padding() -> None:
    assert BatchShapes().summary() == {"padding": 0, "shapes": 0, "object_sizes": 0}


def test_processes_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes, other = BatchShapes(), BatchShapes()
    shapes.add(*batch((10, 10)))
    other.add(*batch((10, 20), (10, 10), count=2))
    theirs = (other.visible, other.canvas, other.shapes, other.object_sizes)
    monkeypatch.setattr(batch_shapes, "all_gather", lambda mine: [mine, theirs])
    assert shapes.summary() == {"padding": pytest.approx(100 / 500), "shapes": 2, "object_sizes": 2}
