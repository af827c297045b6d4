"""Masks on demand: only what is asked for is computed, and everything else a tensor can do still works."""

import pytest
import torch
from torch import Tensor

from models.fast.lazy_masks import QueryMasks


class Head:
    """The mask of query q of image p is filled with 10 p + q; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, image: Tensor, query: Tensor) -> Tensor:
        self.asked += zip(image.tolist(), query.tolist())
        return (10.0 * image + query)[:, None, None].expand(-1, 2, 3)


@pytest.fixture
def head() -> Head:
    return Head()


def masks_of(head: Head, chunk: int = 0) -> QueryMasks:
    return QueryMasks(head, images=2, queries=4, chunk=chunk, device=torch.device("cpu"))


def test_indices_compute_no_other_mask(head: Head) -> None:
    result = masks_of(head)[torch.tensor([0, 1, 1]), torch.tensor([3, 0, 2])]
    assert result[:, 0, 0].tolist() == [3, 10, 12] and result.shape == (3, 2, 3)
    assert head.asked == [(0, 3), (1, 0), (1, 2)]


@pytest.mark.parametrize("chunk", [0, 3])
def test_all_of_them_in_their_places_and_only_once(head: Head, chunk: int) -> None:
    masks = masks_of(head, chunk)
    assert masks.all[..., 0, 0].tolist() == [[0, 1, 2, 3], [10, 11, 12, 13]]
    assert masks.shape == (2, 4, 2, 3) and masks[1, 2].eq(12).all() and masks[:, None].shape == (2, 1, 4, 2, 3)
    assert masks.detach().cpu().numpy().shape == (2, 4, 2, 3) and len(masks) == len(list(masks)) == 2
    assert len(head.asked) == 8


def test_names_that_no_tensor_has_are_errors(head: Head) -> None:
    with pytest.raises(AttributeError):
        masks_of(head).no_such_thing  # noqa: B018
    with pytest.raises(AttributeError):
        masks_of(head)._private  # noqa: B018
