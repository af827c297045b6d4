"""The epoch loop: train, evaluate, log, save."""

import datetime
import time
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from building import Detector, Setup
from datasets.coco_eval import CocoEvaluator
from datasets.loader import set_epoch
from datasets.resumable import ResumableLoader
from engine import StepContext, train_one_epoch
from settings import Weights, flag_origins, typed_flags
from util.dist.device import seed_everything
from util.dist.distributed import print_once
from util.loggers.open import JSONL, parse_names
from util.profiling import annotate
from util.profiling.from_flags import profiling_options, report_costs, report_timing
from util.runs.pace import describe_starving
from util.runs.plan import EpochPart
from util.runs.run_folder import RunFolder, log_row
from util.runs.run_info import write_run_info

from .augmented import save_augmented
from .evaluation import Evaluation, Measured, measure
from .metrics import keep_metrics
from .roofline_scripts import CEILINGS
from .signals import leave_after_signal, stop_on_signals
from .state import Training
from .watching import Watching, alphas_of, watch
from .worst_case import prepare_memory


def train(
    run: Setup, detector: Detector, loader: ResumableLoader, evaluate_now: Evaluation, weights: Weights
) -> CocoEvaluator | None:
    """Run the epoch loop: train, evaluate, log, save. Returns the last evaluation, None where there was none."""
    cfg, training = run.cfg, Training(run, detector, loader, weights)
    # Steps and epochs that are left, which after --resume begin in the middle of one.
    plan = training.plan
    if why := training.nothing_left():
        print_once(why)
        return None
    context = training.make_context()
    store = open_folder(run, first_epoch=plan.first_epoch)
    if line := training.utilisation.describe():
        print_once(line)
    # Not the wall clock: a clock that is set during the night would give a negative training time.
    began = time.monotonic()

    # Before the first epoch seeds the generators: what the sheet draws from them must not move the run's numbers.
    save_augmented(run, loader, epoch=plan.first_epoch)
    prepare_memory(run, detector, training.optimizer)
    print_once("Start training")
    with stop_on_signals(training.stop) if cfg.output_dir else nullcontext():
        with watch(run, done=plan.done) as watching:
            context = replace(context, watch=watching.beside(context.watch))
            last = run_epochs(run, detector, training, evaluate_now, context=context, store=store, watching=watching)
        if store is not None:
            store.finish()
        end_training(run, context, began)
        # Last: it raises, and a Slurm job may be requeued and started again as soon as it does.
        leave_after_signal(training.stop, training.ended_early)
    return last.evaluator if last else None


