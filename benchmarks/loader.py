"""Time the training loader on one core: pictures a second, ours and, given `--original DIR`, the original's in alternation.

    python benchmarks/loader.py --data coco                                       ours alone
    python benchmarks/loader.py --data coco --original ../facebookresearch-detr   the ratio

`--data` is a folder in COCO's layout. Each loader runs in a process of its own, on one core, with one thread. Passes over the
whole training set alternate, so that what else the machine does meets all alike. A pass ends with the padded batch that
leaves the loader: the original's holds normalised floats, ours bytes, which the GPU normalises. "ours, normalised" also
does that on the same core, as in training on a CPU. CPU time is what other programs on the core do not lengthen.
Prints medians and writes a dated JSON beside this file. Flags after `--` go to all: `-- --batch_size 4`.
"""

import argparse
import datetime
import json
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.child import Child  # noqa: E402 (the project is not installed, the line above finds it)
from util.run_info import run_info  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `loader_flags` are those after `--`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a folder in COCO's layout")
    parser.add_argument("--original", type=Path, help="a checkout of facebookresearch/detr to compare with")
    parser.add_argument(
        "--passes", type=int, default=7, help="timed passes of each, after one that is not (%(default)s)"
    )
    parser.add_argument("--num_workers", type=int, default=0, help="worker processes, on the same core (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file (default: loader-DATE.json beside this script)")
    parser.add_argument("loader_flags", nargs="*", help="after --: flags for both loaders")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Pictures and seconds of every timed pass, by implementation."""
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    flags = ["--coco_path", str(args.data.resolve()), "--num_workers", str(args.num_workers), *args.loader_flags]
    order = {"flags": flags, "core": core, "normalise": False}
    children = {
        "ours": Child("loader_worker.py", ROOT, order),
        "ours, normalised": Child("loader_worker.py", ROOT, order | {"normalise": True}),
    }
    if args.original:
        children["original"] = Child("loader_worker.py", args.original.resolve(), order)
    results: dict[str, list[dict]] = {name: [] for name in children}
    for i in range(args.passes + 1):
        for name, child in children.items():
            answer = child.work()
            print(f"pass {i} {name:>16}: {answer['pictures'] / answer['seconds']:.1f} pictures a second", flush=True)
            if i:
                results[name].append(answer)
    for child in children.values():
        child.close()
    return results


def speeds(results: dict[str, list[dict]], seconds: str) -> dict[str, float]:
    """Median pictures a second by implementation; `seconds` is the clock's "seconds" or "cpu_seconds"."""
    return {name: statistics.median(r["pictures"] / r[seconds] for r in rows) for name, rows in results.items()}


def main() -> None:
    """Measure, print medians and ratios, and write the JSON."""
    args = parse_args()
    results = measure(args)
    medians = {"seconds": speeds(results, "seconds")}
    if not args.num_workers:  # the CPU time of workers is not the loading process's
        medians["cpu_seconds"] = speeds(results, "cpu_seconds")
    for seconds, by_name in medians.items():
        for name, speed in by_name.items():
            ratio = f", {speed / by_name['original']:.2f} times the original" if "original" in by_name else ""
            print(f"{name:>16}: median {speed:.1f} pictures per {seconds[:-1].replace('_', ' ')}{ratio}")
    date = datetime.date.today().isoformat()
    command = "python " + " ".join(["benchmarks/loader.py", *sys.argv[1:]])
    report = {
        "date": date,
        "command": command,
        "better": "higher",
        "medians": medians,
        "passes": results,
        "machine": run_info(args),
    }
    output = args.output or Path(__file__).with_name(f"loader-{date}.json")
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
