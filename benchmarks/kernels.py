"""Kernels of a training step on a GPU, predicted: does the GPU wait for launches, and would a CUDA graph save them?

    python benchmarks/kernels.py                                        R50, 2, 8 and 32 images of 800 x 1066
    python benchmarks/kernels.py --gpus h200 t4 --batch_sizes 2 -- --amp bf16 --masks

A step is counted on a GPU that need not be there (`training/fake_step.py`). Its operators become kernels by the rules
of `training/cost_card/prediction.py`. "Joined" are the kernels that are left when every run of elementwise operators,
copies and dropouts becomes one, the best that a compiler can do. The host takes `LAUNCH_S` for each operator, views
included; the GPU its roofs at 60 %, and 2 microseconds for a kernel at least. A graph replays a step without the host:
the step then takes what the GPU takes. What nobody measured is an assumption: nothing here has run on a GPU.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.report import benchmark_parser, write_report
from flags import get_args_parser
from training.cost_card.prediction import Prediction, kernels_of, predict_gpu
from training.cost_card.rates import LAUNCH_S, find_gpu, gpu_rates
from training.fake_step import count_step
from util.flags import FlagParser
from util.profiling.step_counter import Op, StepCounts

SIZE = (800, 1066)
#: Families of operators that a compiler writes into one kernel where they follow each other.
JOINABLE = frozenset(["elementwise", "copy", "dropout"])


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `run_flags` are those after `--`."""
    parser = benchmark_parser("kernels", __doc__, original=False, threads=False)
    parser.add_argument("--gpus", nargs="+", default=["t4", "a100 sxm 80gb", "h100 sxm5", "h200"], help="(%(default)s)")
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[2, 8, 32], help="(%(default)s)")
    parser.add_argument("run_flags", nargs="*", help="after --: flags of main.py")
    return parser.parse_args()


def joined(ops: Sequence[Op]) -> int:
    """Kernels that are left when neighbours of `JOINABLE` families in one section become one."""
    begins = [True] + [not _joins(before, after) for before, after in pairwise(ops)]
    return sum(kernels_of(op) for op, first in zip(ops, begins) if first)


def _joins(before: Op, after: Op) -> bool:
    families = {before.cost.family, after.cost.family}
    return before.section == after.section and families <= JOINABLE


def saved_by_graph(prediction: Prediction) -> float:
    """Share of a step (0..1) that a CUDA graph would save at most: where the host takes longer than the GPU."""
    return 1 - prediction.device / prediction.seconds


def count(batch_size: int, flags: Sequence[str]) -> StepCounts:
    """Count a step of a batch."""
    words = ["--num_classes", "91", "--batch_size", str(batch_size), *flags]
    return count_step(FlagParser(parents=[get_args_parser()]).parse_args(words), torch.device("cuda"), SIZE)


def main() -> None:
    """Print the table and write the JSON."""
    args = parse_args()
    rows = [find_gpu(name) for name in args.gpus]
    medians: dict[str, dict[str, float]] = {}
    for batch_size in args.batch_sizes:
        counts = count(batch_size, args.run_flags)
        calls = sum(counts.operators.values())
        kernels = sum(map(kernels_of, counts.ops))
        print(f"batch {batch_size}: {calls:,} operators, {kernels:,} kernels, {joined(counts.ops):,} joined")
        for row in rows:
            prediction = predict_gpu(counts.ops, gpu_rates(row), calls)
            saved = saved_by_graph(prediction)
            print(
                f"  {row['name']:<18} GPU {1e3 * prediction.device:7.1f} ms, host {1e3 * prediction.host:5.1f} ms, "
                f"a graph saves {saved:.0%}"
            )
            medians[f"batch {batch_size}, {row['name']}"] = {
                "GPU": prediction.device,
                "host": prediction.host,
                "kernels": kernels,
                "joined": joined(counts.ops),
                "operators": calls,
            }
    write_report("kernels", args, medians=medians, unit="s; numbers of kernels and operators", launch_s=LAUNCH_S)


if __name__ == "__main__":
    main()
