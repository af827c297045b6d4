"""Stacks and layers by the original's arguments: sequences first, copies of a layer, masks, layers of somebody else."""

import copy

import pytest
import torch
from torch import Tensor, nn

from models.attention import AttentionMaps, MultiheadAttention
from models.fast.compiled import LayerCompiler
from models.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerDecoderLayer,
    TransformerEncoder,
    TransformerEncoderLayer,
)
from tests.helpers import batch, build

pytestmark = pytest.mark.usefixtures("narrow_resnet18")

CELLS, QUERIES, IMAGES, WIDTH = 6, 4, 2, 16


def padding() -> Tensor:
    """True on the last two cells of the second image, (B, S)."""
    mask = torch.zeros(IMAGES, CELLS, dtype=torch.bool)
    mask[1, 4:] = True
    return mask


def torchs(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """Torch's layer with the weights of ours, which have its names."""
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval()


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_an_encoder_layer_equals_torchs_and_takes_sequences_first(pre_norm: bool, activation: str) -> None:
    ours = TransformerEncoderLayer(WIDTH, 4, 32, 0.1, activation, pre_norm).eval()
    theirs = torchs(ours, nn.TransformerEncoderLayer(WIDTH, 4, 32, 0.1, activation, norm_first=pre_norm))
    src, mask = torch.randn(CELLS, IMAGES, WIDTH), torch.rand(CELLS, CELLS) > 0.7
    mask.fill_diagonal_(False)
    seen = ~padding().T  # torch's fast path writes zeros under padding
    got, expected = (layer(src, src_mask=mask, src_key_padding_mask=padding()) for layer in (ours, theirs))
    torch.testing.assert_close(got[seen], expected[seen])
    pos = torch.randn_like(src)
    assert not torch.allclose(ours(src, pos=pos), ours(src), atol=1e-3)
    assert torch.equal(ours.with_pos_embed(src, pos), src + pos) and ours.with_pos_embed(src, None) is src


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_decoder_layer_equals_torchs_and_takes_sequences_first(pre_norm: bool) -> None:
    ours = TransformerDecoderLayer(WIDTH, 4, 32, normalize_before=pre_norm).eval()
    theirs = torchs(ours, nn.TransformerDecoderLayer(WIDTH, 4, 32, norm_first=pre_norm))
    tgt, memory = torch.randn(QUERIES, IMAGES, WIDTH), torch.randn(CELLS, IMAGES, WIDTH)
    masks = {
        "tgt_mask": torch.ones(QUERIES, QUERIES).triu(1).bool(),
        "memory_mask": torch.rand(QUERIES, CELLS) > 0.8,
        "tgt_key_padding_mask": torch.tensor([[False] * 4, [False] * 3 + [True]]),
        "memory_key_padding_mask": padding(),
    }
    torch.testing.assert_close(
        ours(tgt, memory, **masks), theirs(tgt, memory, tgt_is_causal=False, memory_is_causal=False, **masks)
    )


@pytest.mark.parametrize("heads_differ", [False, True])
def test_numbers_in_a_mask_are_added_to_the_scores(heads_differ: bool) -> None:
    ours, theirs = MultiheadAttention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    query, key = torch.randn(2, 4, 12), torch.randn(2, 6, 12)
    mask = torch.randn(*([2 * 3] if heads_differ else []), 4, 6)
    for got, expected in zip(
        ours(query, key, key, None, True, mask), theirs(query, key, key, attn_mask=mask), strict=True
    ):
        torch.testing.assert_close(got, expected)


def test_positions_enter_queries_and_keys_never_values() -> None:
    layer = TransformerDecoderLayer(WIDTH, 4, 32, dropout=0.0)
    tgt, memory, pos = torch.randn(QUERIES, 1, WIDTH), torch.randn(CELLS, 1, WIDTH), torch.randn(CELLS, 1, WIDTH)
    query_pos = torch.randn_like(tgt)
    calls = []
    layer.multihead_attn.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    layer(tgt, memory, pos=pos, query_pos=query_pos)
    ((_, key, value, *_),) = calls
    torch.testing.assert_close(key, (memory + pos).transpose(0, 1))
    torch.testing.assert_close(value, memory.transpose(0, 1))


def test_stacks_copy_a_layer_and_know_their_number() -> None:
    encoder = TransformerEncoder(TransformerEncoderLayer(WIDTH, 4, 32), 3, nn.LayerNorm(WIDTH))
    decoder = TransformerDecoder(
        TransformerDecoderLayer(WIDTH, 4, 32), 2, nn.LayerNorm(WIDTH), return_intermediate=True
    )
    assert encoder.num_layers == len(encoder.layers) == 3 and decoder.num_layers == len(decoder.layers) == 2
    weights = [layer.linear1.weight for layer in encoder.layers]
    assert torch.equal(weights[0], weights[2]) and weights[0] is not weights[2]
    memory = encoder(torch.randn(CELLS, IMAGES, WIDTH), src_key_padding_mask=padding())
    assert memory.shape == (CELLS, IMAGES, WIDTH)
    assert decoder(torch.zeros(QUERIES, IMAGES, WIDTH), memory).shape == (2, QUERIES, IMAGES, WIDTH)


class Forked(TransformerDecoderLayer):
    """A fork's layer: the original's arguments and no others."""

    def forward(self, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                memory_key_padding_mask=None, pos=None, query_pos=None):  # fmt: skip
        assert tgt.shape[1] == memory.shape[1] == IMAGES
        return super().forward(
            tgt, memory, memory_key_padding_mask=memory_key_padding_mask, pos=pos, query_pos=query_pos
        )


def test_a_transformer_runs_stacks_that_take_sequences_first() -> None:
    """As when a fork puts stacks of its own in the place of ours: the same numbers with the same weights."""
    model = Transformer(WIDTH, 4, 2, 2, 32, return_intermediate_dec=True).eval()
    src, pos = torch.randn(IMAGES, WIDTH, 2, 3), torch.randn(IMAGES, WIDTH, 2, 3)
    inputs = (src, padding().view(IMAGES, 2, 3), torch.randn(QUERIES, WIDTH), pos)
    other = copy.deepcopy(model)
    other.encoder = TransformerEncoder(TransformerEncoderLayer(WIDTH, 4, 32), 2)
    other.decoder = TransformerDecoder(Forked(WIDTH, 4, 32), 2, nn.LayerNorm(WIDTH), return_intermediate=True)
    other.load_state_dict(model.state_dict())
    assert model.encoder.batch_first and not other.encoder.batch_first
    for got, expected in zip(other.eval()(*inputs), model(*inputs), strict=True):
        torch.testing.assert_close(got, expected)


def test_an_attention_has_the_names_and_arguments_of_torchs() -> None:
    attention = MultiheadAttention(12, 3)
    assert (attention.embed_dim, attention.num_heads, attention.head_dim) == (12, 3, 4)
    x = torch.randn(1, 5, 12)
    assert attention(x, x, x)[1] is None and attention(x, x, x, need_weights=True)[1].shape == (1, 5, 5)
    attention.need_weights = True
    assert attention(x, x, x)[1].shape == (1, 5, 5) and attention(x, x, x, need_weights=False)[1] is None


@pytest.mark.slow
@pytest.mark.parametrize("way", ["plain", "compiled", "half precision"])
def test_hooks_of_the_notebook_get_maps(way: str) -> None:
    """The fifteen lines that public notebooks share, also on compiled layers that ran before."""
    torch.compiler.reset()
    model = build()[0].eval()
    samples, _ = batch()
    if way == "compiled":
        LayerCompiler(model, backend="eager")
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=way == "half precision"):
        expected = model(samples)["pred_logits"]
        features, encoder_maps, decoder_maps = [], [], []
        hooks = [
            model.backbone[-2].register_forward_hook(lambda _, __, output: features.append(output)),
            model.transformer.encoder.layers[-1].self_attn.register_forward_hook(
                lambda _, __, output: encoder_maps.append(output[1])
            ),
            model.transformer.decoder.layers[-1].multihead_attn.register_forward_hook(
                lambda _, __, output: decoder_maps.append(output[1])
            ),
        ]
        outputs = model(samples)
    for hook in hooks:
        hook.remove()
    maps = AttentionMaps()
    with torch.no_grad():
        model(samples, attention=maps)
    torch.compiler.reset()
    height, width = features[0]["0"].tensors.shape[-2:]
    images, queries = outputs["pred_logits"].shape[:2]
    assert encoder_maps[0].shape == (images, height * width, height * width)
    assert decoder_maps[0].shape == (images, queries, height * width)
    tolerance = {"rtol": 0, "atol": 0.05 if way == "half precision" else 1e-4}
    torch.testing.assert_close(decoder_maps[0].sum(-1).float(), torch.ones(images, queries), **tolerance)
    torch.testing.assert_close(outputs["pred_logits"], expected, **tolerance)
    asked_for = [maps.encoder[-1].mean(1), maps.decoder[-1].mean(1)]
    torch.testing.assert_close([encoder_maps[0].float(), decoder_maps[0].float()], asked_for, **tolerance)
