"""`scaling_model.py --check`: the model's prediction of one and two gloo processes on this CPU, beside measured steps.

One process: the counted operators, timed beside every step, as the cost card does, both in seconds of the processor.
Two: the two processes' steps without exchange, which shows how they slow each other, and the exchange of all buckets by
a line through measured all-reduces. On a CPU it takes the cores that compute: nothing of it is hidden behind the
backward pass. Two cases, because the exchange is a large part of a small model's step and a small part of a large
one's.
"""

import argparse
import os
import statistics
from typing import Any

from benchmarks.counts import buckets
from benchmarks.exchange_model import Work, fit_line, step
from benchmarks.report import ROOT, print_medians, write_report
from benchmarks.torchrun import run_processes
from flags import get_args_parser
from util.flags import FlagParser

#: Bytes of the all-reduces that the line goes through: those of DistributedDataParallel's buckets.
SIZES = (2**20, 8 * 2**20, 25 * 2**20)
FLAGS = "--num_classes 91 --device cpu --batch_size 2".split()
#: Flags and the shorter side of the images, by model.
CASES = {"R18": ("--backbone resnet18", 64), "R50": ("", 320)}


def predict_two(rows: list[dict], sizes: list[int]) -> float:
    """Predict a step of two processes from their steps without exchange, and from all-reduces alone.

    Args:
        rows: of the rounds.
        sizes: bytes of the buckets.
    """
    times = [statistics.median(row["all_reduce"][str(size)] for row in rows) for size in SIZES]
    start, each = fit_line(SIZES, times)
    without = statistics.median(row["without"] for row in rows)
    # Every bucket is full at the end only, which hides nothing: the last part of the backward pass takes no time.
    work = Work(without, 0.0, ((0.0, 0.0), (float(sum(sizes)), 0.0)), 0.0)
    return step(work, [start + each * size for size in sizes], [float(size) for size in sizes]).seconds


def check_case(args: argparse.Namespace, given: str, side: int) -> dict[str, Any]:
    """Measure and predict with more flags, and images of `side` x 4/3 `side`."""
    typed = [*FLAGS, *given.split()]
    flags = FlagParser(parents=[get_args_parser()]).parse_args(typed)
    size, threads = (side, round(side * 4 / 3)), max(1, (os.cpu_count() or 1) // 2)
    order = {"checkout": str(ROOT), "flags": typed, "size": size, "objects": 7, "threads": threads}
    order |= {"rounds": args.rounds, "all_reduce": SIZES}
    one, two = (run_processes("exchange_worker.py", order, processes) for processes in (1, 2))
    return {
        "1 process": {
            "predicted": statistics.median(row["predicted"] for row in one),
            "measured": statistics.median(row["without"] for row in one),
        },
        "2 processes": {
            "predicted": predict_two(two, buckets(flags)),
            "measured": statistics.median(row["with"] for row in two),
            "without exchange": statistics.median(row["without"] for row in two),
        },
        "rows": {"1 process": one, "2 processes": two},
    }


def check(args: argparse.Namespace) -> int:
    """Print predicted beside measured steps, write the JSON; return 1 where they differ by more than `--most_off`."""
    found = {f"{name}, side {CASES[name][1]}": check_case(args, *CASES[name]) for name in args.cases}
    medians = {f"{case}, {name}": one[name] for case, one in found.items() for name in ("1 process", "2 processes")}
    print_medians(medians, "s a step", against=())
    wrong = 0
    for name, values in medians.items():
        off = values["predicted"] / values["measured"] - 1
        wrong += abs(off) > args.most_off
        print(f"{name}: predicted {off:+.0%} of the measured step")
    write_report("scaling_model", args, medians=medians, unit="s a step", runs={n: v["rows"] for n, v in found.items()})
    return int(wrong > 0)
