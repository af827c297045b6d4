"""One epoch of training and one pass of evaluation: forward, loss, backward, optimizer step."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from pycocotools.coco import COCO
from torch import Tensor, nn

from datasets import unwrap
from datasets.coco_eval import CocoEvaluator
from datasets.evaluation import add_results, coco_stats, panoptic_evaluator, panoptic_stats
from datasets.panoptic_eval import PanopticEvaluator
from models.criterion import SetCriterion, weighted_sum
from util.batches import Batch, Loader, ids_of, to_device
from util.dist.accelerator import accelerator
from util.dist.distributed import reduce_mean
from util.metrics import StepLog
from util.nested_tensor import NestedTensor
from util.profiling import Section, annotate
from util.profiling.batch_shapes import BatchShapes, describe_shapes
from util.profiling.phases import StepPhases
from util.progress import Progress
from util.runs.accumulate import StepBatches, add_losses, without_exchange
from util.runs.memory import OF_EVALUATION, OF_TRAINING, naming_memory
from util.step_context import StepContext
from util.targets import Target, object_count


def train_one_epoch(
    model: nn.Module,
    criterion: nn.Module,
    data_loader: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    epoch: int,
    max_norm: float = 0,
    *,
    context: StepContext | None = None,
) -> dict[str, float]:
    """Train on the loader's batches and return the means of the logged quantities.

    Beside the losses these are `step_time` and its like (`StepLog.averages`), and `padding`, `shapes` and
    `object_sizes`, which `BatchShapes` counts.

    Args:
        model, criterion, data_loader, optimizer: DETR's, or any with their interface: a criterion needs `weight_dict`,
            a batch `to(device)`, and targets may lack `image_id`.
        max_norm: the norm of the whole gradient is clipped to this; 0 leaves it.

    Raises NonFiniteLossError, which names the loss, the step and the images.
    """
    context = context or StepContext()
    # Every epoch anew: the evaluation between two epochs has switched both to evaluation.
    model.train()
    criterion.train()
    part = context.part
    step_batches = StepBatches(data_loader, context.accumulate)
    steps = part.steps if part else len(step_batches)
    progress = context.progress or Progress(total=steps)
    log = _step_log(f"Epoch: [{epoch}]", criterion, context, progress)
    shapes, log.guard = BatchShapes(), context.guard
    context.watch(log, shapes)
    for batches in log.each(context.phases.batches(step_batches, epoch=epoch), steps, ended=context.ended):
        with context.phases.step(), naming_memory("a training step", batches, device=device, ways=OF_TRAINING):
            image_ids = [i for _, targets in batches for i in ids_of(targets)]  # before they leave the host
            for batch in batches:
                shapes.add(*batch)
            losses, rates, norm = _one_step(model, criterion, optimizer, batches, device, max_norm, context)
            log.add(losses, image_ids, rates=rates, grad_norm=norm)
        context.after_batch()
        # A profiler has all the steps that it wanted: the rest of the epoch would only take time.
        if context.phases.finished:
            break
    counts = shapes.summary()  # gathers from all processes: once
    progress.note(f"{log.header}  {describe_shapes(counts)}")
    progress.note(describe_averages(log.averages()))
    return log.averages() | counts


def _one_step(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    device: torch.device,
    max_norm: float,
    context: StepContext,
) -> tuple[dict[str, Tensor], list[float], Tensor | None]:
    """Make one step; return its losses, the learning rates that made it, and the gradient's norm (`optimizer_step`)."""
    if context.guard is not None:
        context.guard.before(batches)
    losses = add_gradients(model, criterion, batches, device, context)
    # Read before the step: the schedule moves inside it, and the log names the rates that made this step.
    rates = [group["lr"] for group in optimizer.param_groups]
    norm = optimizer_step(model, optimizer, max_norm, context, losses=losses)
    # On a device that collects operators and runs them later (XLA), here they run; elsewhere this does nothing.
    accelerator(device).mark_step()
    return losses, rates, norm


