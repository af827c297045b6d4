"""Our attention against torch's nn.MultiheadAttention, which has the same parameters."""

import pytest
import torch
from torch import nn

from models.attention import MultiheadAttention


@pytest.fixture
def pair() -> tuple[MultiheadAttention, nn.MultiheadAttention]:
    ours, theirs = MultiheadAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    ours.load_state_dict(theirs.state_dict())  # strict: same names, same shapes
    return ours, theirs


@pytest.mark.parametrize("same_key", [True, False])
@pytest.mark.parametrize("hooked", [True, False])
def test_output_and_map_equal_torchs(pair: tuple, same_key: bool, hooked: bool) -> None:
    ours, theirs = pair
    query, value = torch.randn(2, 4 if not same_key else 6, 12), torch.randn(2, 6, 12)
    key = query if same_key else torch.randn(2, 6, 12)
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    maps = []
    if hooked:
        ours.register_forward_hook(lambda module, args, output: maps.append(output[1]))
    output, _ = ours(query, key, value, key_padding_mask=padding)
    expected, expected_map = theirs(query, key, value, key_padding_mask=padding)
    torch.testing.assert_close(output, expected)
    if hooked:
        torch.testing.assert_close(maps[0], expected_map)


def test_no_map_is_computed_when_nobody_listens(pair: tuple) -> None:
    x = torch.randn(1, 5, 12)
    assert pair[0](x, x, x)[1] is None


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="--nheads 5"):
        MultiheadAttention(12, 5)


def test_dropout_only_in_training(pair: tuple) -> None:
    ours = MultiheadAttention(12, 3, dropout=0.9)
    x = torch.randn(1, 5, 12)
    assert not torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])
    ours.eval()
    assert torch.equal(ours(x, x, x)[0], ours(x, x, x)[0])
