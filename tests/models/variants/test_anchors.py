"""Queries as boxes: their encoding meets that of cells, layers refine them, proposals choose cells of the image."""

import pytest
import torch
from torch.testing import assert_close

from models.position_encoding import BOX_TEMPERATURE, PositionEmbeddingSine
from models.variants.anchors import AnchorAttention, Scene
from models.variants.detectors import grid_of_boxes
from models.variants.encoder_queries import NOTHING, EncoderQueries, prior_boxes
from models.variants.sine import encode_boxes, logit
from util.nested_tensor import NestedTensor


def padded(h: int, w: int, shown: tuple[int, int]) -> torch.Tensor:
    """Padding (1, h, w) of a map of which only the upper left part is image."""
    padding = torch.ones(1, h, w, dtype=torch.bool)
    padding[0, : shown[0], : shown[1]] = False
    return padding


@pytest.mark.parametrize("shown", [(4, 6), (3, 5)])
def test_a_box_at_the_centre_of_a_cell_is_encoded_as_the_cell(shown: tuple[int, int]) -> None:
    padding = padded(4, 6, shown)
    cells = PositionEmbeddingSine(8, temperature=BOX_TEMPERATURE, normalize=True)(
        NestedTensor(torch.zeros(1, 1, 4, 6), padding)
    )[0]  # (16, 4, 6)
    for row, column in ((0, 0), (1, 3), (2, 4)):
        box = torch.tensor([[[(column + 0.5) / shown[1], (row + 0.5) / shown[0], 0.3, 0.2]]])
        assert_close(encode_boxes(box, 16, padding)[0, 0, :16], cells[:, row, column], atol=1e-5, rtol=0)


def test_scores_are_those_of_contents_plus_those_of_positions() -> None:
    torch.manual_seed(0)
    attention = AnchorAttention(16, 2)
    query, sine, memory, pos = (
        torch.randn(1, 3, 16),
        torch.randn(1, 3, 16),
        torch.randn(1, 4, 16),
        torch.randn(1, 4, 16),
    )
    kept: list[torch.Tensor] = []
    attention.look(query, sine, Scene(memory, pos, torch.zeros(1, 2, 2, dtype=torch.bool)), attention=kept)
    q, k, _ = (x[0] for x in attention._project(query, memory, memory))  # (heads, 3 or 4, 8)
    q_at = attention.query_position(sine)[0].unflatten(-1, (2, 8)).transpose(0, 1)
    k_at = attention.key_position(pos)[0].unflatten(-1, (2, 8)).transpose(0, 1)
    expected = ((q @ k.transpose(1, 2) + q_at @ k_at.transpose(1, 2)) / 16**0.5).softmax(-1)
    assert_close(kept[0][0], expected)


def test_boxes_come_back_from_their_logits_but_for_the_ends() -> None:
    boxes = torch.tensor([0.0, 0.2, 0.9, 1.0])
    assert_close(logit(boxes).sigmoid(), torch.tensor([0.001, 0.2, 0.9, 0.999]))


def test_learned_boxes_begin_as_a_grid_over_the_image() -> None:
    boxes = grid_of_boxes(6)  # 2 rows of 3
    assert_close(boxes[:3, 0], torch.tensor([1 / 6, 0.5, 5 / 6]))
    assert_close(boxes[::3, 1], torch.tensor([0.25, 0.75]))
    assert len(grid_of_boxes(7)) == 7 and bool(((grid_of_boxes(7)[:, :2] > 0) & (grid_of_boxes(7)[:, :2] < 1)).all())


def test_proposals_are_boxes_around_cells_of_the_image_never_of_padding() -> None:
    torch.manual_seed(0)
    module, padding = EncoderQueries(16, 3), padded(4, 6, (3, 5))
    proposals = module(torch.randn(1, 24, 16), padding, torch.zeros(10, 16))
    outside = padding.flatten(1)
    assert bool((proposals.logits[outside] == NOTHING).all()) and bool((proposals.logits[~outside] > -20).all())
    assert_close(proposals.boxes[~outside], prior_boxes(padding)[~outside], atol=1e-5, rtol=0)
    assert proposals.queries.boxes.shape == (1, 10, 4) and not bool(proposals.queries.hidden.any())
    assert bool((proposals.queries.boxes[..., :2] <= 1).all())


def test_queries_beyond_the_cells_of_an_image_are_hidden() -> None:
    module = EncoderQueries(16, 3)
    proposals = module(torch.randn(1, 24, 16), padded(4, 6, (2, 3)), torch.zeros(10, 16))
    assert proposals.queries.hidden.sum() == 10 - 6


def test_the_surest_cells_are_chosen_with_their_features_and_without_a_gradient_to_them() -> None:
    module = EncoderQueries(16, 3)
    memory = torch.randn(1, 24, 16, requires_grad=True)
    proposals = module(memory, padded(4, 6, (4, 6)), torch.ones(2, 16))
    scores = proposals.logits[0, :, :-1].amax(-1)
    assert_close(scores.topk(2).values, scores[scores >= scores.topk(2).values[-1]].sort(descending=True).values)
    assert not proposals.queries.boxes.requires_grad and not proposals.queries.content.requires_grad
