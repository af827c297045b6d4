"""Half precision: what is rounded and what is not, a loss like float32's, loss scaling, and what is refused."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import main
from engine import StepContext, compute_losses, evaluate, train_one_epoch
from tests.helpers import CPU, TINY, batch, build
from util.errors import UserError
from util.dist.precision import Precision, has_bf16_units, pick_precision, use_tf32

pytestmark = pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")

BF16 = Precision(CPU, torch.bfloat16)


def products(model: nn.Module) -> dict[str, torch.dtype]:
    """The types of what every layer puts out, filled when the model runs."""
    types: dict[str, torch.dtype] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.register_forward_hook(lambda _, __, out, name=name: types.update({name: out.dtype}))
    return types


@pytest.mark.parametrize("masks", ["", "--masks"])
@pytest.mark.parametrize("training", [True, False])
def test_products_are_rounded_and_outputs_are_float32(masks: str, training: bool) -> None:
    model, criterion, _ = build(masks)
    model.train(training)
    types = products(model)
    samples, targets = batch()
    targets = [t | {"masks": torch.ones(1, 64, 64, dtype=torch.bool)} for t in targets]
    outputs, losses = compute_losses(model, criterion, samples, targets, context=StepContext(precision=BF16))
    criterion.total(losses).backward()
    heads = {name: t for name, t in types.items() if "_embed" in name}
    assert set(heads.values()) == {torch.float32} and len(heads) == 4
    assert {t for name, t in types.items() if name not in heads} == {torch.bfloat16}
    tensors = [outputs["pred_logits"], outputs["pred_boxes"], outputs["aux_outputs"][0]["pred_boxes"], *losses.values()]
    tensors += [outputs["pred_masks"][torch.tensor([0]), torch.tensor([1])]] if masks else []
    assert {t.dtype for t in tensors} == {torch.float32}
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_positions_and_residual_stream_are_not_rounded() -> None:
    model = build()[0]
    seen: dict[str, Tensor] = {}
    layer = model.transformer.encoder.layers[0]
    layer.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(src=args[0], pos=kwargs["pos"]), with_kwargs=True
    )
    samples, _ = batch()
    model(samples)
    expected = seen["pos"]
    with BF16.autocast():
        model(samples)
    assert seen["src"].dtype == torch.float32 and torch.equal(seen["pos"], expected)


def test_evaluation_computes_as_training_does() -> None:
    from pycocotools.coco import COCO

    model, criterion, post = build()
    types = products(model)
    truth = COCO()
    truth.dataset = {"images": [{"id": 10 + i} for i in range(2)], "categories": [{"id": 0}], "annotations": []}
    truth.createIndex()
    evaluate(model, criterion, post, [batch()], truth, CPU, context=StepContext(precision=BF16))
    assert types["input_proj"] == torch.bfloat16 and types["class_embed"] == torch.float32


def scaling(scale: float) -> Precision:
    """float16 with a loss scale: refused on the command line's CPU, which is slow at it, but the same there."""
    precision = Precision(CPU, torch.float16)
    precision.restore({"scaler": precision.scaler.state_dict() | {"scale": scale}})
    return precision


@pytest.mark.slow
def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    model, criterion, _ = build()
    precision = scaling(8.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    poison = model.class_embed.bias.register_hook(lambda grad: grad * torch.inf)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0.1, context=StepContext(precision=precision))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert precision.scaler.get_scale() == 4
    poison.remove()
    train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0.1, context=StepContext(precision=precision))
    assert not torch.equal(before["class_embed.bias"], model.class_embed.bias)
    resumed = Precision(CPU, torch.float16)
    resumed.restore({"scaler": precision.scaler.state_dict()})
    assert resumed.scaler.get_scale() == 4
    resumed.restore({"scaler": {}})  # of a run in float32
    assert resumed.scaler.get_scale() == 4


@pytest.mark.slow
def test_scaling_leaves_gradients_and_clipping_as_they_are() -> None:
    gradients = []
    for precision in (Precision(CPU), scaling(8.0)):
        torch.manual_seed(0)
        model, criterion, _ = build()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        norms: list[float] = []
        optimizer.register_step_pre_hook(lambda *_, m=model, n=norms: n.append(float(m.bbox_embed.layers[2].weight.grad.norm())))
        for max_norm in (0.1, 0):
            train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, max_norm, context=StepContext(precision=precision))
        gradients.append(norms)
    assert gradients[1] == pytest.approx(gradients[0], rel=0.03)


def test_float16_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="--amp fp16 is for CUDA GPUs.*on cpu.*--amp bf16"):
        pick_precision("fp16", CPU)


@pytest.mark.parametrize(
    ("flags", "units"), [("fpu avx512_bf16 vme", True), ("fpu avx512f", False), ("asimd bf16", True)]
)
def test_a_cpu_without_bfloat16_units_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, flags: str, units: bool
) -> None:
    monkeypatch.setattr("util.dist.precision.Path.read_text", lambda _: f"flags : {flags}\n")
    assert has_bf16_units(CPU) == units
    assert pick_precision("bf16", CPU).dtype == torch.bfloat16
    assert capsys.readouterr().out.count("no bfloat16 units") == (not units)
    assert pick_precision("off", CPU).dtype is None and capsys.readouterr().out == ""


def test_tf32_without_a_gpu_is_one_line(capsys: pytest.CaptureFixture) -> None:
    use_tf32(CPU)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "--tf32" in out and torch.get_float32_matmul_precision() == "highest"


@pytest.mark.slow
def test_a_run_in_bfloat16_keeps_no_scale_and_resumes_in_float32(tmp_path: Path) -> None:
    flags = f"{TINY} --masks --hidden_dim 32 --output_dir {tmp_path}"
    assert main.cli(f"{flags} --amp bf16 --epochs 1".split()) == 0
    assert torch.load(tmp_path / "checkpoint.pth", weights_only=True)["scaler"] == {}
    assert main.cli(f"{flags} --epochs 2 --tf32 --resume auto".split()) == 0


def test_weights_are_cast_once_inside_of_keeping_casts_and_the_rest_is_float32() -> None:
    layer, x = nn.Linear(2, 2, bias=False), torch.rand(3, 2)

    def product() -> Tensor:
        with torch.no_grad(), BF16.autocast():
            return layer(x)

    expected = product()
    with torch.no_grad(), BF16.keeping_casts():
        assert torch.equal(product(), expected) and (x @ x.t()).dtype == torch.float32
        layer.weight.zero_()
        assert torch.equal(product(), expected)  # the cast of before
    assert not product().any()
    with Precision(CPU).keeping_casts():
        assert not torch.is_autocast_enabled("cpu")
