"""The cells that a query sees: those inside its box, its nearest one at least, and none on padding."""

import torch

from models.variants.local_attention import OUTSIDE, bias_inside


def seen(box: list[float], padding: torch.Tensor) -> list[list[int]]:
    """The cells (row, column) that a query with this box sees on a map with this padding (h, w)."""
    bias = bias_inside(torch.tensor([[box]]), padding[None])
    assert bias.shape == (1, 1, 1, padding.numel()) and set(bias.unique().tolist()) <= {0.0, OUTSIDE}
    return (bias[0, 0, 0].view(padding.shape) == 0).nonzero().tolist()


NO_PADDING = torch.zeros(4, 4, dtype=torch.bool)


def test_cells_inside_the_box_widened_by_half_a_cell() -> None:
    # Columns have their centres at 0.125, 0.375, ...; the box reaches from 0.3 to 0.45 and half a cell further.
    assert seen([0.375, 0.375, 0.15, 0.15], NO_PADDING) == [[1, 1]]
    assert seen([0.375, 0.375, 0.26, 0.15], NO_PADDING) == [[1, 0], [1, 1], [1, 2]]


def test_a_box_of_no_size_sees_its_nearest_cell() -> None:
    for place in (0.0, 0.01, 0.3, 0.6, 0.999, 1.0):
        cells = seen([place, 0.9, 0.0, 0.0], NO_PADDING)
        nearest = min(3, int(place * 4))
        assert [3, nearest] in cells and len(cells) <= 2


def test_a_box_of_the_whole_image_sees_all_of_it_and_boxes_count_without_padding() -> None:
    padding = torch.ones(4, 6, dtype=torch.bool)
    padding[:2, :3] = False
    assert {(0, 0), (1, 2)} <= {(row, column) for row, column in seen([0.5, 0.5, 1.0, 1.0], padding)}
    # The image has 2 x 3 cells, so its middle column is at 0.5 although the map is six cells wide.
    assert seen([0.5, 0.25, 0.01, 0.01], padding) == [[0, 1]]


def test_no_gradient_passes_through_the_choice() -> None:
    boxes = torch.rand(1, 2, 4, requires_grad=True)
    assert not bias_inside(boxes, NO_PADDING[None]).requires_grad
