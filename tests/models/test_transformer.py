"""The transformer against closed-form weights and values of the original, and its indifference to padding."""

import pytest
import torch

from models.position_encoding import PositionEmbeddingSine
from models.transformer import Transformer
from util.nested_tensor import NestedTensor

SIZES = dict(d_model=16, nhead=4, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=32, dropout=0.0)


def small_transformer(**flags) -> Transformer:
    model = Transformer(**SIZES, return_intermediate_dec=True, **flags)
    with torch.no_grad():
        for i, (name, parameter) in enumerate(model.named_parameters()):
            values = 0.2 * torch.sin(0.7 * torch.arange(parameter.numel(), dtype=torch.float64) + i)
            is_norm_weight = "norm" in name and name.endswith("weight")
            parameter.copy_((values + is_norm_weight).reshape(parameter.shape))
    return model.eval()


def inputs() -> tuple[torch.Tensor, ...]:
    src = torch.sin(0.3 * torch.arange(384, dtype=torch.float64)).view(2, 16, 3, 4).float()
    mask = torch.zeros(2, 3, 4, dtype=torch.bool)
    mask[1, 2] = True
    mask[1, :, 3] = True
    query = torch.cos(0.2 * torch.arange(80, dtype=torch.float64)).view(5, 16).float()
    return src, mask, query, PositionEmbeddingSine(8, normalize=True)(NestedTensor(src, mask))


@pytest.mark.parametrize(
    ("pre_norm", "golden"),
    [
        (False, (-4.61571, 267.21848, 5.75322, 317.42093, -0.57203)),
        (True, (15.28986, 270.00024, 0.22125, 341.37115, -0.38049)),
    ],
)
def test_equals_the_original(pre_norm: bool, golden: tuple[float, ...]) -> None:
    hs, memory = small_transformer(normalize_before=pre_norm)(*inputs())
    assert hs.shape == (2, 2, 5, 16) and memory.shape == (2, 16, 3, 4)
    got = [hs.sum(), hs.abs().sum(), memory.sum(), memory.abs().sum(), hs[0, 0, 0, 0]]
    torch.testing.assert_close(torch.stack(got), torch.tensor(golden), rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_what_lies_under_the_padding_never_matters(pre_norm: bool) -> None:
    model = small_transformer(normalize_before=pre_norm)
    src, mask, query, pos = inputs()
    hs, memory = model(src, mask, query, pos)
    noise = torch.where(mask[:, None], 100 * torch.randn_like(src), src)
    noisy_hs, noisy_memory = model(noise, mask, query, pos)
    torch.testing.assert_close(noisy_hs, hs, rtol=1e-5, atol=1e-5)
    visible = ~mask[:, None].expand_as(memory)
    torch.testing.assert_close(noisy_memory[visible], memory[visible], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(model(noise, torch.zeros_like(mask), query, pos)[0], hs, atol=1e-3)


def test_a_mask_that_hides_nothing_is_left_out_in_inference_with_equal_results() -> None:
    model, given = small_transformer(), []
    model.encoder.layers[0].register_forward_pre_hook(
        lambda _m, _i, named: given.append(named["src_key_padding_mask"]), with_kwargs=True
    )
    src, mask, query, pos = inputs()
    expected = model(src, torch.zeros_like(mask), query, pos)
    with torch.no_grad():
        found = model(src, torch.zeros_like(mask), query, pos)
        model(src, mask, query, pos)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])
    assert given[1] is None and given[0] is not None and torch.equal(given[2], mask.flatten(1))


def test_one_output_without_intermediate_layers_is_the_last() -> None:
    model = small_transformer()
    every = model(*inputs())[0]
    model.decoder.return_intermediate = False
    torch.testing.assert_close(model(*inputs())[0], every[-1:])


def test_parameters_are_in_the_originals_order() -> None:
    """A checkpoint's optimizer state goes by the order of the parameters."""
    names = [n for n, _ in small_transformer().decoder.layers[0].named_parameters()]
    attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
    parts = ("linear1", "linear2", "norm1", "norm2", "norm3")
    expected = [f"{a}.{n}" for a in ("self_attn", "multihead_attn") for n in attention]
    assert names == expected + [f"{p}.{n}" for p in parts for n in ("weight", "bias")]


@pytest.mark.parametrize("activation", ["gelu", "glu"])
def test_other_activations_run(activation: str) -> None:
    hs, _ = Transformer(**SIZES, activation=activation)(*inputs())
    assert hs.shape == (1, 2, 5, 16) and hs.isfinite().all()
