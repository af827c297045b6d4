"""Time a training step, ours and, given `--original DIR`, the original's in alternation on the same inputs.

    python benchmarks/train_step.py                                 ours alone
    python benchmarks/train_step.py --original ../facebookresearch-detr   the ratio

Each implementation runs in a process of its own, with its own engine; steps alternate, so that what else the machine
does meets both alike. Prints medians, where the time goes, device reads, and the share of the machine's matrix rate, and writes a dated JSON beside this file. Flags after `--` go to both models:
`-- --backbone resnet18 --enc_layers 2`.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.child import Child  # noqa: E402 (the project is not installed, the line above finds it)
from util.run_info import run_info  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `model_flags` are those after `--`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, help="a checkout of facebookresearch/detr to compare with")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(800, 1066), metavar=("H", "W"), help="pictures (%(default)s)"
    )
    parser.add_argument("--batch_size", type=int, default=2, help="pictures a step (%(default)s)")
    parser.add_argument("--objects", type=int, default=7, help="objects a picture; COCO has 7 (%(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each, after one that is not (%(default)s)")
    parser.add_argument("--amp", default="off", help="precision of ours: off, bf16 or fp16; the original stays float32")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file (default: train_step-DATE.json beside this script)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for both models")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Seconds and losses of every timed step, by implementation."""
    flags = ["--device", args.device, "--batch_size", str(args.batch_size), *args.model_flags]
    order = {"flags": flags, "size": args.size, "objects": args.objects, "threads": args.threads}
    order |= {"amp": args.amp, "count": True}
    checkouts = {"ours": ROOT} | ({"original": args.original.resolve()} if args.original else {})
    workers = {name: Child("step_worker.py", checkout, order) for name, checkout in checkouts.items()}
    results: dict[str, list[dict]] = {name: [] for name in workers}
    for step in range(args.steps + 1):
        for name, worker in workers.items():
            answer = worker.work()
            print(f"step {step} {name:>8}: {answer['seconds']:.3f} s, loss {answer['loss']:.4f}", flush=True)
            results[name].append(answer)
    for worker in workers.values():
        worker.close()
    return results


def describe(rows: list[dict], counts: dict, seconds: float) -> str:
    """Where the time goes, in ms by part, and what else is known of a step."""
    parts = {part: 1000 * statistics.median(row["parts"][part] for row in rows) for part in rows[0]["parts"]}
    times = ", ".join(f"{part} {ms:.0f}" for part, ms in parts.items())
    rate = max(row["matrix_rate"] for row in rows)
    share = counts["flops"] / seconds / rate
    return (
        f"ms: {times}; reads of the device {counts['reads']}; peak {rows[-1]['peak_mb']:.0f} MB; {counts['flops'] / 1e9:.0f} "
        f"GFLOP, {share:.0%} of the rate of matrix products ({rate / 1e9:.0f} GFLOP/s)"
    )


def main() -> None:
    """Measure, print medians and the ratio, and write the JSON."""
    args = parse_args()
    results = measure(args)
    counts = {name: rows.pop(0) for name, rows in results.items()}  # the first step is not timed, it counts
    medians = {name: statistics.median(r["seconds"] for r in rows) for name, rows in results.items()}
    for name, median in medians.items():
        print(f"{name:>8}: median {median:.3f} s a step, {args.batch_size / median:.2f} pictures a second")
        print(f"{'':>8}  {describe(results[name], counts[name], median)}")
    if "original" in medians:
        print(f"ours is {medians['original'] / medians['ours']:.2f} times as fast")
    date = datetime.date.today().isoformat()
    report = {
        "date": date, "command": "python " + " ".join(["benchmarks/train_step.py", *sys.argv[1:]]), "medians": medians,
        "steps": results, "counts": counts, "machine": run_info(args), "processor": platform.processor(), "torch": torch.__version__,
    }  # fmt: skip
    output = args.output or Path(__file__).with_name(f"train_step-{date}.json")
    output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
