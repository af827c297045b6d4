"""`--lr_find`: a learning-rate range test: one suggested number and a picture; the weights are not kept."""

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

#: Steps without --max_steps, and the rates of the first and the last of them.
# From 1e-7 to 1 are 16 e-foldings: 150 steps make each step's rate 1.11 times the last, as fine as it is drawn.
STEPS = 150
FIRST, LAST = 1e-7, 1.0
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
    most = run.cfg.max_steps or STEPS
    rates: list[float] = []
    losses: list[float] = []
    steps = _steps(loader, run.cfg.accumulate)
    with tqdm(total=most, desc="lr_find", unit="step", disable=None, leave=False) as bar:
        for step in range(most):
            rates.append(rate_at(step, most, first=FIRST, last=LAST))
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


def _steps(loader: DataLoader, accumulate: int) -> Iterator[list[Batch]]:
    """Yield the batches of step after step, epoch after epoch without end."""
    epoch = 0
    while True:
        set_epoch(loader, epoch)
        yield from StepBatches(loader, accumulate)
        epoch += 1
