"""`--overfit N`: train and evaluate on the same few images, and say if data, labels and model can learn at all."""

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from building import Detector, Setup
from datasets.coco_eval import CocoEvaluator
from datasets.interface import DatasetOrSubset
from engine import Batch
from util.dist.distributed import print_once
from util.draw.sheets import draw_evaluation
from util.plot_utils import AP50
from util.runs.accumulate import StepBatches
from util.targets import object_count

from .choices import Choice
from .evaluation import judging_scores
from .single_steps import SingleSteps, refuse_several_processes
from .verdict import LEARNED, Trial, judge

#: Seconds of training and evaluation without --max_steps: with the start of the program about two minutes.
SECONDS = 100.0
#: Looks at the images on the way; the trial ends at the first that finds nearly all of them.
LOOKS = 5
#: Steps in which the learning rate rises: AdamW's first steps are as long as its rate, whatever the gradient.
WARMUP = 10

#: Evaluates the detector on batches.
EvaluateOn = Callable[[Any], tuple[dict[str, Any], CocoEvaluator]]


@dataclass(frozen=True)
class HeldBatches:
    """Batches that stay in memory, with what an evaluation asks of a loader."""

    dataset: DatasetOrSubset
    batches: Sequence[Batch]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


def choose_for_overfit(dataset_file: str) -> dict[str, Choice]:
    """Choose flags for a trial of a hundred seconds, by name; what was typed stands, and so does a preset's choice."""
    choices = {
        "dropout": Choice(0.0, "the same images are to be learned by heart"),
        "lr": Choice(3e-4, "few steps"),
        "lr_backbone": Choice(1e-4, "few steps"),
    }
    if dataset_file != "shapes":
        choices["image_size"] = Choice(320, "small images are quick; --image_size takes another")
    return choices


def overfit(run: Setup, detector: Detector, loader: DataLoader, evaluate_on: EvaluateOn) -> None:
    """Train on the images of `loader`, all of them again and again, and print a verdict; nothing is kept.

    With --output_dir, overfit.png there shows truth and detections. Raises UserError with several processes.
    """
    refuse_several_processes("--overfit", run.place.launch)
    began = time.monotonic()
    batches = HeldBatches(run.data.val, list(loader))  # read once: without augmentation a pass is like any other
    stepper = SingleSteps(run, detector)
    steps = list(StepBatches(batches, run.cfg.accumulate))
    losses: list[dict[str, float]] = []
    # Never more looks than steps: a look after no step would repeat the last one.
    looks = min(LOOKS, run.cfg.max_steps or LOOKS)
    for look in range(1, looks + 1):
        _train(stepper, steps, losses, until=look / looks, began=began)
        stats, evaluator = _evaluate_in_silence(evaluate_on, batches)
        # AP50, not AP: tight boxes come late, and the question is only whether anything is learned.
        ap50 = judging_scores(stats)[AP50]
        print_once(f"overfit: step {len(losses)}: loss {losses[-1]['loss']:.3f}, AP50 {ap50:.3f}")
        # Halfway between "has learned" and all objects found: more steps would not change the verdict.
        if ap50 >= (1 + LEARNED) / 2 or not losses[-1]["loss"] < float("inf"):
            break
    if run.folder is not None:
        draw_evaluation(run.folder / "overfit.png", run.data.val, evaluator, what="images trained on")
        print_once(f"wrote {run.folder / 'overfit.png'}: truth on the left, detections on the right")
    # A whole pass over the images each: single steps see other images, and differ by that alone.
    first, last = (_mean(part) for part in (losses[: len(steps)], losses[-len(steps) :]))
    trial = Trial(
        images=len(run.data.val),
        steps=len(losses),
        seconds=time.monotonic() - began,
        first=first,
        last=last,
        ap50=ap50,
        small_side=_small_side(batches),
        data=_data_flags(run),
    )
    print_once(judge(trial))


def _train(
    stepper: SingleSteps, steps: list[list[Batch]], losses: list[dict[str, float]], *, until: float, began: float
) -> None:
    """Make steps until this part of --max_steps, or of the time, is over, at least one; stop at a loss without end."""
    most = stepper.run.cfg.max_steps
    with tqdm(total=most or None, initial=len(losses), desc="overfit", unit="step", disable=None, leave=False) as bar:
        while True:
            # 1/11, 2/11, ... of the rate: in its first steps AdamW's second moment is that of a single batch.
            factor = min(1.0, (len(losses) + 1) / (WARMUP + 1))
            losses.append(stepper.step(steps[len(losses) % len(steps)], factor))
            bar.update()
            bar.set_postfix_str(f"loss {losses[-1]['loss']:.3f}")
            # By steps where the user counts them, so that the trial is repeatable; else by the clock.
            over = len(losses) >= until * most if most else time.monotonic() - began >= until * SECONDS
            if over or not losses[-1]["loss"] < float("inf"):
                return


def _evaluate_in_silence(evaluate_on: EvaluateOn, batches: HeldBatches) -> tuple[dict[str, Any], CocoEvaluator]:
    """Evaluate without COCO's tables: the trial prints one line for each."""
    with contextlib.redirect_stdout(io.StringIO()):
        return evaluate_on(batches)


def _mean(losses: list[dict[str, float]]) -> dict[str, float]:
    """Mean of each loss over the steps of one pass."""
    return {name: sum(step[name] for step in losses) / len(losses) for name in losses[0]}


def _small_side(batches: HeldBatches) -> float:
    """Median of the objects' shorter sides, in pixels of the resized images; boxes are relative cxcywh."""
    targets = [t for _, batch in batches for t in batch]
    # boxes (n, 4) cxcywh in 0..1, size (h, w): flipped it is (w, h), as columns 2 and 3 of the boxes.
    sides = [(t["boxes"][: object_count(t), 2:] * t["size"].flip(0)).amin(1) for t in targets]  # without padding
    every = torch.cat(sides)
    return float(every.median()) if len(every) else float("inf")


def _data_flags(run: Setup) -> str:
    """The flag that names the data, as it was typed."""
    place = run.cfg.data_path or run.cfg.coco_path
    return f"--data_path {place}" if place else f"--dataset_file {run.cfg.dataset_file}"