def run_epochs(
    run: Setup,
    detector: Detector,
    training: Training,
    evaluate_now: Evaluation,
    *,
    context: StepContext,
    store: RunFolder | None,
    watching: Watching,
) -> Measured | None:
    """Make the epochs that are left; return the last evaluation, None where there was none."""
    cfg, plan, loader = run.cfg, training.plan, training.within.loader
    assert (progress := context.progress) is not None
    last: Measured | None = None
    for part in plan.parts():
        set_epoch(loader, part.epoch)
        # By epoch, not once: what an epoch draws then does not depend on the process having run those before it.
        seed_everything(cfg.seed, rank=run.place.launch.rank, epoch=part.epoch)
        training.within.begin(part)
        training.frozen_start.begin(part.epoch)
        # A part of an epoch may be cut short by a signal: what was made is counted, not what was planned.
        before = progress.done
        training.energy.begin()
        with annotate("training_epoch"):
            train_stats = train_one_epoch(
                *(detector.model, detector.criterion, loader, training.optimizer, run.place.device, part.epoch),
                cfg.clip_max_norm,
                context=replace(context, part=part, ended=partial(end_step, training, context, part, store)),
            )
        if line := describe_starving(train_stats, steps=part.steps, num_workers=cfg.num_workers):
            print_once(line)
        # A profiled run ends without evaluation and without checkpoint: its few steps are nobody's result.
        if context.phases.finished or (context.phases.stop_when_done and training.stop.reason):
            break
        if context.phases.stop_when_done:  # an evaluation between two epochs would write over an earlier run's files
            continue
        steps = progress.done - before
        train_stats |= training.energy.of_training(steps=steps, images=steps * cfg.accumulate * cfg.batch_size)
        # As much of the part as was made: it may have ended early.
        made = plan.cut(part, progress.done)
        whole = made == part  # else the rest of the epoch is made, and the epoch logged, when the run goes on
        place = {} if plan.ends_epoch(made) else training.within.state(evaluated=whole)
        due = whole and not cfg.train_only and plan.evaluated_after(part, every=cfg.eval_every)
        measured = measure(training.energy.around(evaluate_now), training.average) if due else None
        # An epoch without evaluation does not forget the one before.
        last = measured or last
        # In every process, so that all agree on --early_stop; rank 0 alone writes the file.
        is_best = measured is not None and training.best.take(measured)
        if whole:
            train_stats |= training.utilisation.of_epoch(train_stats)
            keep_metrics(run, detector, measured.stats if measured else {}, train_stats, epoch=part.epoch)
        training.gather_optimizer()
        if store is not None:
            if whole:
                counts = {"global_step": progress.done, "n_parameters": training.parameters}
                row = log_epoch(store, train_stats | alphas_of(detector.model), measured, epoch=part.epoch, **counts)
                # After the row is in log.txt: a dashboard that fails loses nothing there.
                watching.epoch(row, measured)
            # DETR's rule: before the learning rate drops, and every hundred epochs.
            intervals = filter(None, (cfg.lr_drop, 100, cfg.ckpt_store_interval_epochs))
            keep = whole and any((part.epoch + 1) % every == 0 for every in intervals)
            # False where best.pth could not be written, as on a full disk: then the AP to beat is the one of the file
            # that is there.
            if not store.save(training.in_checkpoint(context, made, measured) | place, is_best=is_best, keep=keep):
                training.best.forget_last()
        if training.ends_early(progress.done):
            break
    return last


def end_step(training: Training, context: StepContext, part: EpochPart, store: RunFolder | None) -> bool:
    """Save after a step if that is due; return True if the run ends here. Every process calls it."""
    assert (progress := context.progress) is not None
    made, stops = training.plan.cut(part, progress.done), training.stop.after_step()
    # A run that stops within the epoch is saved by the loop; before an evaluation, which may take longer than a
    # scheduler waits, it is saved here.
    # If the run stops here, save at the part's end alone; if it goes on, when an interval is over.
    if made == part if stops else training.within.due(progress.done):
        # Gathers from all processes: a rank that writes no files must call it, too.
        place = training.within.state()
        training.gather_optimizer()
        if store is not None:
            store.save(training.in_checkpoint(context, made, None) | place)
    return stops


def open_folder(run: Setup, *, first_epoch: int) -> RunFolder | None:
    """Write run.json and return the run's folder; None where this process writes no files."""
    if run.folder is None or profiling_options(run.cfg).ends_run:
        return None
    origins = flag_origins(run.typed, run.cfg, run.chosen)
    write_run_info(run.folder, run.cfg, typed=typed_flags(run.typed), chosen=run.chosen, origins=origins)
    return RunFolder(run.folder, first_epoch=first_epoch, with_log=JSONL in parse_names(run.cfg.logger))


def log_epoch(
    store: RunFolder, train_stats: dict[str, Any], measured: Measured | None, *, epoch: int, **counts: int
) -> dict[str, Any]:
    """Add an epoch's row to the log, with its evaluation if there was one, and keep the precision of that.

    `counts` are those that `log_row` takes. Returns the row.
    """
    row = log_row(train_stats, measured.stats if measured else {}, epoch=epoch, **counts)
    store.log(row)
    if measured is not None:
        store.keep_evaluation(measured.evaluator, epoch=epoch)
    return row


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
