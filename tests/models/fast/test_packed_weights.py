"""Packed weights of linear layers: the same numbers, kept once, and never those of a weight that has changed."""

import copy
import gc
import io

import pytest
import torch
from torch import Tensor, nn

from flags import get_args_parser
from models import build_model
from models.fast import packed_weights, products
from models.fast.products import run_linear
from models.layers import TransformerDecoderLayer, TransformerEncoderLayer
from util.flags import FlagParser

BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


@pytest.fixture(autouse=True)
def packs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of weights that were packed, on a processor that packs whatever their size."""
    found = []
    packed_weight = products.packed_weight

    def counted(weight: Tensor, owner: nn.Parameter, dtype: torch.dtype, *, rows: int) -> Tensor:
        before = packed_weights._kept.get(owner)
        result = packed_weight(weight, owner, dtype, rows=rows)
        after = packed_weights._kept[owner]
        # Another record, or one weight more in it.
        if before is not after or len(after.weights) != counted.sizes[id(after)]:
            found.append(tuple(weight.shape))
        counted.sizes[id(after)] = len(after.weights)
        return result

    counted.sizes = {}
    monkeypatch.setattr(products, "packed_weight", counted)
    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "LEAST_PACKED", 0)
    return found


def layer_and_input() -> tuple[nn.Linear, Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(24, 40)
    return layer, torch.randn(3, 50, 24, generator=generator)


@torch.no_grad()
def expected(layer: nn.Linear, x: Tensor) -> Tensor:
    return x @ layer.weight.t() + layer.bias


@pytest.mark.parametrize("relu", [False, True])
@torch.no_grad()
def test_numbers_are_those_of_the_layer_and_the_weight_is_packed_once(packs: list, relu: bool) -> None:
    layer, x = layer_and_input()
    truth = expected(layer, x).relu() if relu else expected(layer, x)
    for rows in (3, 1, 2):  # packed for the first, right for all
        torch.testing.assert_close(run_linear(layer, x[:rows], relu=relu), truth[:rows], atol=1e-5, rtol=1e-5)
    assert packs == [(40, 24)]


@pytest.mark.skipif(not BF16, reason="oneDNN multiplies no bfloat16 on this processor")
@torch.no_grad()
def test_under_autocast_weight_and_input_are_cast(packs: list) -> None:
    layer, x = layer_and_input()
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            out, theirs = run_linear(layer, given), layer(given)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, theirs, atol=0.02, rtol=0.02)
    assert packs == [(40, 24)]
    run_linear(layer, x)
    assert packs == [(40, 24)] * 2, "another type is another weight"


@pytest.mark.skipif(not BF16, reason="oneDNN multiplies no bfloat16 on this processor")
@torch.no_grad()
def test_types_that_differ_stay_an_error() -> None:
    layer, x = layer_and_input()
    with pytest.raises(RuntimeError, match="dtype"):
        run_linear(layer, x.bfloat16())


@torch.no_grad()
def test_double_precision_stays_double_under_autocast(packs: list) -> None:
    layer, x = layer_and_input()
    layer, x = layer.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(run_linear(layer, x), layer(x), rtol=0, atol=0)
    assert packs == []


def step(layer: nn.Linear) -> None:
    layer.weight.grad = torch.ones_like(layer.weight)
    torch.optim.SGD(layer.parameters(), lr=1.0).step()


CHANGES = {
    "optimizer": step,
    "in place": lambda layer: layer.weight.add_(1),
    "loaded": lambda layer: layer.load_state_dict({k: v + 1 for k, v in layer.state_dict().items()}),
    "data": lambda layer: setattr(layer.weight, "data", layer.weight.data + 1),
    "half and back": lambda layer: layer.half().float(),
    "another parameter": lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight + 1)),
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_a_changed_weight_is_packed_anew(packs: list, change: str) -> None:
    layer, x = layer_and_input()
    before = run_linear(layer, x)
    CHANGES[change](layer)
    after = run_linear(layer, x)
    assert not torch.equal(before, after) and packs == [(40, 24)] * 2
    torch.testing.assert_close(after, expected(layer, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cls", [TransformerEncoderLayer, TransformerDecoderLayer])
@torch.no_grad()
def test_a_switch_of_mode_sees_changes_through_data(cls: type[nn.Module]) -> None:
    """Averages of weights are often written in this way, which PyTorch does not count."""
    layer = cls(8, 2, 16, batch_first=True).eval()
    inputs = [torch.randn(2, 5, 8) for _ in range(1 + (cls is TransformerDecoderLayer))]
    layer(*inputs)
    for parameter in layer.parameters():
        parameter.data.mul_(1.5)
    torch.testing.assert_close(layer.eval()(*inputs), copy.deepcopy(layer)(*inputs))


@torch.no_grad()
@pytest.mark.parametrize("flags", ["", "--queries dab", "--queries encoder --focal"])
def test_a_models_switch_of_mode_sees_them_in_its_heads_too(packs: list, flags: str) -> None:
    tiny = "--backbone resnet18 --backbone_weights none --hidden_dim 32 --nheads 2 --enc_layers 1 --dec_layers 1"
    tiny += f" --dim_feedforward 32 --num_queries 5 --num_classes 3 --device cpu {flags}"
    model = build_model(FlagParser(parents=[get_args_parser()]).parse_args(tiny.split()))[0].eval()
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    model(images)
    for parameter in model.parameters():
        parameter.data.mul_(1.5)
    found, expected = model.eval()(images), copy.deepcopy(model)(images)
    for name in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(found[name], expected[name])


@torch.no_grad()
def test_layers_with_packed_weights_are_copied_and_saved(packs: list) -> None:
    layer, x = TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), torch.randn(2, 5, 8)
    out = layer(x)
    # Queries and keys, values, the output, and the feed-forward network.
    assert sorted(packs) == sorted([(16, 8), (8, 8), (8, 8), (16, 8), (8, 16)])
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (copy.deepcopy(layer), torch.load(file, weights_only=False)):
        assert torch.equal(other(x), out)


@torch.no_grad()
def test_what_is_packed_goes_with_its_parameter() -> None:
    layer, x = layer_and_input()
    gc.collect()
    before = len(packed_weights._kept)
    run_linear(layer, x)
    assert len(packed_weights._kept) == before + 1
    del layer
    gc.collect()
    assert len(packed_weights._kept) == before


def test_with_gradients_nothing_is_packed(packs: list) -> None:
    layer, x = layer_and_input()
    run_linear(layer, x).sum().backward()
    assert packs == [] and layer.weight.grad is not None


@torch.no_grad()
def test_other_processors_and_hooked_layers_pack_nothing(packs: list, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_and_input()
    handle = layer.register_forward_hook(lambda module, inputs, out: out + 1)
    torch.testing.assert_close(run_linear(layer, x, relu=True), (expected(layer, x) + 1).relu(), atol=1e-5, rtol=1e-5)
    handle.remove()
    monkeypatch.setattr(products, "mkl_is_slow", lambda: False)
    torch.testing.assert_close(run_linear(layer, x, relu=True), expected(layer, x).relu(), atol=1e-5, rtol=1e-5)
    assert packs == []


@torch.no_grad()
def test_a_computed_weight_is_not_packed(packs: list) -> None:
    layer, x = layer_and_input()
    nn.utils.parametrizations.weight_norm(layer)
    torch.testing.assert_close(run_linear(layer, x), expected(layer, x), atol=1e-5, rtol=1e-5)
    assert packs == []


def test_inference_mode_packs_what_counts_its_changes(packs: list) -> None:
    layer, x = layer_and_input()
    with torch.inference_mode():
        torch.testing.assert_close(run_linear(layer, x), expected(layer, x), atol=1e-5, rtol=1e-5)
        made_inside = nn.Linear(24, 40)
        run_linear(made_inside, x)
        made_inside.weight.add_(1)
        torch.testing.assert_close(run_linear(made_inside, x), expected(made_inside, x), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(run_linear(layer, x), expected(layer, x), atol=1e-5, rtol=1e-5)
    assert packs == [(40, 24)]
