"""Statistics of attention maps, against values computed by hand."""

import pytest
import torch

from inference.attention.statistics import AttentionStatistics, format_statistics, gini, inside_boxes
from models.attention import AttentionMaps


def test_gini_of_equal_weights_is_0_and_of_one_weight_almost_1() -> None:
    maps = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]])
    assert gini(maps).tolist() == pytest.approx([0, 1 - 1 / 4, 0.5])


def test_cells_lie_in_a_box_by_their_area() -> None:
    # 2 x 2 cells of 10 pixels; the box covers half of the upper left one and a quarter of the one below.
    part = inside_boxes((2, 2), (10.0, 10.0), torch.tensor([[0.0, 0.0, 5.0, 15.0]]))
    assert part.tolist() == [[[0.5, 0.0], [0.25, 0.0]]]


def test_padding_counts_as_nothing_and_shares_are_by_the_size_of_the_original() -> None:
    # One layer and head, two queries; an image of 10 x 20 pixels in a batch of 20 x 20: the lower cells are padding.
    decoder = torch.tensor([[[[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]]]])
    padding = torch.tensor([[[False, False], [True, True]]])
    target = {
        "boxes": torch.tensor([[0.25, 0.5, 0.5, 1.0]]),  # the left half
        "size": torch.tensor([10, 20]),
        "orig_size": torch.tensor([100, 200]),  # the object has 100 x 100 pixels there
    }
    statistics = AttentionStatistics()
    match = (torch.tensor([1]), torch.tensor([0]))
    statistics.add(AttentionMaps(decoder=[decoder], padding=padding), [target], [match], (20, 20))
    found = statistics.summary()
    assert found["zeros"] == [[0.25]], "one of two cells, of one of two queries"
    assert found["gini"][0][0] == pytest.approx(2 * (0.5 * 2 + 0.5 * 3 + 4) / (4 * 2) - 5 / 4)
    assert found["objects"] == {"small": 0, "medium": 0, "large": 1} and found["inside_box"] == {"large": [[0.5]]}
    assert format_statistics(found).splitlines()[-1] == "| 1 | 25.0 % | 25.0 % | 0.375 | 50.0 % | 25 |"
