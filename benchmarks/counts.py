"""Count what a training step costs, without a clock: figures that no other program and no other hour can change.

    python benchmarks/counts.py                         compare with counts.json; exit code 1 and a line for each change
    python benchmarks/counts.py --only gpu              one case, as CI does
    python benchmarks/counts.py --accept                write the new state (make counts)
    python benchmarks/counts.py --accept --original ../facebookresearch-detr      the original's beside it, counted anew

R50 on two images of 800 x 1066 with 7 objects each, as `benchmarks/train_step.py` times it: forward, loss, backward and
optimizer. Tensors are fake (`util/profiling/fake_device.py`): nothing is computed, and the GPU need not be there.
FLOPs, optimizer and buckets are the same with every version of PyTorch. Operators and bytes are kept by its minor
version, because autograd's own formulas change; with another version that part is left out, in one line.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn

from flags import get_args_parser
from training.fake_step import count_step, fake_training, make_state
from util.flags import FlagParser
from util.profiling import Section
from util.profiling.fake_device import ReadNumbers, fake_device
from util.profiling.step_counter import StepCounter, StepCounts, saved_for_backward

FILE = Path(__file__).with_name("counts.json")
#: What is counted: a device, and flags of main.py.
CASES = {"gpu": ("cuda", ""), "gpu --amp bf16": ("cuda", "--amp bf16"), "cpu": ("cpu", "")}
SIZE, OBJECTS = (800, 1066), 7
#: DistributedDataParallel's: the first bucket is small, so that the exchange begins early.
BUCKETS = [2**20, 25 * 2**20]


def count(device: str, flags: str) -> dict[str, dict[str, Any]]:
    """Return the counts of a step: under `always` those of any version of PyTorch, under `version` the others."""
    args = FlagParser(parents=[get_args_parser()]).parse_args(["--num_classes", "91", *flags.split()])
    counts = count_step(args, torch.device(device), SIZE, objects=OBJECTS)
    always = products_of(counts) | {
        "host reads": counts.reads,
        "optimizer calls": len(counts.optimizer),
        "optimizer tensors": sum(tensors for tensors, _ in counts.optimizer),
        "optimizer numbers": sum(numbers for _, numbers in counts.optimizer),
        "all-reduce bytes by bucket": buckets(args),
    }
    return {"always": always, "version": by_version(counts)}


def products_of(counts: StepCounts) -> dict[str, int]:
    """FLOPs by family of those that multiply matrices."""
    found: dict[str, int] = {}
    for op in counts.ops:
        if op.cost.matrix:
            name = f"{op.cost.family} FLOPs"
            found[name] = found.get(name, 0) + op.cost.flops
    return dict(sorted(found.items()))


def by_version(counts: StepCounts) -> dict[str, Any]:
    """Counts that a version of PyTorch may change."""
    return {
        "bytes moved": counts.bytes,
        "bytes saved for backward": counts.saved,
        "operators": {name: counts.sections[name] for name in map(str, Section)},
        "operators by name": dict(sorted(counts.operators.items())),
    }


def buckets(args: argparse.Namespace) -> list[int]:
    """Bytes of each all-reduce: the last parameter's gradient is the first that is there."""
    with fake_training(args, torch.device("cpu")) as parts:
        # Frozen ones have no gradient to exchange.
        trained = [p for p in parts.model.parameters() if p.requires_grad][::-1]
    # By the numbers of bytes alone, which fake tensors know.
    return fill_buckets([p.numel() * p.element_size() for p in trained])


def fill_buckets(sizes: Sequence[int]) -> list[int]:
    """DistributedDataParallel's rule: a bucket is closed by the tensor with which it reaches its limit."""
    filled, current = [], 0
    for size in sizes:
        current += size
        # The first limit for the first bucket, the second for all others.
        if current >= BUCKETS[min(len(filled), 1)]:
            filled.append(current)
            current = 0
    return [*filled, current] if current else filled


# ---- the original


