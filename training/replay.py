"""Make a step again whose loss was not finite, from the file that the run left.

    python -m util.replay runs/mine/bad_step.pt

Prints every loss of then and of now, and the first part of the model whose output is not finite. Exit code 0 when all
numbers are the same to the last bit (NaN is the same as NaN), 1 when one differs.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine import Batch, StepContext, add_gradients, gradient_norm, to_device
from models import build_model
from models.criterion import SetCriterion
from models.fast.compiled import LayerCompiler
from models.segmentation import DETRsegm
from util.dist.device import pick_device, use_deterministic_algorithms
from util.dist.precision import pick_precision, use_tf32
from util.errors import UserError
from util.flags import FlagParser
from util.nested_tensor import NestedTensor
from util.runs.bad_step import read_bad_step
from util.runs.random_state import set_random_state

from .freeze import FrozenStart


def replay(path: str, device_name: str | None = None) -> tuple[dict[str, float], dict[str, float], str]:
    """Make the step of a file again; return its numbers of then and of now, and where they stop being finite.

    Raises UserError for a file that is none, or a device that is not there.
    """
    record = read_bad_step(path)
    cfg = argparse.Namespace(**record["args"])
    device = pick_device(device_name or cfg.device)
    torch.set_num_threads(record["threads"])  # sums on the CPU are split by it
    if cfg.tf32:
        use_tf32(device)
    if cfg.deterministic:
        use_deterministic_algorithms()
    model, criterion = model_of(record, cfg, device)
    batches = [batch_of(batch) for batch in record["batches"]]
    context = StepContext(pick_precision(cfg.amp, device), accumulate=len(batches))
    set_random_state(record["random"], device)
    losses = add_gradients(model, criterion, batches, device, context)
    now = {name: float(value.detach().float()) for name, value in losses.items()}
    then = dict(record["losses"])
    # The norm is that of all ranks' gradients together, and under a loss scaler of a scaled one.
    if record["world_size"] == 1 and not context.precision.scaler.is_enabled():
        frozen_start(model, record).drop_gradients()
        now["gradient_norm"], then["gradient_norm"] = float(gradient_norm(model)), record["gradient_norm"]
    knows_targets = bool(getattr(criterion, "targets_to_model", False))
    return then, now, where_not_finite(model, batches, record, context, knows_targets)


def where_not_finite(
    model: nn.Module, batches: Sequence[Batch], record: dict[str, Any], context: StepContext, knows_targets: bool
) -> str:
    """Run the forward passes once more, and name what is not finite first.

    Not in the step itself: modules that are listened to may compute in another way.
    """
    device = next(model.parameters()).device
    model.load_state_dict(record["model"])  # with statistics as they were before the step
    set_random_state(record["random"], device)
    with torch.no_grad(), context.precision.autocast(), first_not_finite(model) as found:
        for samples, targets in batches:
            samples, on_device = to_device(samples, targets, device)
            model(samples, **({"targets": on_device} if knows_targets else {}))
    return found[0] if found else "no output of the forward pass: a loss or the gradient alone"


def model_of(record: dict[str, Any], cfg: argparse.Namespace, device: torch.device) -> tuple[nn.Module, SetCriterion]:
    """Return model and criterion as they were before the step, in training mode."""
    flags = vars(cfg) | {"device": str(device), "backbone_weights": "none"}
    model, criterion, _ = build_model(argparse.Namespace(**flags))
    model.load_state_dict(record["model"])
    if cfg.compile:
        LayerCompiler(model.detr if isinstance(model, DETRsegm) else model)
    model.train()
    criterion.train()
    frozen_start(model, record)
    if record["world_size"] > 1:
        forward, objects = criterion.forward, max(1.0, record["objects"])

        def with_objects(outputs: Any, targets: Any, **more: Any) -> dict[str, Tensor]:
            # Box losses were divided by the mean of the objects over all ranks, which are not here.
            return forward(outputs, targets, **more | {"num_boxes": torch.tensor(objects, device=device)})

        criterion.forward = with_objects  # type: ignore[method-assign]
    return model, criterion


def frozen_start(model: nn.Module, record: dict[str, Any]) -> FrozenStart:
    """Return --freeze_backbone as it was in the epoch of the step."""
    frozen = FrozenStart(model, 1 if record["frozen_backbone"] else 0)
    frozen.begin(0)
    return frozen


def batch_of(stored: dict[str, Any]) -> Batch:
    """Return a batch as the loader had yielded it."""
    return NestedTensor(stored["images"], stored["mask"]), stored["targets"]


@contextmanager
def first_not_finite(model: nn.Module) -> Iterator[list[str]]:
    """Collect what is not finite: weights first, then outputs in the order of the forward pass."""
    found = [f"weight {n}" for n, value in model.state_dict().items() if not bool(value.isfinite().all())]

    def look(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(f"output of {name} {tuple(output.shape)}")

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def same(one: float, other: float) -> bool:
    """Return True for two equal numbers, and for two NaNs."""
    return one == other or (math.isnan(one) and math.isnan(other))


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; return 0 when all numbers are the same, 1 when one differs, 2 for a mistake."""
    parser = FlagParser(prog="python -m util.replay", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", help="bad_step.pt of a run's --output_dir")
    parser.add_argument("--device", default=None, help="cuda or cpu (that of the run)")
    args = parser.parse_args(argv)
    try:
        then, now, where = replay(args.file, args.device)
    except UserError as error:
        print(f"util.replay: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    for name, value in then.items():
        note = "" if same(value, now[name]) else "   differs"
        print(f"{name:24} then {value:<14.8g} now {now[name]:<14.8g}{note}")
    print(f"first that is not finite: {where}")
    different = [name for name in then if not same(then[name], now[name])]
    print("the same step: all numbers are equal" if not different else f"differs: {', '.join(different)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
