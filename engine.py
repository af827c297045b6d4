"""One epoch of training and one pass of evaluation: forward, loss, backward, optimizer step."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from pycocotools.coco import COCO
from torch import Tensor, nn

from datasets import unwrap
from datasets.coco_eval import CocoEvaluator
from datasets.panoptic_eval import PanopticEvaluator
from util.dist.distributed import is_main_process, reduce_mean
from util.dist.precision import Precision
from util.metrics import Progress, StepLog
from util.nested_tensor import NestedTensor, object_count
from util.profiling import Section, annotate
from util.profiling.batch_shapes import BatchShapes, describe_shapes
from util.profiling.phases import StepPhases
from util.runs.accumulate import Windows, add_losses, without_exchange
from util.runs.atomic import atomic_file

Targets = Sequence[dict[str, Any]]


def compute_losses(
    model: nn.Module,
    criterion: nn.Module,
    samples: NestedTensor,
    targets: Targets,
    phases: StepPhases | None = None,
    precision: Precision | None = None,
    whole: Targets | None = None,
) -> tuple[dict, dict]:
    """Forward, in `precision` (float32), and loss of a batch: the model's outputs and the criterion's scalars.

    Box losses are divided by the mean number of objects over all processes (at least 1), so that averaging the
    gradients of the processes weighs every object of the whole batch alike. Where these images are a part of a batch,
    `whole` are the targets of all of it, which its losses are divided by.
    """
    phases = phases or StepPhases()
    precision = precision or Precision(samples.tensors.device)
    with phases.phase(Section.FORWARD), precision.autocast():
        outputs = model(samples)
    with phases.phase(Section.LOSS):
        objects = sum(map(object_count, whole or targets))
        num_boxes = reduce_mean(outputs["pred_boxes"].new_tensor(float(objects))).clamp(min=1)
        class_weight = criterion.class_weight(whole, outputs["pred_logits"].shape[1]) if whole else None
        losses = criterion(outputs, targets, num_boxes=num_boxes, class_weight=class_weight)
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
    phases: StepPhases | None = None,
    precision: Precision | None = None,
    accumulate: int = 1,
) -> dict[str, float]:
    """Train on the loader's batches (or as many as its first `steps` take) and return the means of the logged quantities.

    Beside them are `padding`, `shapes` and `object_sizes`, what `BatchShapes` counted.
    `max_norm` clips the norm of the whole gradient, 0 leaves it; the scheduler, if any, moves after every step.
    `phases` tells profilers what happens; once it is `finished` no further step is made. `precision` is what the model
    computes in (float32). A step takes `accumulate` batches, and its gradient is that of one batch of all their images.
    Raises NonFiniteLossError, naming the loss, the step and the images.
    """
    model.train()
    criterion.train()
    windows = Windows(data_loader, accumulate)
    steps = len(windows) if steps is None else steps
    progress = progress or Progress(total=steps)
    precision = precision or Precision(device)
    log = StepLog(
        header=f"Epoch: [{epoch}]", weight_dict=criterion.weight_dict, print_freq=print_freq, progress=progress
    )
    shapes = BatchShapes()
    phases = phases or StepPhases()
    for window in log.each(phases.batches(windows), steps):
        with phases.step():
            image_ids = [int(t["image_id"]) for _, targets in window for t in targets]  # before they leave the host
            for batch in window:
                shapes.add(*batch)
            losses = add_gradients(model, criterion, window, device, phases, precision)
            with phases.phase(Section.OPTIMIZER_STEP):
                lr = optimizer.param_groups[0]["lr"]
                if max_norm > 0:
                    precision.scaler.unscale_(optimizer)
                    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                precision.scaler.step(optimizer)
                precision.scaler.update()
                optimizer.zero_grad()
                if lr_scheduler is not None:
                    lr_scheduler.step()
            log.add(losses, image_ids, lr=lr)
        if phases.finished:
            break
    summary = shapes.summary()
    progress.note(f"{log.header}  {describe_shapes(summary)}")
    return log.averages() | summary


def add_gradients(
    model: nn.Module,
    criterion: nn.Module,
    window: Sequence[tuple[NestedTensor, Targets]],
    device: torch.device,
    phases: StepPhases,
    precision: Precision,
) -> dict[str, Tensor]:
    """Forward, loss and backward of the batches of a step, one after the other; the losses of all of them together."""
    whole = [t for _, targets in window for t in targets] if len(window) > 1 else None
    sums: dict[str, Tensor] = {}
    for i, (samples, targets) in enumerate(window, start=1):
        samples, targets = to_device(samples, targets, device)
        with without_exchange(model, last=i == len(window)):
            _, losses = compute_losses(model, criterion, samples, targets, phases, precision, whole)
            with phases.phase(Section.BACKWARD):
                precision.scaler.scale(criterion.total(losses)).backward()
        sums = add_losses(sums, losses, criterion.weight_dict, len(window))
    return sums


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
    precision: Precision | None = None,
) -> tuple[dict, CocoEvaluator]:
    """Losses and COCO's measures over a loader; all processes together, the tables printed by rank 0.

    `precision` is what the model computes in (float32); its outputs are float32.
    Returns the means of the logged quantities, and among them `coco_eval_bbox`, COCO's 12 numbers; with a postprocessor
    `segm` also `coco_eval_masks`, with `panoptic` `PQ_all`, `PQ_th` and `PQ_st`; and the evaluator, which
    holds every detection. With `output_dir`, `eval.pth` there keeps precision and recall per class and threshold, for
    plots, and `panoptic_eval` the panoptic images.
    """
    model.eval()
    criterion.eval()
    evaluator = CocoEvaluator(base_ds, [kind for kind in ("bbox", "segm") if kind in postprocessors])
    panoptic = _panoptic_evaluator(data_loader, output_dir) if "panoptic" in postprocessors else None
    steps = len(data_loader)
    progress = Progress(total=steps, label="test")
    log = StepLog(header="Test:", weight_dict=criterion.weight_dict, print_freq=print_freq, progress=progress)
    with annotate("evaluation"):
        for samples, targets in log.each(data_loader, steps):
            image_ids = [int(t["image_id"]) for t in targets]
            originals, sizes = (torch.stack([t[name] for t in targets]) for name in ("orig_size", "size"))
            samples, targets = to_device(samples, targets, device)
            outputs, losses = compute_losses(model, criterion, samples, targets, precision=precision)
            log.add(losses, image_ids)
            results = postprocessors["bbox"](outputs, originals.to(device))
            if "segm" in postprocessors:
                results = postprocessors["segm"](results, outputs, originals, sizes)
            evaluator.update(dict(zip(image_ids, results)))
            if panoptic is not None:
                images = postprocessors["panoptic"](outputs, sizes, originals)
                panoptic.update(image | {"image_id": i} for i, image in zip(image_ids, images))
        progress.close()
        stats = log.averages() | _coco_stats(evaluator) | ({} if panoptic is None else _panoptic_stats(panoptic))
    if output_dir and is_main_process():
        with atomic_file(Path(output_dir) / "eval.pth") as file:
            torch.save(evaluator.precision_recall("bbox"), file)
    return stats, evaluator


def _coco_stats(evaluator: CocoEvaluator) -> dict[str, list[float]]:
    """Bring the processes' detections together, print the tables; COCO's 12 numbers under DETR's names."""
    evaluator.synchronize_between_processes()
    evaluator.accumulate()
    evaluator.summarize()
    names = {"bbox": "coco_eval_bbox", "segm": "coco_eval_masks"}
    return {names[kind]: list(evaluator.stats(kind).values()) for kind in evaluator.iou_types}


def _panoptic_evaluator(data_loader: Iterable, output_dir: str | Path) -> PanopticEvaluator:
    dataset = unwrap(data_loader.dataset)
    folder = Path(output_dir) / "panoptic_eval" if output_dir else None
    return PanopticEvaluator(dataset.ann_file, dataset.ann_folder, folder)


def _panoptic_stats(evaluator: PanopticEvaluator) -> dict[str, dict[str, float]]:
    """Bring the processes' panoptic images together, print the table; panoptic quality under DETR's names."""
    evaluator.synchronize_between_processes()
    quality = evaluator.summarize()
    return {"PQ_all": quality["All"], "PQ_th": quality["Things"], "PQ_st": quality["Stuff"]}


def to_device(samples: NestedTensor, targets: Targets, device: torch.device) -> tuple[NestedTensor, Targets]:
    """Move a batch and normalise its images there; copies from pinned memory do not wait."""
    moved = [
        {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets
    ]
    return samples.to(device, non_blocking=True).normalized(), moved
