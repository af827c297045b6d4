"""Costs of a training, said before it begins (`--cost_card`): FLOPs, bytes, memory by part, time, disk."""

from building import Detector, Setup
from datasets.resumable import ResumableLoader
from util.dist.distributed import print_once
from util.runs.plan import steps_of


def print_card(run: Setup, detector: Detector, loader: ResumableLoader) -> None:
    """Print the cost card of the run (`--cost_card`). Raises UserError for a GPU that is not known."""
    from .card import describe_card, make_card  # tensors without numbers take half a second to import

    steps = steps_of(len(loader), run.cfg.accumulate)
    print_once(describe_card(make_card(run.cfg, run.data, detector.model, steps=steps, device=run.place.device)))
