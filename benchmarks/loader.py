"""Time the training loader on one core, images a second: ours and, given `--original DIR`, the original's alternating.

    python benchmarks/loader.py --data coco                                       ours alone
    python benchmarks/loader.py --data coco --original ../facebookresearch-detr   the ratio

`--data` is a folder in COCO's layout. Each loader runs in a process of its own, on one core, with one thread. Passes
over the whole training set alternate, so that other programs on the machine slow all alike. A pass ends with the
padded batch that leaves the loader: the original's holds normalised floats, ours bytes, which the GPU normalises.
"ours, normalised" also does that on the same core, as in training on a CPU. CPU time is not lengthened by other
programs on the core. Prints medians and writes a dated JSON. Flags after `--` go to all: `-- --batch_size 4`.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate
from benchmarks.report import benchmark_parser, implementations, write_report


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `loader_flags` are those after `--`."""
    parser = benchmark_parser("loader", __doc__, threads=False, also=[])
    parser.add_argument("--data", type=Path, required=True, help="a folder in COCO's layout")
    parser.add_argument(
        "--passes", type=int, default=7, help="timed passes of each, after one that is not (%(default)s)"
    )
    parser.add_argument("--num_workers", type=int, default=0, help="worker processes, on the same core (%(default)s)")
    parser.add_argument("loader_flags", nargs="*", help="after --: flags for both loaders")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Images and seconds of every timed pass, by implementation."""
    # All on one core: they take turns, so they never share it, and its cache and clock are the same for each.
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    flags = ["--coco_path", str(args.data.resolve()), "--num_workers", str(args.num_workers), *args.loader_flags]
    children = {}
    for name, one in implementations(args).items():
        order = {"flags": [*flags, *one.flags], "core": core}
        children[name] = Child("loader_worker.py", one.checkout, order | {"normalise": False})
        if name == "ours":
            children["ours, normalised"] = Child("loader_worker.py", one.checkout, order | {"normalise": True})
    return alternate(children, args.passes, describe=lambda a: f"{a['images'] / a['seconds']:.1f} images a second")


def speeds(runs: dict[str, list[dict[str, Any]]], seconds: str) -> dict[str, float]:
    """Median images a second by implementation; `seconds` is the clock's "seconds" or "cpu_seconds"."""
    return {name: statistics.median(r["images"] / r[seconds] for r in rows) for name, rows in runs.items()}


def main() -> None:
    """Measure, print medians and ratios, and write the JSON."""
    args = parse_args()
    runs = measure(args)
    medians = {"seconds": speeds(runs, "seconds")}
    if not args.num_workers:  # the CPU time of workers is not the loading process's
        medians["cpu_seconds"] = speeds(runs, "cpu_seconds")
    for seconds, by_name in medians.items():
        for name, speed in by_name.items():
            ratio = f", {speed / by_name['original']:.2f} times the original" if "original" in by_name else ""
            print(f"{name:>16}: median {speed:.1f} images per {seconds[:-1].replace('_', ' ')}{ratio}")
    write_report("loader", args, medians=medians, unit="images by each row", better="higher", runs=runs)


if __name__ == "__main__":
    main()
