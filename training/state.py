"""All that a training consists of beside its epochs: optimizer, plan, switches; and what a checkpoint keeps of it."""

from pathlib import Path
from typing import Any

from torch import Tensor

import building
from building import Detector, Setup, without_wrapper
from datasets.resumable import ResumableLoader
from engine import StepContext
from settings import Weights, typed_flags
from util.dist.distributed import get_rank, get_world_size, print_once
from util.dist.exchange import gather_state
from util.metrics import StepLog
from util.profiling.batch_shapes import BatchShapes
from util.profiling.from_flags import build_phases, profiling_options
from util.progress import Progress
from util.runs.bad_step import NAME, record_of, write_bad_step
from util.runs.guard import GuardedStep, StepGuard
from util.runs.interval import parse_interval
from util.runs.plain import to_plain
from util.runs.plan import EpochPart
from util.runs.resume import repair_files, restore_optimizer
from util.runs.schedule import build_lr_scheduler

from .best import Best
from .ema import start_average
from .energy import start_meter
from .evaluation import Measured
from .freeze import FrozenStart
from .stop import Stop
from .utilisation import Utilisation
from .within import WithinEpoch


class Training:
    """A training at its beginning, or where a checkpoint left it.

    Attributes:
        plan: the steps and epochs that are left.
        optimizer: with the checkpoint's state.
        average: of the weights, with --ema; else None.
        best: the best AP so far.
        frozen_start: of the backbone, with --freeze_backbone.
        within: the place in the epoch, for checkpoints within it.
        utilisation: what a step costs, and the share of the device's peak.
        stop: collects wishes to end before the plan does.
        ended_early: the run ended before its plan.
        parameters: how many numbers are trained.
    """

    def __init__(self, run: Setup, detector: Detector, loader: ResumableLoader, weights: Weights) -> None:
        cfg, model, checkpoint = run.cfg, detector.model, weights.resume
        self.run, self.model, self.criterion = run, model, detector.criterion
        self.optimizer = building.build_optimizer(
            model,
            lr=cfg.lr,
            lr_backbone=cfg.lr_backbone,
            weight_decay=cfg.weight_decay,
            alpha_lr_mult=cfg.alpha_lr_mult,
            sharded=cfg.zero and run.place.launch.distributed,
        )
        # Before the schedule is made, which takes the rates of the optimizer's groups for its start.
        restore_optimizer(self.optimizer, checkpoint, flags=vars(cfg))
        run.place.precision.restore(checkpoint)
        # The files tell, not the checkpoint alone: a run may have died between writing the two.
        best_ap = repair_files(run.folder, checkpoint, weights.paths.get("resume"))
        self.best = Best(best_ap, checkpoint, patience=cfg.early_stop)
        self.plan = building.plan_steps(cfg, checkpoint, batches=len(loader))
        self.average = start_average(model, cfg.ema, checkpoint)
        self.parameters = building.count_trainable(model)
        self.frozen_start = FrozenStart(model, cfg.freeze_backbone)
        self.energy = start_meter(run.place.device, wanted=cfg.energy)
        self.within = WithinEpoch(
            checkpoint,
            loader,
            device=run.place.device,
            facts={"batch_size": cfg.batch_size, "accumulate": cfg.accumulate},
            every=parse_interval(cfg.checkpoint_every),
            agree_every=cfg.print_freq,
        )
        self.utilisation = Utilisation(run, detector)
        self.ended_early = False
        self.stop = Stop(began=run.place.began, max_hours=cfg.max_hours, agree_every=cfg.print_freq)

    def nothing_left(self) -> str | None:
        """Return why there is nothing to do, as after the end of a run that is resumed; else None."""
        if self.plan.left == 0 and not self.plan.pending:
            done = f"step {self.plan.done} of {self.plan.total} is done"
            return f"nothing to do: {done}; raise --epochs or --max_steps to go on"
        why = self.best.why_stop()
        return why and f"nothing to do: {why}; a larger N goes on"

    def make_context(self) -> StepContext:
        """Return the constants of all training steps: precision, learning-rate schedule, profilers, progress."""
        cfg, plan = self.run.cfg, self.plan
        scheduler = build_lr_scheduler(
            self.optimizer,
            # The schedule is computed from the step's number, so a resumed run needs no state of it.
            done_steps=plan.done,
            schedule=cfg.lr_schedule,
            total_steps=plan.total,
            steps_per_epoch=plan.steps_per_epoch,
            lr_drop=cfg.lr_drop,
            warmup_steps=cfg.warmup_steps,
        )
        return StepContext(
            precision=self.run.place.precision,
            phases=build_phases(
                profiling_options(cfg),
                device=self.run.place.device,
                total_steps=plan.left,
                parts=(self.model, self.criterion),
            ),
            lr_scheduler=scheduler,
            before_step=self.frozen_start.drop_gradients,
            after_step=self.after_step,
            after_batch=self.run.place.memory.after_batch,
            guard=self.make_guard(),
            watch=self.watch,
            ended=self.stop.after_step,
            progress=Progress(total=plan.total, done=plan.done),
            print_freq=cfg.print_freq,
            accumulate=cfg.accumulate,
        )

    def watch(self, log: StepLog, shapes: BatchShapes) -> None:
        """Follow an epoch's log and counts; a checkpoint's come first."""
        self.within.watch(log, shapes)
        self.utilisation.watch(log, shapes)

    def make_guard(self) -> StepGuard | None:
        """Return what watches for steps that are not finite; None where it would have nothing to do."""
        run, cfg = self.run, self.run.cfg
        if cfg.on_nan == "stop" and (not cfg.output_dir or profiling_options(cfg).ends_run):
            return None
        model, scaled = without_wrapper(self.model), run.place.precision.scaler.is_enabled()
        keep = self.keep_bad_step if cfg.output_dir else None
        # A step that is undone must leave no trace in the average either.
        also = [] if self.average is None else list(self.average.averages.values())
        facts = {"mode": cfg.on_nan, "device": run.place.device, "scaled": scaled}
        return StepGuard(model, self.optimizer, keep=keep, also=also, **facts)

    def keep_bad_step(self, step: GuardedStep, numbers: dict[str, Any], state: dict[str, Tensor]) -> None:
        """Write the first step that was not finite to the run's folder, on the rank whose it was."""
        facts = {
            "args": to_plain(vars(self.run.cfg)),
            "world_size": get_world_size(),
            "rank": get_rank(),
            "frozen_backbone": self.frozen_start.frozen,
        }
        line = write_bad_step(Path(self.run.cfg.output_dir) / NAME, record_of(step, numbers, state) | facts)
        print(line, flush=True)

    def after_step(self) -> None:
        """Follow a step of the optimizer."""
        if self.average is not None:
            self.average.update()

    def gather_optimizer(self) -> None:
        """Bring the optimizer's state together on rank 0 where it is divided; every process calls it before a save."""
        if self.run.cfg.output_dir:
            gather_state(self.optimizer)

    def in_checkpoint(self, context: StepContext, made: EpochPart, measured: Measured | None) -> dict[str, Any]:
        """Return the content of a checkpoint under DETR's keys, and what this project adds.

        Args:
            context: of the steps.
            made: the part of an epoch that was made last.
            measured: its evaluation, if there was one.
        """
        data = self.run.data
        return {
            "model": without_wrapper(self.model).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            # DETR's main.py wants the key to resume; here the step's number decides.
            "lr_scheduler": context.lr_scheduler.state_dict() if context.lr_scheduler else {},
            "scaler": context.precision.scaler.state_dict(),
            "args": to_plain(vars(self.run.cfg)),
            "args_as_typed": to_plain(typed_flags(self.run.typed)),
            **data.in_checkpoint,
            **({} if data.category_ids is None else {"category_ids": data.category_ids}),
            **({"preset": to_plain(self.run.chosen)} if self.run.chosen else {}),
            # `epoch` and `global_step`, and where the part was cut the steps that are left of it.
            **self.plan.state_after(made),
            **self.best.state(),
            **(measured.in_checkpoint if measured else {}),
            **(self.average.state() if self.average else {}),
        }

    def ends_early(self, done: int) -> bool:
        """Return True, after a line, where the run ends before its plan, which `done` steps are made of."""
        if done >= self.plan.total:
            return False
        if why := self.best.why_stop():
            self.stop.ask(f"{why}; a larger N would go on")
        if not self.stop.agreed():
            return False
        self.ended_early = True
        folder = self.run.cfg.output_dir
        way = f"saved in {folder}; --resume auto goes on" if folder else "nothing is saved without --output_dir"
        print_once(f"{self.stop.reason}: the run ends after step {done} of {self.plan.total}, {way}")
        return True
