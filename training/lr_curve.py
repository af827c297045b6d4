"""The curve of a learning-rate range test (Smith, arXiv 1506.01186): smoothing, its end, and the rate to suggest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.runs.atomic import atomic_file

#: Weight of the past in the running mean of the losses: that of about 20 steps, for batches of two images are noisy.
SMOOTHING = 0.95
#: Steps to either side in the mean that is drawn and searched for the steepest place.
REACH = 10
#: The test ends where the smoothed loss is so many times the least so far.
BLOW_UP = 2.0
#: Steps before a rise can end the test, and whose losses say nothing of the slope yet.
SETTLING = 10
#: The suggestion stays so far below the rate at which the loss blew up.
MARGIN = 10.0


@dataclass(frozen=True)
class Suggestion:
    """A learning rate and why it is that one; no rate where the test shows none."""

    rate: float | None
    reason: str


def rate_at(step: int, steps: int, *, first: float, last: float) -> float:
    """Return the rate of a step (from 0): it rises by the same factor with each, from `first` to `last`."""
    # (steps - 1), so that the last step has exactly the last rate; max(1, ...) for a test of one step.
    return first * (last / first) ** (step / max(1, steps - 1))


def smooth(losses: Sequence[float]) -> list[float]:
    """Return the exponential running mean of losses, without the pull towards 0 that the first ones would have."""
    mean, means = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        # Adam's bias correction (Kingma and Ba, arXiv 1412.6980, section 3): the mean starts at 0.
        means.append(mean / (1 - SMOOTHING**number))
    return means


def smooth_both_ways(losses: Sequence[float]) -> list[float]:
    """Return means over the neighbours on both sides, nearer ones with more weight: a running mean would be late."""
    values = np.asarray(losses)
    weights = REACH + 1 - np.abs(np.arange(-REACH, REACH + 1))  # a triangle
    # np.pad adds zeros at both ends; the second convolution counts how much weight fell on real values, (N,) each.
    sums = np.convolve(np.pad(values, REACH), weights, mode="valid")
    return (sums / np.convolve(np.pad(np.ones(len(values)), REACH), weights, mode="valid")).tolist()


def is_over(losses: Sequence[float]) -> bool:
    """Tell if the loss has blown up: not finite, or far above its least value."""
    if not math.isfinite(losses[-1]):
        return True
    means = smooth(losses)
    # The first means follow single losses up and down; a rise of theirs is noise.
    return len(means) > SETTLING and means[-1] > BLOW_UP * min(means)


def suggest(rates: Sequence[float], losses: Sequence[float]) -> Suggestion:
    """Suggest the rate at which the smoothed loss falls fastest, a tenth of the blow-up's at most."""
    finite = [(rate, loss) for rate, loss in zip(rates, losses) if math.isfinite(loss)]
    if len(finite) < 2 * SETTLING:
        return Suggestion(None, f"only {len(finite)} steps had a finite loss: too few to tell")
    tried = np.array([rate for rate, _ in finite])
    means = np.array(smooth_both_ways([loss for _, loss in finite]))
    # By the logarithm of the rate, in which the steps are even.
    slopes = np.gradient(means, np.log(tried))
    # A slope before the settled part belongs to the first random batches, and behind the lowest place the loss rises.
    lowest = int(means[SETTLING:].argmin()) + SETTLING
    falling = slopes[SETTLING : lowest + 1]
    # Three ways of never falling: the least loss comes first, every slope points up, or all of the fall is under 5 %.
    if lowest == SETTLING or falling.min() >= 0 or means[lowest] > 0.95 * means[: SETTLING + 1].min():
        return Suggestion(None, "the loss falls at no rate: look at the data (--overfit 4)")
    steepest = float(tried[int(falling.argmin()) + SETTLING])
    # Where nothing blew up, the lowest place is the last rate that is known to be of use.
    limit = float(tried[lowest]) if not is_over(losses) else float(tried[-1])
    reason = f"the loss falls fastest at {steepest:.1e}"
    if is_over(losses):
        reason += f" and blows up at {limit:.1e}"
    if steepest > limit / MARGIN:
        return Suggestion(_rounded(limit / MARGIN), f"{reason}; a tenth of {limit:.1e} keeps a distance from it")
    return Suggestion(_rounded(steepest), reason)


def _rounded(rate: float) -> float:
    """Round to one digit: the test is not more exact than that."""
    return float(f"{rate:.0e}")


def plot(rates: Sequence[float], losses: Sequence[float], suggestion: Suggestion, path: Path) -> None:
    """Write a PNG with the loss over the rate, as measured and smoothed, and the suggested rate."""
    from matplotlib.figure import Figure  # slow to import

    shown = [(rate, loss) for rate, loss in zip(rates, losses) if math.isfinite(loss)]
    means = smooth_both_ways([loss for _, loss in shown])
    figure = Figure(figsize=(8, 4.8), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="C0", alpha=0.3, linewidth=1, label="loss of each step")
    axes.plot([rate for rate, _ in shown], means, color="C0", linewidth=2, label="mean with its neighbours")
    axes.set_xscale("log")
    if len(means) > REACH:
        # The last losses of a blow-up would flatten all that is of interest.
        top = max(means[:-REACH])
        axes.set_ylim(max(0.0, min(means) - 0.3 * (top - min(means))), 1.2 * top)
    if suggestion.rate is not None:
        label = f"suggested: --lr {suggestion.rate:g}"
        axes.axvline(suggestion.rate, color="C3", linestyle="--", linewidth=1.6, label=label)
    axes.set_xlabel("learning rate (--lr; the backbone's in proportion)")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
