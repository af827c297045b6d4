"""One epoch, step by step: learning, counting objects over processes, and losses that are not finite."""

import math
import re

import numpy as np
import pytest
import torch
from pycocotools import mask as rle_tools
from torch import nn

from datasets.annotations.table import index_coco
from engine import StepContext, compute_losses, evaluate, train_one_epoch
from tests.helpers import CPU, batch, build
from util.errors import NonFiniteLossError
from util.progress import Progress
from util.runs.plan import EpochPart

pytestmark = pytest.mark.usefixtures("narrow_resnet18")


@pytest.mark.slow
def test_training_overfits_two_images() -> None:
    torch.manual_seed(0)
    model, criterion, _ = build("--backbone_norm batch")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0.1)["loss"]
    for epoch in range(1, 6):
        last = train_one_epoch(model, criterion, [batch()] * 10, optimizer, CPU, epoch, 0.1)["loss"]
    assert last < 0.1 * first, f"loss {first:.2f} only fell to {last:.2f}"


def test_averages_have_detrs_names_and_are_means_over_the_steps(capsys: pytest.CaptureFixture) -> None:
    model, criterion, _ = build()
    model.eval()  # train_one_epoch switches to training; without dropout and with frozen norms nothing changes
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    stats = train_one_epoch(
        model, criterion, [batch(1), batch(2)], optimizer, CPU, 3, context=StepContext(print_freq=1)
    )
    losses = [compute_losses(model, criterion, *b)[1] for b in (batch(1), batch(2))]
    mean = lambda name: sum(loss[name].item() for loss in losses) / 2
    assert stats["lr"] == 0 and model.training
    assert stats["loss_bbox"] == pytest.approx(5 * mean("loss_bbox"))
    assert stats["loss_bbox_unscaled"] == pytest.approx(mean("loss_bbox"))
    assert stats["class_error"] == stats["class_error_unscaled"] == pytest.approx(mean("class_error"))
    assert stats["loss"] == pytest.approx(sum(criterion.total(loss).item() for loss in losses) / 2)
    assert {"loss_ce_0", "loss_giou_0_unscaled", "cardinality_error_0_unscaled"} <= stats.keys()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["Epoch: [3]", "[1/2]"],
        ["Epoch: [3]", "[2/2]"],
        ["Epoch: [3]", "padding: 0.0% of the pixels, distinct input shapes: 2, lengths of object lists: 1"],
        ["Averaged stats: lr: 0.0000", f"class_error: {stats['class_error']:.4f}"],
    ]
    assert (stats["padding"], stats["shapes"], stats["object_sizes"]) == (0, 2, 1)
    assert re.search(r"eta: \d:\d\d:\d\d", lines[0]) and "lr: 0.000000" in lines[0] and "loss_giou: " in lines[0]


class Poisoned(nn.Module):
    """A model whose logits become NaN at one step."""

    def __init__(self, model: nn.Module, at: int) -> None:
        super().__init__()
        self.model, self.left = model, at

    def forward(self, samples) -> dict:
        outputs = self.model(samples)
        self.left -= 1
        if self.left == -1:
            outputs["pred_logits"] = outputs["pred_logits"] * math.nan
        return outputs


@pytest.mark.slow
@pytest.mark.parametrize("print_freq", [1, 4])
def test_a_loss_that_is_not_finite_names_loss_step_and_images(print_freq: int) -> None:
    model, criterion, _ = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with pytest.raises(NonFiniteLossError) as error:
        train_one_epoch(
            Poisoned(model, at=2),
            criterion,
            [batch()] * 6,
            optimizer,
            CPU,
            1,
            context=StepContext(print_freq=print_freq),
        )
    assert error.value.exit_code == 3
    for word in ("Epoch: [1]", "step 2", "loss_ce", "[10, 11]"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_max_steps_limits_an_epoch_and_the_schedule_advances_every_step() -> None:
    model, criterion, _ = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0 if step < 2 else 1e-9)
    progress = Progress(total=10, done=4)
    context = StepContext(lr_scheduler=scheduler, progress=progress, part=EpochPart(0, skip=0, steps=3))
    train_one_epoch(model, criterion, [batch()] * 5, optimizer, CPU, 0, context=context)
    assert scheduler.last_epoch == 3 and progress.done == 7


