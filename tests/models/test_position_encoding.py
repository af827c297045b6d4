"""Position encodings against values of the original DETR."""

from argparse import Namespace

import pytest
import torch

from models.position_encoding import PositionEmbeddingLearned, PositionEmbeddingSine, build_position_encoding
from util.nested_tensor import NestedTensor


def features(h: int = 5, w: int = 7) -> NestedTensor:
    return NestedTensor(torch.zeros(1, 8, h, w), torch.zeros(1, h, w, dtype=torch.bool))


def test_sine_equals_the_original() -> None:
    batch = features()
    batch.mask[:, -1] = True
    batch.mask[:, :, -2:] = True
    encoding = PositionEmbeddingSine(128, normalize=True)(batch)[0]
    assert encoding.shape == (256, 5, 7)
    torch.testing.assert_close(encoding.sum().item(), 4324.6865, rtol=1e-6, atol=0)
    golden = [encoding[2, 0, 0], encoding[128, 0, 0], encoding[0, 4, 6]]
    torch.testing.assert_close(torch.stack(golden), torch.tensor([0.9779176, 0.9510565, 0.0]), rtol=1e-6, atol=3e-7)


def test_padding_does_not_move_the_encoding_of_an_image() -> None:
    alone, padded = features(4, 4), features(6, 9)
    padded.mask[:, 4:] = True
    padded.mask[:, :, 4:] = True
    encode = PositionEmbeddingSine(16, normalize=True)
    torch.testing.assert_close(encode(padded)[..., :4, :4], encode(alone))


def test_learned_puts_columns_first_and_ignores_the_mask() -> None:
    encode = PositionEmbeddingLearned(3)
    encoding = encode(features(2, 4))
    assert encoding.shape == (1, 6, 2, 4)
    torch.testing.assert_close(
        encoding[0, :, 1, 2], torch.cat([encode.col_embed.weight[2], encode.row_embed.weight[1]])
    )


def test_learned_refuses_a_map_of_more_than_50_cells() -> None:
    with pytest.raises(ValueError, match="--image_size"):
        PositionEmbeddingLearned(3)(features(2, 51))


@pytest.mark.parametrize(
    ("kind", "cls"),
    [
        ("sine", PositionEmbeddingSine),
        ("v2", PositionEmbeddingSine),
        ("learned", PositionEmbeddingLearned),
        ("v3", PositionEmbeddingLearned),
    ],
)
def test_kinds(kind: str, cls: type) -> None:
    assert isinstance(build_position_encoding(Namespace(position_embedding=kind, hidden_dim=32)), cls)


def test_unknown_kind_and_useless_scale_are_refused() -> None:
    with pytest.raises(ValueError, match="sine or learned"):
        build_position_encoding(Namespace(position_embedding="cosine", hidden_dim=32))
    with pytest.raises(ValueError, match="normalize"):
        PositionEmbeddingSine(8, scale=1.0)
