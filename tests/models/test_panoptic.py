"""Panoptic images by hand: who gets a pixel, what is merged, what is too small, and the original's three faults."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from models.panoptic import ORIGINAL_THINGS, PostProcessPanoptic

NOTHING = 250
CAT, DOG, SKY, GRASS = 17, 18, 187, 193
THINGS = {CAT: True, DOG: True, SKY: False, GRASS: False}


def outputs_of(labels: list[int], masks: Tensor, **more: object) -> dict:
    """An image whose queries are sure of `labels` and see `masks` (Q, h, w)."""
    logits = torch.zeros(1, len(labels), NOTHING + 1)
    logits[0, torch.arange(len(labels)), torch.tensor(labels)] = 12.0
    return {"pred_logits": logits, "pred_masks": masks[None], "pred_boxes": torch.zeros(1, len(labels), 4)} | more


def region(rows: slice, columns: slice, strength: float = 5.0, size: tuple[int, int] = (8, 8)) -> Tensor:
    mask = torch.full(size, -strength)
    mask[rows, columns] = strength
    return mask


def ids_of(result: dict) -> np.ndarray:
    """Segment ids (H, W), from red, green and blue."""
    with Image.open(io.BytesIO(result["png_string"])) as image:
        assert image.mode == "RGB"
        return np.array(image).astype(int) @ [1, 256, 65536]


ALL = slice(None)
TOP, BOTTOM, LEFT = slice(0, 4), slice(4, 8), slice(0, 4)


def test_every_pixel_goes_to_the_surest_query() -> None:
    masks = torch.stack([region(TOP, ALL), region(ALL, ALL, 1.0), region(BOTTOM, LEFT, 9.0)])
    (result,) = PostProcessPanoptic(THINGS)(outputs_of([CAT, SKY, DOG], masks), [(8, 8)])
    assert result["segments_info"] == [
        {"id": 0, "isthing": True, "category_id": CAT, "area": 32},
        {"id": 1, "isthing": False, "category_id": SKY, "area": 16},
        {"id": 2, "isthing": True, "category_id": DOG, "area": 16},
    ]
    expected = np.zeros((8, 8), int)
    expected[BOTTOM] = 1
    expected[BOTTOM, LEFT] = 2
    assert (ids_of(result) == expected).all()


def test_unsure_queries_and_those_that_see_nothing_are_left_out() -> None:
    masks = torch.stack([region(TOP, ALL), region(ALL, ALL, 9.0), region(BOTTOM, ALL)])
    outputs = outputs_of([CAT, NOTHING, DOG], masks)
    outputs["pred_logits"][0, 2] *= 0.5  # exp(6) among 250 others: a probability of 0.62
    found = [PostProcessPanoptic(THINGS, t)(outputs, [(8, 8)])[0]["segments_info"] for t in (0.85, 0.5)]
    assert [[(s["category_id"], s["area"]) for s in segments] for segments in found] == [
        [(CAT, 64)],
        [(CAT, 32), (DOG, 32)],
    ]


@pytest.mark.parametrize("original", [False, True])
def test_without_segments_the_list_is_empty_and_the_image_zero(original: bool) -> None:
    post = PostProcessPanoptic(THINGS, original=original)
    (result,) = post(outputs_of([NOTHING, NOTHING], torch.zeros(2, 4, 4)), [(16, 12)], [(30, 20)])
    assert result["segments_info"] == [] and ids_of(result).shape == (30, 20) and not ids_of(result).any()


def test_masks_and_areas_are_at_the_size_that_is_asked_for() -> None:
    masks = torch.stack([region(TOP, ALL), region(BOTTOM, ALL)])
    (result,) = PostProcessPanoptic(THINGS)(
        outputs_of([CAT, DOG], masks), torch.tensor([[16, 32]]), torch.tensor([[8, 3]])
    )
    assert [s["area"] for s in result["segments_info"]] == [12, 12] and ids_of(result).shape == (8, 3)


@pytest.mark.parametrize("original", [False, True])
def test_segments_of_four_pixels_go_and_their_pixels_to_the_next_best(original: bool) -> None:
    masks = torch.stack([region(slice(0, 2), slice(0, 2), 9.0), region(ALL, LEFT), region(ALL, slice(4, 8))])
    (result,) = PostProcessPanoptic(THINGS, original=original)(outputs_of([CAT, DOG, CAT], masks), [(8, 8)])
    assert [(s["id"], s["category_id"], s["area"]) for s in result["segments_info"]] == [(0, DOG, 32), (1, CAT, 32)]


# ---- the three faults


def two_sizes() -> tuple[dict, list[tuple[int, int]]]:
    """A batch of 400 x 600 and 800 x 800 images (half that here); in the first the cat fills the rows up to 100."""
    masks = torch.full((1, 2, 100, 100), -8.0)
    masks[0, 0, :25], masks[0, 1, 25:] = 8.0, 8.0
    outputs = outputs_of([CAT, SKY], masks[0])
    return {k: v.expand(2, *v.shape[1:]) for k, v in outputs.items()}, [(200, 300), (400, 400)]


def test_masks_of_a_padded_image_stay_where_they_are() -> None:
    outputs, sizes = two_sizes()
    small, large = (ids_of(r) for r in PostProcessPanoptic(THINGS)(outputs, sizes))
    assert (small[:100] == 0).all() and (small[100:] == 1).all() and small.shape == (200, 300)
    assert (large[:100] == 0).all() and (large[100:] == 1).all()
    small, large = (ids_of(r) for r in PostProcessPanoptic(THINGS, original=True)(outputs, sizes))
    assert (small[:50] == 0).all() and (small[50:] == 1).all()  # the canvas's quarter, stretched
    assert (large[:100] == 0).all() and (large[100:] == 1).all()


def test_the_canvas_may_be_larger_than_every_image() -> None:
    outputs, sizes = two_sizes()
    small, _ = PostProcessPanoptic(THINGS)(outputs | {"canvas": (800, 400)}, sizes)
    assert (ids_of(small)[:200] == 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_at_batch_size_one_cutting_off_changes_nothing(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = 4 * torch.randn(5, 13, 9, generator=generator)
    outputs = outputs_of([CAT, DOG, SKY, CAT, GRASS], masks)
    sizes, targets = [(50, 35)], [(61, 47)]
    mended, original = (
        PostProcessPanoptic(THINGS | ORIGINAL_THINGS, original=o)(outputs, sizes, targets) for o in (False, True)
    )
    assert mended == original and len(mended[0]["segments_info"]) == 5


def test_stuff_that_was_merged_stays_together() -> None:
    """Two patches of sky, grass between them that is surer than the weaker sky alone."""
    weak_sky, grass = region(TOP, LEFT, 3.0), region(ALL, LEFT, 2.0)
    tiny_cat = region(slice(0, 2), slice(4, 6), 20.0)  # four pixels: given up, and the rest is numbered anew
    masks = torch.stack([tiny_cat, region(ALL, slice(4, 8), 9.0), weak_sky, grass])
    outputs = outputs_of([CAT, SKY, SKY, GRASS], masks)
    mended, original = (PostProcessPanoptic(THINGS, original=o)(outputs, [(8, 8)])[0] for o in (False, True))
    areas = lambda result: {s["category_id"]: s["area"] for s in result["segments_info"]}
    assert areas(mended) == {SKY: 48, GRASS: 16} and (ids_of(mended)[TOP] == 0).all()
    assert areas(original) == {SKY: 32, GRASS: 32}  # the merged patch lost its query, and its pixels went to the grass


def test_things_of_one_class_are_not_merged() -> None:
    masks = torch.stack([region(TOP, ALL), region(BOTTOM, ALL)])
    (result,) = PostProcessPanoptic(THINGS)(outputs_of([CAT, CAT], masks), [(8, 8)])
    assert [s["area"] for s in result["segments_info"]] == [32, 32]


def test_classes_beyond_the_list_are_left_out_where_the_original_fails() -> None:
    outputs = outputs_of([230, CAT], torch.stack([region(ALL, ALL, 9.0), region(TOP, ALL)]))
    (result,) = PostProcessPanoptic(THINGS)(outputs, [(8, 8)])
    assert [s["category_id"] for s in result["segments_info"]] == [CAT]
    with pytest.raises(KeyError, match="230"):
        PostProcessPanoptic(ORIGINAL_THINGS, original=True)(outputs, [(8, 8)])


def test_sizes_must_fit_the_batch() -> None:
    with pytest.raises(ValueError, match="2 and 2 sizes for 1 images"):
        PostProcessPanoptic(THINGS)(outputs_of([CAT], torch.zeros(1, 4, 4)), [(8, 8), (8, 8)])