def add_gradients(
    model: nn.Module,
    criterion: nn.Module,
    batches: Sequence[Batch],
    device: torch.device,
    context: StepContext,
) -> dict[str, Tensor]:
    """Forward, loss and backward of the batches of a step, one after the other; return the losses of all together."""
    # None for a step of one batch: the criterion's own divisors are then those of the step.
    whole = [t for _, targets in batches for t in targets] if len(batches) > 1 else None
    sums: dict[str, Tensor] = {}
    for i, (samples, targets) in enumerate(batches, start=1):
        # (B, 3, H, W) bytes become floats there, after a copy of a quarter of the size.
        samples, targets = to_device(samples, targets, device)
        # Processes exchange gradients in the last batch's backward alone: the sum is the same, once instead of each
        # time.
        with without_exchange(model, last=i == len(batches)):
            _, losses = compute_losses(model, criterion, samples, targets, context=context, whole=whole)
            total = weighted_sum(losses, weights_of(criterion))
            # Our criterion divides by the objects of the whole step already; of any other the mean is taken.
            if whole is not None and not isinstance(criterion, SetCriterion):
                total = total / len(batches)
            with context.phases.phase(Section.BACKWARD):
                # float16 gradients below 6e-8 would be 0, so the loss is scaled up first; the factor is 1 otherwise.
                context.precision.scaler.scale(total).backward()
                accelerator(device).mark_step()
        sums = add_losses(sums, losses, weights_of(criterion), len(batches))
    return sums