def count_original(checkout: Path, device: str) -> dict[str, Any]:
    """Count a step of the original: forward, loss, backward, clipping and optimizer."""
    models, args = import_original(checkout, device)
    # Costs (Q, T) are fake and have no values to assign by: object i takes query i. The loss costs the same for any
    # pairs.
    importlib.import_module("models.matcher").linear_sum_assignment = lambda cost: (range(cost.shape[1]),) * 2
    counter = StepCounter()
    with fake_device(torch.device(device)) as fake, ReadNumbers():
        model, criterion, _ = models.build_model(args)
        model.to(device).train()
        criterion.to(device).train()
        fake.follow(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=args.weight_decay)
        # Else the first step would also count how AdamW makes its moments.
        make_state(optimizer)
        batch, targets = original_batch(device)
        with counter:
            with saved_for_backward(counter.counts, model):
                counter.section = "forward"
                outputs = model(batch)
                counter.section = "loss"
                losses = criterion(outputs, targets)
            total = sum(losses[name] * weight for name, weight in criterion.weight_dict.items() if name in losses)
            counter.section = "backward"
            total.backward()
            counter.section = "optimizer_step"
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_max_norm)
            optimizer.step()
    return products_of(counter.counts) | by_version(counter.counts)


def import_original(checkout: Path, device: str) -> tuple[ModuleType, argparse.Namespace]:
    """Import the checkout's modules in the place of ours; return `models` and its flags with their defaults."""
    ours = ("util", "models", "datasets", "engine", "main")
    for name in [name for name in sys.modules if name.partition(".")[0] in ours]:
        # Python would give our modules back under the original's names.
        del sys.modules[name]
    sys.path.insert(0, str(checkout))
    main, models = importlib.import_module("main"), importlib.import_module("models")
    importlib.import_module("models.backbone").is_main_process = lambda: False  # else it downloads weights
    args = argparse.ArgumentParser(parents=[main.get_args_parser()]).parse_args(["--device", device])
    return models, args


def original_batch(device: str) -> tuple[Any, list[dict[str, Any]]]:
    """Return the batch on the device, in the original's class."""
    misc = importlib.import_module("util.misc")
    images = torch.zeros(2, 3, *SIZE, device=device)
    targets = [
        {
            "labels": torch.zeros(OBJECTS, dtype=torch.int64, device=device),
            "boxes": torch.full((OBJECTS, 4), 0.5, device=device),
        }
        for _ in range(2)
    ]
    return misc.NestedTensor(images, torch.zeros(2, *SIZE, dtype=torch.bool, device=device)), targets


# ---- the file


def version() -> str:
    """Return PyTorch's minor version: 2.14."""
    return ".".join(torch.__version__.split(".")[:2])


def collect(known: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Count cases, and keep of the known file what is of others and of other versions."""
    found = {name: count(*CASES[name]) for name in names}
    versions = dict(known.get("torch", {}))
    # Merged by case: --only one must not drop the others' counts.
    versions[version()] = versions.get(version(), {}) | {name: counts["version"] for name, counts in found.items()}
    always = {name: counts["always"] for name, counts in found.items()}
    return dict(known) | {"always": known.get("always", {}) | always, "torch": versions}


def changes(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Yield a line for each number that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys((*before, *now)):
            yield from changes(
                before.get(name, "nothing"), now.get(name, "nothing"), f"{place}{': ' * bool(place)}{name}"
            )
    elif before != now:
        yield f"{place}: {before} -> {now}"


def compare(known: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return a line for each change; of the operators only where the file has them for this version of PyTorch."""
    lines = list(changes(known.get("always", {}), now["always"]))
    if version() in known.get("torch", {}):
        lines += changes(known["torch"][version()], now["torch"][version()])
    return lines


def main() -> int:
    """Compare or accept; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="(%(default)s)")
    parser.add_argument("--accept", action="store_true", help=f"write the counts to {FILE.name}")
    parser.add_argument("--original", type=Path, help="count a checkout of facebookresearch/detr, too")
    options = parser.parse_args()
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    now = collect(known, options.only)
    for line in (lines := compare(known, now)):
        print(line)
    if version() not in known.get("torch", {}):
        print(f"{FILE.name} has no operators and bytes of PyTorch {version()}: not compared")
    if not options.accept:
        print(f"{len(lines)} counts changed: make counts accepts them" if lines else "all counts are as they were")
        return int(bool(lines))
    if options.original:
        checkout = options.original.resolve()
        now["original"] = {"torch": version(), "checkout": "facebookresearch/detr"}
        now["original"] |= {
            device: count_original(checkout, kind) for device, (kind, flags) in CASES.items() if not flags
        }
    FILE.write_text(json.dumps(now, indent=1) + "\n")
    print(f"wrote {FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
