"""`--lr_find`: a learning-rate range test: one suggested number and a picture; the weights are not kept."""

import time
from collections.abc import Iterator

from torch.utils.data import DataLoader
from tqdm import tqdm

from building import Detector, Setup
from datasets.loader import set_epoch
from engine import Batch
from util.dist.distributed import print_once
from util.errors import UserError
from util.runs.accumulate import StepBatches

from .lr_curve import is_over, plot, rate_at, suggest
from .single_steps import SingleSteps, refuse_several_processes

#: Seconds of the steps without --max_steps: with the start of the program two minutes at most.
SECONDS = 90.0
#: Steps at most and at least, however quick or slow they are.
# From 1e-7 to 1 are 16 e-foldings: 150 steps make each step's rate 1.11 times the last, as fine as it is drawn.
MOST, FEWEST = 150, 40
#: Steps at the first rate, of which all but the first are timed: that one also starts the loader.
TIMED = 3
#: The rates of the first and of the last step; few steps begin later, so that they stay close enough to each other.
FIRST, LAST = 1e-7, 1.0
FEW, FIRST_OF_FEW = 100, 1e-5
#: Without a terminal: steps between two lines.
EVERY = 25


def find_lr(run: Setup, detector: Detector, loader: DataLoader) -> None:
    """Raise the learning rate step by step until the loss blows up, and print the rate to train with.

    The backbone's rate keeps its ratio to the rest. With --output_dir, lr_find.png there shows the curve. Raises
    UserError with several processes, and for a learning rate of 0, which has no ratio.
    """
    refuse_several_processes("--lr_find", run.place.launch)
    if run.cfg.lr <= 0:
        raise UserError(f"--lr {run.cfg.lr}: --lr_find needs one above 0, for the backbone's ratio to it")
    stepper = SingleSteps(run, detector)
    steps = _steps(loader, run.cfg.accumulate)
    # Timing makes real steps, but at a rate of 1e-7: weights are where they were.
    most = run.cfg.max_steps or _steps_in_time(stepper, steps)
    first = FIRST if run.cfg.max_steps or most >= FEW else FIRST_OF_FEW
    rates: list[float] = []
    losses: list[float] = []
    with tqdm(total=most, desc="lr_find", unit="step", disable=None, leave=False) as bar:
        for step in range(most):
            rates.append(rate_at(step, most, first=first, last=LAST))
            # A factor on the run's own rates, so that the backbone's keeps its ratio to the rest.
            losses.append(stepper.step(next(steps), rates[-1] / run.cfg.lr)["loss"])
            bar.update()
            bar.set_postfix_str(f"lr {rates[-1]:.1e} loss {losses[-1]:.3f}")
            if bar.disable and (step + 1) % EVERY == 0:
                print_once(f"lr_find: step {step + 1} of {most}: lr {rates[-1]:.1e}, loss {losses[-1]:.3f}")
            # Steps beyond it would only show NaN, and their curve would flatten the rest of the picture.
            if is_over(losses):
                break
    suggestion = suggest(rates, losses)
    if run.folder is not None:
        plot(rates, losses, suggestion, run.folder / "lr_find.png")
        print_once(f"wrote {run.folder / 'lr_find.png'}")
    if suggestion.rate is None:
        print_once(f"lr_find: no suggestion: {suggestion.reason}")
        return
    backbone = suggestion.rate * run.cfg.lr_backbone / run.cfg.lr
    print_once(f"lr_find: --lr {suggestion.rate:g} --lr_backbone {backbone:.2g}: {suggestion.reason}")


def steps_that_fit(seconds: float) -> int:
    """Return the steps of a test whose steps take so many seconds each."""
    return min(MOST, max(FEWEST, int(SECONDS / max(seconds, 1e-9))))


def _steps_in_time(stepper: SingleSteps, steps: Iterator[list[Batch]]) -> int:
    """Time a few steps, and return how many there is time for; a line says if they are fewer than usual."""
    # The first step warms up: it is made, and not timed.
    for number in range(TIMED):
        if number == 1:
            began = time.monotonic()
        stepper.step(next(steps), FIRST / stepper.run.cfg.lr)  # hardly moves the weights
    seconds = (time.monotonic() - began) / (TIMED - 1)
    most = steps_that_fit(seconds)
    if most < MOST:
        print_once(
            f"lr_find: a step takes {seconds:.1f} s: {most} of them, about {most * seconds:.0f} s; a smaller "
            f"--image_size or --batch_size gives more, --max_steps {MOST} waits for the usual number"
        )
    return most


def _steps(loader: DataLoader, accumulate: int) -> Iterator[list[Batch]]:
    """Yield the batches of step after step, epoch after epoch without end."""
    epoch = 0
    while True:
        set_epoch(loader, epoch)
        yield from StepBatches(loader, accumulate)
        epoch += 1
