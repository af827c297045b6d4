"""The verdict of a trial on a few images about data, labels and model: numbers in, one line out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: AP50 on the images trained on from which the trial has succeeded.
LEARNED = 0.8
#: Or, short of it: so much AP50, or a loss that fell to this part of the first, is a beginning.
BEGUN, FELL = 0.3, 0.7
#: With fewer steps a loss that did not fall says nothing.
FEWEST_STEPS = 40
#: Objects whose shorter side has fewer pixels than this are hard for a single feature map of stride 16 to 32.
SMALL_SIDE = 12


@dataclass(frozen=True)
class Trial:
    """Outcome of a trial.

    Attributes:
        images, steps, seconds: how long it trained on how many.
        first, last: weighted losses at the beginning and at the end; `loss` is the sum.
        ap50: COCO's AP50 of the images trained on; -1 where they hold nothing to measure.
        small_side: median of the objects' shorter sides in pixels of the resized images.
        data: the flags that name the data, for a command to type.
    """

    images: int
    steps: int
    seconds: float
    first: Mapping[str, float]
    last: Mapping[str, float]
    ap50: float
    small_side: float
    data: str

    def fell(self, part: str) -> bool:
        """Tell if a loss fell to FELL of its beginning."""
        # A loss that this model does not have is no reason to complain.
        return part not in self.first or self.last[part] <= FELL * self.first[part]


def judge(trial: Trial) -> str:
    """Return one line: what was reached, and what to look at if it was not enough."""
    losses = f"loss {trial.first['loss']:.2f} -> {trial.last['loss']:.2f}"
    made = f"AP50 {max(0.0, trial.ap50):.2f} on the {_count(trial.images)} trained on, {losses}"
    made += f", {trial.steps} steps in {trial.seconds:.0f} s"
    if not math.isfinite(trial.last["loss"]):
        return f"overfit: BROKEN: {made}: the loss is not finite: give a smaller --lr (--lr_find suggests one)"
    # From good to bad, and the first that fits counts: a trial that has learned in 10 steps is no "too few steps".
    if trial.ap50 >= LEARNED:
        return f"overfit: LEARNS: {made}: data, labels and model fit together"
    if trial.ap50 >= BEGUN:
        return f"overfit: BEGINS TO LEARN: {made}: raise --max_steps to see if it gets all of it{_look_at(trial)}"
    # Before the verdicts on the loss: the warm-up alone takes a quarter of so few steps.
    if trial.steps < FEWEST_STEPS:
        return (
            f"overfit: TOO FEW STEPS TO TELL: {made}: give fewer images or a smaller --image_size, or wait longer with "
            f"--max_steps {5 * FEWEST_STEPS}"
        )
    if trial.fell("loss"):
        return (
            f"overfit: SLOW: {made}: the loss falls but few objects are found yet: give more steps (--max_steps "
            f"{max(400, 4 * trial.steps)}), or --queries encoder --focal, which start sooner{_look_at(trial)}"
        )
    return f"overfit: DOES NOT LEARN: {made}{_look_at(trial)}"


def _count(images: int) -> str:
    return f"{images} images" if images > 1 else "image"


def _look_at(trial: Trial) -> str:
    """Name what to look at first, by the loss that did not fall; nothing where there is nothing to say."""
    looks = []
    if trial.small_side < SMALL_SIDE:
        looks.append(f"objects are small, half of them under {trial.small_side:.0f} pixels: raise --image_size")
    if not (trial.fell("loss_bbox") and trial.fell("loss_giou")):
        looks.append(f"boxes do not fit: look at them (python -m datasets.check {trial.data} --sheet boxes.png)")
    if not trial.fell("loss_ce"):
        looks.append("classes do not fit: are names and ids the right ones, and all objects of a class labelled?")
    if not trial.fell("loss"):
        looks.append("the learning rate: --lr_find suggests one")
    return f"; look at: {'; '.join(looks)}" if looks else ""
