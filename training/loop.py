"""The epoch loop: train, evaluate, log, save."""

import datetime
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

import building
from building import Detector, Setup, without_wrapper
from datasets.coco_eval import CocoEvaluator
from datasets.loader import set_epoch
from engine import StepContext, train_one_epoch
from settings import Weights, typed_flags
from util.dist.device import seed_everything
from util.dist.distributed import print_once
from util.metrics import Progress
from util.profiling import annotate
from util.profiling.from_flags import build_phases, profiling_options, report_costs, report_timing
from util.runs.plain import to_plain
from util.runs.plan import TrainingPlan
from util.runs.resume import repair_files, restore_optimizer
from util.runs.run_folder import RunFolder, log_row
from util.runs.run_info import write_run_info
from util.runs.schedule import build_lr_scheduler

from .augmented import save_augmented
from .ema import start_average
from .evaluation import Evaluation, Measured, measure

#: Measures the machine's ceilings for --count_costs; a program to run, for the roofline scripts stand alone.
CEILINGS = Path(__file__).parents[1] / "roofline-on-nvidia-gpus" / "custom-scripts" / "ceilings.py"


def train(
    run: Setup, detector: Detector, loader: DataLoader, evaluate_now: Evaluation, weights: Weights
) -> CocoEvaluator | None:
    """Run the epoch loop: train, evaluate, log, save. Returns the last evaluation, None where there was none."""
    cfg, model, checkpoint = run.cfg, detector.model, weights.resume
    optimizer = building.build_optimizer(model, lr=cfg.lr, lr_backbone=cfg.lr_backbone, weight_decay=cfg.weight_decay)
    restore_optimizer(optimizer, checkpoint, flags=vars(cfg))
    run.place.precision.restore(checkpoint)
    best_ap = repair_files(run.folder, checkpoint, weights.paths.get("resume"))
    plan = building.plan_steps(cfg, checkpoint, batches=len(loader))
    if plan.left == 0:
        print_once(f"nothing to do: step {plan.done} of {plan.total} is done; raise --epochs or --max_steps to go on")
        return None
    context = make_context(run, plan, optimizer)
    average = start_average(model, cfg.ema, checkpoint)
    if average is not None:
        context = replace(context, after_step=average.update)
    store = open_folder(run, plan)
    measured: Measured | None = None
    began = time.monotonic()

    save_augmented(run, loader, epoch=plan.first_epoch)
    print_once("Start training")
    for part in plan.parts():
        set_epoch(loader, part.epoch)
        # By epoch, not once: what an epoch draws then does not depend on the process having run those before it.
        seed_everything(cfg.seed, rank=run.place.launch.rank, epoch=part.epoch)
        with annotate("training_epoch"):
            train_stats = train_one_epoch(
                *(model, detector.criterion, loader, optimizer, run.place.device, part.epoch, cfg.clip_max_norm),
                context=replace(context, part=part),
            )
        if context.phases.finished:
            break
        if context.phases.stop_when_done:  # an evaluation between two epochs would write over an earlier run's files
            continue
        measured = measure(evaluate_now, average)
        is_best, best_ap, before = measured.ap > best_ap, max(best_ap, measured.ap), best_ap
        if store is not None:
            state = training_state(run, model, optimizer, context) | plan.state_after(part) | measured.in_checkpoint
            state |= {"best_ap": best_ap} | (average.state() if average else {})
            counts = {"global_step": state["step"], "n_parameters": building.count_trainable(model)}
            store.log(log_row(train_stats, measured.stats, epoch=part.epoch, **counts))
            store.keep_evaluation(measured.evaluator, epoch=part.epoch)
            # DETR's rule: before the learning rate drops, and every hundred epochs.
            keep = (part.epoch + 1) % cfg.lr_drop == 0 or (part.epoch + 1) % 100 == 0
            if not store.save(state, is_best=is_best, keep=keep):
                best_ap = before  # the next better one than what best.pth holds is to be written there
    if store is not None:
        store.finish()
    end_training(run, context, began)
    return measured.evaluator if measured else None


def make_context(run: Setup, plan: TrainingPlan, optimizer: torch.optim.Optimizer) -> StepContext:
    """Return the constants of all training steps: precision, learning-rate schedule, profilers, progress."""
    cfg = run.cfg
    scheduler = build_lr_scheduler(
        optimizer,
        done_steps=plan.done,
        schedule=cfg.lr_schedule,
        total_steps=plan.total,
        steps_per_epoch=plan.steps_per_epoch,
        lr_drop=cfg.lr_drop,
        warmup_steps=cfg.warmup_steps,
    )
    return StepContext(
        precision=run.place.precision,
        phases=build_phases(profiling_options(cfg), device=run.place.device, total_steps=plan.left),
        lr_scheduler=scheduler,
        progress=Progress(total=plan.total, done=plan.done),
        print_freq=cfg.print_freq,
        accumulate=cfg.accumulate,
    )


def open_folder(run: Setup, plan: TrainingPlan) -> RunFolder | None:
    """Write run.json and return the run's folder; None where this process writes no files."""
    if run.folder is None or profiling_options(run.cfg).ends_run:
        return None
    write_run_info(run.folder, run.cfg, typed=typed_flags(run.typed))
    return RunFolder(run.folder, first_epoch=plan.first_epoch)


def training_state(
    run: Setup, model: nn.Module, optimizer: torch.optim.Optimizer, context: StepContext
) -> dict[str, Any]:
    """Return the content of a checkpoint under DETR's keys, and what this project adds; the plan's part is missing."""
    return {
        "model": without_wrapper(model).state_dict(),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": context.lr_scheduler.state_dict() if context.lr_scheduler else {},
        "scaler": context.precision.scaler.state_dict(),
        "args": to_plain(vars(run.cfg)),
        "args_as_typed": to_plain(typed_flags(run.typed)),
        **run.data.in_checkpoint,
    } | ({} if run.data.category_ids is None else {"category_ids": run.data.category_ids})


def end_training(run: Setup, context: StepContext, began: float) -> None:
    """Close the progress bar and print what profilers found, and the time."""
    if context.progress is not None:
        context.progress.close()
    report_timing(context.phases, run.cfg)
    report_costs(context.phases, run.cfg, CEILINGS)
    if context.phases.finished:
        print_once("profiled; the run ends here, without a checkpoint (--profile_continue goes on)")
    else:
        print_once(f"Training time {datetime.timedelta(seconds=int(time.monotonic() - began))}")
