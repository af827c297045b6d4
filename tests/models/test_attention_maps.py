"""Attention weights of every layer and head, as a model hands them out when it is asked."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from models.attention import AttentionMaps, MultiheadAttention
from tests.helpers import build
from util.nested_tensor import nested_tensor_from_tensor_list

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


def two_sizes() -> Any:
    """A batch whose second image covers 2 x 3 of the 3 x 4 cells."""
    generator = torch.Generator().manual_seed(0)
    return nested_tensor_from_tensor_list([torch.rand(3, *size, generator=generator) for size in ((96, 128), (64, 96))])


@pytest.mark.parametrize(
    "flags", ["", "--masks --no_aux_loss --dec_layers 3", "--enc_layers 0 --dilation --backbone resnet50"]
)
@torch.no_grad()
def test_numbers_stay_and_every_layer_gives_its_weights(flags: str) -> None:
    model = build(flags)[0].eval()
    plain, maps = model(two_sizes()), AttentionMaps()
    asked = model(two_sizes(), attention=maps)
    detr = getattr(model, "detr", model)
    for name in plain:
        if name != "aux_outputs":
            torch.testing.assert_close(asked[name], plain[name], rtol=0, atol=1e-5)
    assert len(asked["aux_outputs"]) == detr.transformer.decoder.num_layers - 1

    h, w = (6, 8) if "--dilation" in flags else (3, 4)
    assert maps.padding.shape == (2, h, w) and not maps.padding[0].any() and maps.padding[1].any()
    assert [x.shape for x in maps.encoder] == [(2, 4, h * w, h * w)] * detr.transformer.encoder.num_layers
    assert [x.shape for x in maps.decoder] == [(2, 4, 5, h * w)] * detr.transformer.decoder.num_layers
    for weights in (*maps.encoder, *maps.decoder):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert not weights.masked_select(maps.padding.flatten(1)[:, None, None]).any()


def test_weights_equal_torchs_head_by_head() -> None:
    ours, theirs = MultiheadAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    query, key, value = torch.randn(2, 4, 12), torch.randn(2, 6, 12), torch.randn(2, 6, 12)
    hooked: list[Tensor] = []
    ours.register_forward_hook(lambda _module, _inputs, output: hooked.append(output[1]))
    weights: list[Tensor] = []
    ours(query, key, value, attention=weights)
    torch.testing.assert_close(weights[0], theirs(query, key, value, average_attn_weights=False)[1])
    torch.testing.assert_close(hooked[0], weights[0].mean(1))  # a hook sees what it sees without the argument


@torch.no_grad()
def test_plain_runs_call_the_fused_kernel_and_no_softmax() -> None:
    model, images = build("--dec_layers 2")[0].eval(), torch.rand(1, 3, 64, 64)

    def calls(**asked: Any) -> dict[str, int]:
        with profile(activities=[ProfilerActivity.CPU]) as measured:
            model(images, **asked)
        return {row.key: row.count for row in measured.key_averages()}

    plain, asked = calls(), calls(attention=AttentionMaps())
    # Self-attention of one encoder and two decoder layers, and the latter's cross-attention.
    assert plain["aten::scaled_dot_product_attention"] == 5 and "aten::softmax" not in plain
    assert asked["aten::scaled_dot_product_attention"] == 2 and asked["aten::softmax"] == 3


def test_a_caller_chooses_what_is_kept() -> None:
    class HeadMeans(list):
        def append(self, weights: Tensor) -> None:
            super().append(weights.mean(1))

    maps = AttentionMaps(encoder=HeadMeans())
    build()[0].eval()(torch.rand(1, 3, 64, 64), attention=maps)
    assert maps.encoder[0].shape == (1, 4, 4) and maps.decoder[0].dim() == 4
    assert not maps.decoder[0].requires_grad