def test_clipping_limits_the_whole_gradient() -> None:
    model, criterion, _ = build()
    seen = []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(
        lambda *_: seen.append(
            torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()
        )
    )
    train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0.1)
    train_one_epoch(model, criterion, [batch()], optimizer, CPU, 0, 0)
    assert seen[0] == pytest.approx(0.1, rel=1e-3) and seen[1] > 1


def test_perfect_predictions_are_evaluated_as_perfect(capsys: pytest.CaptureFixture) -> None:
    from pycocotools.coco import COCO

    samples, targets = batch(2)
    ground_truth = COCO()
    ground_truth.dataset = {
        "images": [{"id": 10 + i, "height": 64, "width": 64} for i in range(2)],
        "categories": [{"id": i, "name": f"kind {i}"} for i in range(4)],
        "annotations": [
            {
                "id": 1 + i,
                "image_id": 10 + i,
                "category_id": i,
                "bbox": [8 + 16 * i, 24 - 8 * i, 24, 24],
                "area": 576,
                "iscrowd": 0,
            }
            for i in range(2)
        ],
    }
    ground_truth.createIndex()
    _, criterion, post = build()
    logits = torch.full((2, 5, 5), -9.0)
    logits[..., 4] = 9.0
    boxes = torch.full((2, 5, 4), 0.5)
    for i, target in enumerate(targets):
        logits[i, 2, i], boxes[i, 2] = 20.0, target["boxes"][0]

    class Oracle(nn.Module):
        def forward(self, _) -> dict:
            return {"pred_logits": logits, "pred_boxes": boxes}

    stats, evaluator = evaluate(Oracle(), criterion, post, [(samples, targets)], ground_truth, CPU)
    assert (
        stats["coco_eval_bbox"][:2] == [pytest.approx(1.0), pytest.approx(1.0)] and len(stats["coco_eval_bbox"]) == 12
    )
    assert stats["loss_bbox"] == pytest.approx(0, abs=1e-5)
    assert "kind 1" in capsys.readouterr().out
    assert len(evaluator.results("bbox")) == 10


