"""One implementation of DETR that trains on prepared batches from prepared weights and answers with its losses.

Started by `r18_baseline.py`; its folder is a checkout with the original's interface.
"""

import contextlib
import importlib
import io
import json
import sys
import warnings
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent))
import torch
from step_worker import build


def main() -> None:
    """Read the order, train, and print the losses as one line of JSON."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    order = json.loads(sys.stdin.readline())
    # Off, PyTorch's own convolutions compute: the same sums in another order.
    torch.backends.mkldnn.set_flags(not order.get("without_onednn"))
    sys.stdin.readline()
    with contextlib.redirect_stdout(io.StringIO()):
        losses = train(order)
    print(json.dumps({"losses": losses}), flush=True)


def train(order: dict) -> list[float]:
    """Return the loss of every step, each made by the checkout's own engine."""
    model, criterion, optimizer, args = build(order["checkout"], order["flags"])
    content = torch.load(order["file"], weights_only=True)
    model.load_state_dict(content["model"])
    dtype = torch.float64 if order["float64"] else torch.float32
    if order["float64"]:
        # Ours matches by float32, the original by the model's type: a tie within rounding would be another pair.
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    model.to(dtype)  # in place: the optimizer holds the same parameters
    criterion.to(dtype)
    nested = importlib.import_module("util.misc").nested_tensor_from_tensor_list
    engine, device = importlib.import_module("engine"), torch.device("cpu")
    losses: list[float] = []

    def note(criterion: torch.nn.Module, inputs: tuple, found: dict) -> None:
        # Here and not from the log, which rounds to float32.
        weights = criterion.weight_dict
        losses.append(sum(float(value) * weights[name] for name, value in found.items() if name in weights))

    criterion.register_forward_hook(note)
    for pairs in content["batches"]:
        targets = tuple(target | {"boxes": target["boxes"].to(dtype)} for _, target in pairs)
        batch = (nested([image.to(dtype) for image, _ in pairs]), targets)
        engine.train_one_epoch(model, criterion, [batch], optimizer, device, 0, args.clip_max_norm)
    return losses


if __name__ == "__main__":
    main()
