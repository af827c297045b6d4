"""`--bf16`: weights in bfloat16, outputs and losses in float32, and what it cannot be combined with."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers import assert_refused, batch, build
from training.whole_bf16 import compute_in_bfloat16

TINY = "--dataset_file shapes --image_size 64 --train_size 8 --val_size 2 --batch_size 2 --num_workers 0 --device cpu "
TINY += (
    "--backbone resnet18 --backbone_weights none --enc_layers 1 --dec_layers 1 --hidden_dim 32 --dim_feedforward 32 "
)
TINY += "--num_queries 8 --no_check --epochs 2"


def test_outputs_are_float32_and_near_those_of_the_model_before() -> None:
    model, criterion, _ = build()
    model.eval()
    samples, targets = batch()
    expected = model(samples)["pred_boxes"].detach()
    compute_in_bfloat16(model)
    body = [p.dtype for name, p in model.named_parameters() if "_embed" not in name or "query" in name]
    assert set(body) == {torch.bfloat16} and model.class_embed.weight.dtype == torch.float32
    outputs = model(samples)
    assert outputs["pred_boxes"].dtype == outputs["pred_logits"].dtype == torch.float32
    assert torch.allclose(outputs["pred_boxes"], expected, atol=0.05)
    assert all(loss.dtype == torch.float32 for name, loss in criterion(outputs, targets).items() if "loss" in name)


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_resnet18", "undrawn_curves")
def test_a_run_is_resumed_in_bfloat16_and_evaluated_in_float32(run: Callable, tmp_path: Path) -> None:
    code, _, err = run(f"{TINY} --bf16 --output_dir {tmp_path / 'whole'}")
    assert code == 0, err
    for epochs in (1, 2):
        code, _, err = run(f"{TINY} --bf16 --resume auto --output_dir {tmp_path / 'parts'} --epochs {epochs}")
        assert code == 0, err
    weights = [
        torch.load(tmp_path / name / "checkpoint.pth", weights_only=False)["model"] for name in ("whole", "parts")
    ]
    assert weights[0]["transformer.encoder.layers.0.linear1.weight"].dtype == torch.bfloat16
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    code, out, err = run(f"{TINY} --eval --resume {tmp_path / 'whole' / 'checkpoint.pth'}")
    assert code == 0 and "Average Precision" in out, err


@pytest.mark.parametrize("flag", ["--amp bf16", "--masks", "--ema 0.9", "--cross_attention sparsemax"])
def test_what_does_not_go_together_is_refused(run: Callable, flag: str) -> None:
    assert_refused(run(f"{TINY} --bf16 {flag}"), "--bf16", flag.split()[0])
