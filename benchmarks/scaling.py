"""Time a training step over batch size, image side, queries, objects an image, and processes: how does its cost grow?

    python benchmarks/scaling.py                                                  R50, all sweeps
    python benchmarks/scaling.py --original ../facebookresearch-detr --device cuda
    python benchmarks/scaling.py --sweeps queries processes --side 200 -- --backbone resnet18

One quantity is varied at a time, the others stay at batch 2, an image of `--side` x 4/3 `--side`, 100 queries and 7
objects. At every point each implementation has a process of its own (`step_worker.py`), and their steps alternate. On
the CPU a point that would need more memory than the machine has, going by the points before it, is left out with a
message. Of several processes each has a batch of 2 and its share of the threads, and images a second count. Prints
medians, writes a dated JSON and, beside it, a plot. Flags after `--` go to all models.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.report import ROOT, benchmark_parser, implementations, print_medians, write_report
from benchmarks.scaling_plot import plot_scaling
from benchmarks.torchrun import run_processes

#: Values of each sweep, growing.
SWEEPS = {
    "batch_size": (1, 2, 4, 8, 16, 32, 64),
    "side": (400, 600, 800, 1066, 1333),
    "queries": (10, 30, 100, 300, 1000),
    "objects": (1, 5, 20, 100, 500),
    "processes": (1, 2),
}


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `model_flags` are those after `--`."""
    parser = benchmark_parser("scaling", __doc__, also=[])
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS), help="what to vary (%(default)s)")
    parser.add_argument("--values", type=int, nargs="+", help="values of the sweep, instead of its own; for one sweep")
    parser.add_argument("--batch_size", type=int, default=2, help="where it is not varied (%(default)s)")
    parser.add_argument("--side", type=int, default=800, help="where it is not varied (%(default)s)")
    parser.add_argument("--queries", type=int, default=100, help="where they are not varied (%(default)s)")
    parser.add_argument("--objects", type=int, default=7, help="where they are not varied (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="timed steps of each point, after one that is not (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for all models")
    args = parser.parse_args()
    if args.values and len(args.sweeps) != 1:
        parser.error("--values is for one sweep: name it with --sweeps")
    return args


def order_of(args: argparse.Namespace, sweep: str, value: int) -> dict[str, Any]:
    """Return the order to a step worker for a point of a sweep."""
    point = {name: getattr(args, name) for name in ("batch_size", "side", "queries", "objects")} | {sweep: value}
    flags = f"--device {args.device} --batch_size {point['batch_size']} --num_queries {point['queries']}".split()
    # COCO's usual 3 : 4; the side is the shorter one.
    size = (point["side"], round(point["side"] * 4 / 3))
    return {"flags": [*flags, *args.model_flags], "size": size, "objects": point["objects"], "threads": args.threads}


def measure_point(args: argparse.Namespace, sweep: str, value: int) -> dict[str, list[dict]]:
    """Time steps of each implementation at a point."""
    order = order_of(args, sweep, value)
    if sweep == "processes":
        return {"ours": measure_processes(order, value, args.rounds)}
    workers = {
        name: Child("step_worker.py", one.checkout, order | {"flags": [*order["flags"], *one.flags]})
        for name, one in implementations(args).items()
    }
    return alternate(workers, args.rounds, describe=lambda a: f"{a['seconds']:.3f} s")


def measure_processes(order: dict[str, Any], processes: int, rounds: int) -> list[dict]:
    """Time steps of several processes together, which share the threads. Raises SystemExit when they fail."""
    # A share of the threads each: twice as many as cores would measure waiting.
    order = order | {"checkout": str(ROOT), "threads": max(1, order["threads"] // processes), "rounds": rounds}
    rows = run_processes("processes_worker.py", order, processes)
    return [row | {"images_a_second": row["images"] / row["seconds"]} for row in rows]


def fits(measured: dict[int, dict[str, list[dict]]], value: int, device: str) -> bool:
    """Return False where a point needs more than the memory, if it grows as between the two points before it."""
    if device != "cpu" or len(measured) < 2:
        return True
    peaks = [(v, max(row["peak_mb"] for rows in runs.values() for row in rows)) for v, runs in measured.items()]
    (v0, m0), (v1, m1) = peaks[-2:]
    # Along the line through the last two points; all implementations stay in memory together while they alternate.
    expected = (m1 + (m1 - m0) / (v1 - v0) * (value - v1)) * len(next(iter(measured.values())))
    return expected < 0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6


def measure_sweep(args: argparse.Namespace, sweep: str) -> dict[int, dict[str, list[dict]]]:
    """Time steps by value and implementation, up to the first value that does not fit."""
    measured: dict[int, dict[str, list[dict]]] = {}
    for value in args.values or SWEEPS[sweep]:
        if sweep in ("batch_size", "side") and not fits(measured, value, args.device):
            print(f"{sweep} {value} and above: left out, this machine's memory would not do")
            break
        print(f"{sweep} {value}")
        measured[value] = measure_point(args, sweep, value)
    return measured


def main() -> None:
    """Measure all sweeps, print medians, write the JSON and the plot."""
    args = parse_args()
    runs = {sweep: measure_sweep(args, sweep) for sweep in args.sweeps}
    medians = {f"{sweep} {value}": medians_of(rows) for sweep, points in runs.items() for value, rows in points.items()}
    print_medians(medians, "s a step")
    variant = "" if args.device == "cpu" else args.device
    path = write_report("scaling", args, medians=medians, unit="s a step", variant=variant, runs=runs)
    plot_scaling({sweep: {v: medians[f"{sweep} {v}"] for v in points} for sweep, points in runs.items()}, path)


if __name__ == "__main__":
    main()