def compute_losses(
    model: nn.Module,
    criterion: nn.Module,
    samples: NestedTensor,
    targets: Sequence[Target],
    *,
    context: StepContext | None = None,
    whole: Sequence[Target] | None = None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Run forward pass and loss of a batch; return the model's outputs and the criterion's scalars.

    The criterion divides box losses by the mean number of objects over all processes (at least 1), so that averaging
    the gradients of the processes weighs every object of the whole batch alike. Where these images are a part of a
    step, `whole` are the targets of all of it, which its losses are divided by.
    """
    context = context or StepContext()
    # Noised objects are queries (--denoising): their model is given the targets, in training alone.
    known = {"targets": targets} if model.training and getattr(criterion, "targets_to_model", False) else {}
    outputs = _forward(model, samples, context, **known)
    with context.phases.phase(Section.LOSS):
        # A criterion of somebody else's need not know the arguments below.
        if whole is None or not isinstance(criterion, SetCriterion):
            return outputs, criterion(outputs, targets)
        # A float on the device, because processes average it in a collective operation.
        objects = outputs["pred_boxes"].new_tensor(float(sum(map(object_count, whole))))
        losses = criterion(
            outputs,
            targets,
            # Of the whole step: a batch with few objects must not weigh as much as one with many.
            num_boxes=reduce_mean(objects).clamp(min=1),
            class_weight=criterion.class_weight(whole, outputs["pred_logits"].shape[1]),
        )
    return outputs, losses


def _forward(model: nn.Module, samples: NestedTensor, context: StepContext, **known: Any) -> dict[str, Any]:
    with context.phases.phase(Section.FORWARD), context.precision.autocast():
        return model(samples, **known)


def weights_of(criterion: nn.Module) -> dict[str, float]:
    """Return the weight of each loss, by name."""
    return cast(dict[str, float], criterion.weight_dict)


def optimizer_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    max_norm: float,
    context: StepContext,
    *,
    losses: dict[str, Tensor] | None = None,
) -> Tensor | None:
    """Clip the gradient, change the weights, move the schedule; a guard in the context judges the step by `losses`.

    Returns the norm of the gradient before it is clipped; None where it is not.
    """
    with context.phases.phase(Section.OPTIMIZER_STEP):
        context.before_step()
        scaler = context.precision.scaler  # without float16 it does nothing
        guard, losses = (context.guard if losses else None), losses or {}
        # With a scaled loss infinite gradients are the scaler's own business (it skips the step and lowers the scale),
        # so that the guard looks at the losses alone.
        if guard is not None and guard.scaled:
            guard.judge(losses, None)
        norm = None
        if max_norm > 0:
            # Before clipping: the norm to clip at is that of the true gradient, not of the scaled one.
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        # Without a scaler nobody else looks at the gradient: its norm is NaN or infinite if any of its numbers is.
        if guard is not None and not guard.scaled:
            guard.judge(losses, gradient_norm(model) if norm is None else norm)
        if guard is None or not guard.left_out:
            scaler.step(optimizer)
        scaler.update()
        # Gradients become None, which saves a pass over memory and lets the next backward write instead of add.
        optimizer.zero_grad()
        if context.lr_scheduler is not None:
            context.lr_scheduler.step()
        context.after_step()
    return norm


def gradient_norm(model: nn.Module) -> Tensor:
    """Return the norm of the whole gradient, a scalar on the device."""
    return nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


@torch.no_grad()
def evaluate(
    model: nn.Module,
    criterion: nn.Module | None,
    postprocessors: dict[str, nn.Module],
    data_loader: Loader,
    base_ds: COCO,
    device: torch.device,
    output_dir: str | Path = "",
    *,
    context: StepContext | None = None,
) -> tuple[dict[str, Any], CocoEvaluator]:
    """Compute losses and COCO's measures over a loader; all processes together, the tables printed by rank 0.

    Args:
        criterion: None for images without annotations, whose losses would mean nothing: then there are none.
        postprocessors: `bbox`, and for masks `segm` and `panoptic`.
        base_ds: the ground truth.
        output_dir: with it, `panoptic_eval` there gets the panoptic images.
        context: constants of the run; `precision` (outputs are float32), `print_freq` and `max_dets` count here.

    Returns:
        The means of the logged quantities, and among them `coco_eval_bbox`, COCO's 12 numbers; with a postprocessor
        `segm` also `coco_eval_masks`, with `panoptic` `PQ_all`, `PQ_th` and `PQ_st`; and the evaluator, which holds
        every detection.
    """
    context = replace(context or StepContext(), phases=StepPhases())  # profilers watch training alone
    model.eval()
    if criterion is not None:
        criterion.eval()
    evaluator, panoptic = _evaluators(postprocessors, data_loader, base_ds, output_dir, context)
    steps = len(data_loader)
    progress = Progress(total=steps, label="test")
    log = _step_log("Test:", criterion, context, progress)
    with annotate("evaluation"), context.precision.keeping_casts():
        for samples, targets in log.each(data_loader, steps):
            with naming_memory("an evaluation", [(samples, targets)], device=device, ways=OF_EVALUATION):
                outputs, losses = _outputs_and_losses(model, criterion, samples, targets, device, context)
                if losses is not None:
                    log.add(losses, ids_of(targets))
                add_results(evaluator, panoptic, postprocessors, outputs, targets, device)
            context.after_batch()
        if criterion is not None:
            progress.note(describe_averages(log.averages()))
        progress.close()
        stats: dict[str, Any] = log.averages() | coco_stats(evaluator)
        if panoptic is not None:
            stats |= panoptic_stats(panoptic)
            evaluator.panoptic_quality = panoptic.quality
    return stats, evaluator


def _evaluators(
    postprocessors: dict[str, nn.Module],
    data_loader: Loader,
    base_ds: COCO,
    output_dir: str | Path,
    context: StepContext,
) -> tuple[CocoEvaluator, PanopticEvaluator | None]:
    # "panoptic" is no kind of COCO's evaluation: it has an evaluator of its own.
    kinds = [kind for kind in ("bbox", "segm") if kind in postprocessors]
    coco = CocoEvaluator(base_ds, kinds, max_dets=context.max_dets)
    if "panoptic" not in postprocessors:
        return coco, None
    return coco, panoptic_evaluator(unwrap(cast(Any, data_loader).dataset), output_dir)


def _outputs_and_losses(
    model: nn.Module,
    criterion: nn.Module | None,
    samples: NestedTensor,
    targets: Sequence[Target],
    device: torch.device,
    context: StepContext,
) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """Run a batch of an evaluation; the losses are None without a criterion."""
    samples, on_device = to_device(samples, targets, device)
    if criterion is None:
        return _forward(model, samples, context), None
    return compute_losses(model, criterion, samples, on_device, context=context)


def describe_averages(averages: dict[str, float]) -> str:
    """Return DETR's line at the end of a pass, which scripts search logs for."""
    return "Averaged stats: " + "  ".join(f"{name}: {value:.4f}" for name, value in averages.items())


def _step_log(header: str, criterion: nn.Module | None, context: StepContext, progress: Progress) -> StepLog:
    weights = {} if criterion is None else weights_of(criterion)
    return StepLog(header=header, weight_dict=weights, print_freq=context.print_freq, progress=progress)
