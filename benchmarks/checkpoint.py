"""Cost of saving: a checkpoint of DETR R50 beside its training step, ours and PyTorch's bare file.

    python benchmarks/checkpoint.py                     three saves and steps of each, 2 images of 800 x 1066
    python benchmarks/checkpoint.py --every 100         the part of the time, saving every 100 steps

Wall and CPU seconds: on a machine that others use too, the second say more. All kinds take turns.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import ROOT, benchmark_parser, write_report
from benchmarks.step_worker import build, make_batch
from engine import StepContext, add_gradients, optimizer_step
from util.runs.checkpoint import save_checkpoint


def plain_save(path: Path, state: dict[str, Any]) -> None:
    """Write a file as PyTorch does, without a checksum, and wait for the disk as ours does."""
    with path.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds of a piece of work."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(flags: str, *, size: tuple[int, int], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Time steps and saves in turns; return (wall, CPU) seconds of each round by what was done."""
    model, criterion, optimizer, _ = build(str(ROOT), flags.split())
    device, context = next(model.parameters()).device, StepContext()
    # Two images with 7 objects each, COCO's mean.
    batches = [make_batch(size, 2, 7, masks=False)]
    model.train()

    def step() -> None:
        add_gradients(model, criterion, batches, device, context)
        optimizer_step(model, optimizer, 0.1, context)

    step()  # makes the optimizer's state
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 0}
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder) / "checkpoint.pth", Path(folder) / "bare.pth"
        kinds: dict[str, Callable[[], object]] = {
            "step": step,
            "save": lambda: save_checkpoint(ours, state, previous=ours.with_name("previous.pth")),
            "bare save": lambda: plain_save(bare, state),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
        for _ in range(rounds):
            # In turns: a disk or a machine that grows slower slows all kinds alike.
            for name, work in kinds.items():
                found[name].append(timed(work))
    return found


def main() -> None:
    """Measure, print and write the report."""
    parser = benchmark_parser("checkpoint", __doc__ or "", original=False)
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--every", type=int, default=100, help="steps from save to save (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1066), help="height and width (%(default)s)")
    parser.add_argument("--flags", default="--device cpu", help="of the model (%(default)s)")
    args: argparse.Namespace = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.flags, size=tuple(args.size), rounds=args.rounds)
    medians = {
        kind: {name: round(median(pair[i] for pair in pairs), 3) for name, pairs in found.items()}
        for i, kind in enumerate(("wall", "CPU"))
    }
    # Percent of the time of the steps between two saves.
    parts = {kind: round(100 * row["save"] / (args.every * row["step"]), 3) for kind, row in medians.items()}
    for kind, row in medians.items():
        print(f"{kind} seconds: {row}; a save every {args.every} steps: {parts[kind]} %")
    write_report("checkpoint", args, medians=medians, unit="s", percent_of_the_steps=parts)


if __name__ == "__main__":
    main()
