"""One epoch of training and one pass of evaluation: forward, loss, backward, optimizer step."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor, nn

from datasets.coco_eval import CocoEvaluator
from util.atomic import atomic_file
from util.batch_shapes import BatchShapes, describe_shapes
from util.distributed import is_main_process, reduce_mean
from util.metrics import Progress, StepLog
from util.nested_tensor import NestedTensor
from util.profiling import annotate, process_range
from util.targets import object_count

Targets = Sequence[dict[str, Any]]


def compute_losses(
    model: nn.Module, criterion: nn.Module, samples: NestedTensor, targets: Targets
) -> tuple[dict, dict]:
    """Forward and loss of a batch: the model's outputs and the criterion's scalars.

    Box losses are divided by the mean number of objects over all processes (at least 1), so that averaging the
    gradients of the processes weighs every object of the whole batch alike.
    """
    with annotate("forward"):
        outputs = model(samples)
    with annotate("loss"):
        objects = sum(map(object_count, targets))
        num_boxes = reduce_mean(outputs["pred_boxes"].new_tensor(float(objects))).clamp(min=1)
        losses = criterion(outputs, targets, num_boxes=num_boxes)
    return outputs, losses


def train_one_epoch(
    model: nn.Module,
    criterion: nn.Module,
    data_loader: Iterable,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    epoch: int,
    max_norm: float = 0,
    *,
    lr_scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    steps: int | None = None,
    print_freq: int = 10,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Train on the loader's batches (or its first `steps`) and return the means of the logged quantities.

    Beside them are `padding`, `shapes` and `object_sizes`, what `BatchShapes` counted.
    `max_norm` clips the norm of the whole gradient, 0 leaves it; the scheduler, if any, moves after every step.
    Raises NonFiniteLossError, naming the loss, the step and the pictures.
    """
    model.train()
    criterion.train()
    steps = len(data_loader) if steps is None else steps
    progress = progress or Progress(total=steps)
    log = StepLog(
        header=f"Epoch: [{epoch}]", weight_dict=criterion.weight_dict, print_freq=print_freq, progress=progress
    )
    shapes = BatchShapes()
    for samples, targets in log.each(data_loader, steps):
        with annotate("iteration"):
            image_ids = [int(t["image_id"]) for t in targets]  # before they leave the host
            shapes.add(samples, targets)
            samples, targets = to_device(samples, targets, device)
            _, losses = compute_losses(model, criterion, samples, targets)
            with process_range("backward"):
                criterion.total(losses).backward()
            with annotate("optimizer_step"):
                lr = optimizer.param_groups[0]["lr"]
                if max_norm > 0:
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                optimizer.step()
                optimizer.zero_grad()
                if lr_scheduler is not None:
                    lr_scheduler.step()
            log.add(losses, image_ids, lr=lr)
    summary = shapes.summary()
    progress.note(f"{log.header}  {describe_shapes(summary)}")
    return log.averages() | summary


@torch.no_grad()
def evaluate(
    model: nn.Module,
    criterion: nn.Module,
    postprocessors: dict[str, nn.Module],
    data_loader: Iterable,
    base_ds: COCO,
    device: torch.device,
    output_dir: str | Path = "",
    *,
    print_freq: int = 10,
) -> tuple[dict, CocoEvaluator]:
    """Losses and COCO's measures over a loader; all processes together, the table printed by rank 0.

    Returns the means of the logged quantities with `coco_eval_bbox`, COCO's 12 numbers, among them, and the evaluator,
    which holds every detection. With `output_dir`, `eval.pth` there keeps precision and recall per class and
    threshold, for plots.
    """
    model.eval()
    criterion.eval()
    evaluator = CocoEvaluator(base_ds, ("bbox",))
    steps = len(data_loader)
    progress = Progress(total=steps, label="test")
    log = StepLog(header="Test:", weight_dict=criterion.weight_dict, print_freq=print_freq, progress=progress)
    with annotate("evaluation"):
        for samples, targets in log.each(data_loader, steps):
            image_ids = [int(t["image_id"]) for t in targets]
            samples, targets = to_device(samples, targets, device)
            outputs, losses = compute_losses(model, criterion, samples, targets)
            log.add(losses, image_ids)
            sizes = torch.stack([t["orig_size"] for t in targets])
            evaluator.update(dict(zip(image_ids, postprocessors["bbox"](outputs, sizes))))
        progress.close()
        evaluator.synchronize_between_processes()
        evaluator.accumulate()
        evaluator.summarize()
    if output_dir and is_main_process():
        with atomic_file(Path(output_dir) / "eval.pth") as file:
            torch.save(evaluator.precision_recall("bbox"), file)
    return log.averages() | {"coco_eval_bbox": list(evaluator.stats("bbox").values())}, evaluator


def to_device(samples: NestedTensor, targets: Targets, device: torch.device) -> tuple[NestedTensor, Targets]:
    """Move a batch and normalise its pictures there; copies from pinned memory do not wait."""
    moved = [
        {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets
    ]
    return samples.to(device, non_blocking=True).normalized(), moved