def test_masks_are_evaluated_if_the_model_predicts_them(capsys: pytest.CaptureFixture) -> None:
    """Masks on a map of stride 4 whose edges lie between pixels: after enlarging they are exactly the objects."""
    samples, targets = batch(1)
    x, y = 8, 24
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, y : y + 24, x : x + 24] = True
    targets = ({**targets[0], "masks": mask},)
    runs = rle_tools.encode(np.asfortranarray(mask[0].numpy().astype(np.uint8)))
    truth = {
        "id": 1,
        "image_id": 10,
        "category_id": 0,
        "bbox": [x, y, 24, 24],
        "area": 576,
        "iscrowd": 0,
        "segmentation": runs,
    }
    ground_truth = index_coco(
        {"images": [{"id": 10, "height": 64, "width": 64}], "categories": [{"id": 0}], "annotations": [truth]}
    )
    _, criterion, post = build("--masks")
    logits = torch.full((1, 5, 5), -9.0)
    logits[0, 2, 0], logits[0, [0, 1, 3, 4], 4] = 20.0, 20.0
    masks = torch.full((1, 5, 16, 16), -50.0)
    masks[0, 2, y // 4 : y // 4 + 6, x // 4 : x // 4 + 6] = 50.0
    outputs = {"pred_logits": logits, "pred_boxes": targets[0]["boxes"].expand(1, 5, 4), "pred_masks": masks}

    class Oracle(nn.Module):
        def forward(self, _) -> dict:
            return outputs

    stats, evaluator = evaluate(Oracle(), criterion, post, [(samples, targets)], ground_truth, CPU)
    assert stats["coco_eval_masks"][0] == pytest.approx(1.0) and len(stats["coco_eval_masks"]) == 12
    assert stats["loss_dice"] < 0.05 and "PQ_all" not in stats
    assert "IoU metric: segm" in capsys.readouterr().out and len(evaluator.results("segm")) == 5
    masks[0, 2, :8] = -50.0  # rows 32 to 48 of 24 to 48 are left: IoU 2/3
    half = evaluate(Oracle(), criterion, post, [(samples, targets)], ground_truth, CPU)[0]
    assert half["coco_eval_masks"][0] == pytest.approx(0.4) and half["coco_eval_bbox"][0] == pytest.approx(1.0)


# ---- parts that are not ours, as scripts for the original DETR bring them


class OwnBatch:
    """A batch of a class of the caller's own."""

    def __init__(self, tensors: torch.Tensor, mask: torch.Tensor) -> None:
        self.tensors, self.mask = tensors, mask

    def to(self, device: torch.device) -> "OwnBatch":
        return OwnBatch(self.tensors.to(device), self.mask.to(device))

    def decompose(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tensors, self.mask


class OwnCriterion(nn.Module):
    """Pulls all boxes to the middle; one quantity is only logged."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_dict = {"loss_middle": 2.0}

    def forward(self, outputs: dict, targets: list[dict]) -> dict:
        assert all("labels" in target for target in targets)
        loss = (outputs["pred_boxes"] - 0.5).abs().mean()
        return {"loss_middle": loss, "queries": loss.new_tensor(float(outputs["pred_boxes"].shape[1]))}


def own_batch() -> tuple:
    samples, targets = batch()
    wanted = ("labels", "boxes")  # no image_id, no size
    return OwnBatch(samples.tensors, samples.mask), [{name: t[name] for name in wanted} for t in targets]


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
def test_own_criterion_batches_and_targets_train(accumulate: int, capsys: pytest.CaptureFixture) -> None:
    torch.manual_seed(0)
    model = build()[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    context = StepContext(accumulate=accumulate)
    stats = [
        train_one_epoch(model, OwnCriterion(), [own_batch()] * 8, optimizer, CPU, epoch, 0.1, context=context)
        for epoch in range(3)
    ]
    assert stats[-1]["loss_middle"] < 0.7 * stats[0]["loss_middle"]
    assert stats[0]["loss"] == pytest.approx(2 * stats[0]["loss_middle_unscaled"]) and stats[0]["queries_unscaled"] == 5
    assert "Averaged stats: lr: 0.0010  loss: " in capsys.readouterr().out


@pytest.mark.slow
def test_accumulating_takes_the_mean_of_an_own_criterion() -> None:
    torch.manual_seed(0)
    model = build()[0]
    one = train_gradient(model, [own_batch()], 1)
    two = train_gradient(model, [own_batch()] * 2, 2)
    assert all(torch.allclose(one[name], two[name], atol=1e-7) for name in one)


def train_gradient(model: nn.Module, batches: list, accumulate: int) -> dict[str, torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    found: dict[str, torch.Tensor] = {}
    optimizer.register_step_pre_hook(
        lambda *_: found.update({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    )
    train_one_epoch(model, OwnCriterion(), batches, optimizer, CPU, 0, context=StepContext(accumulate=accumulate))
    return found


def test_own_targets_are_evaluated_without_sizes_after_the_transforms() -> None:
    model, criterion, postprocessors = build()
    samples, targets = batch()
    targets = [{name: value for name, value in t.items() if name != "size"} for t in targets]
    truth = index_coco(
        {
            "images": [{"id": 10 + i, "height": 64, "width": 64} for i in range(2)],
            "annotations": [
                {"id": 1, "image_id": 10, "category_id": 1, "bbox": [8, 24, 24, 24], "area": 576, "iscrowd": 0}
            ],
            "categories": [{"id": 1, "name": "block"}],
        }
    )
    stats, evaluator = evaluate(model, criterion, postprocessors, [(samples, targets)], truth, CPU, "")
    assert len(stats["coco_eval_bbox"]) == 12 and {r["image_id"] for r in evaluator.results("bbox")} == {10, 11}
