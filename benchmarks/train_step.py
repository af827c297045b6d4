"""Time a training step, ours and, given `--original DIR`, the original's in alternation on the same inputs.

    python benchmarks/train_step.py --original ../facebookresearch-detr            ours, ours in bfloat16, the original
    python benchmarks/train_step.py --before ../before --also=                     ours and an older checkout of ours
    python benchmarks/train_step.py --also=--compile --also="--channels_last off"   ours with and without these switches

Each implementation runs in a process of its own, with its own engine; steps alternate, so that other programs on the
machine slow all alike. The first two steps of each are not timed. Prints medians, the time of each part, device
reads, and the share of the machine's best rate of operations, and writes a dated JSON. Flags after `--` go to all
models: `-- --backbone resnet18 --enc_layers 2`.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.report import benchmark_parser, implementations, print_medians, write_report


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `model_flags` are those after `--`."""
    parser = benchmark_parser("train_step", __doc__, also=["--amp bf16"])
    parser.add_argument(
        "--size", type=int, nargs=2, default=(800, 1066), metavar=("H", "W"), help="images (%(default)s)"
    )
    parser.add_argument("--batch_size", type=int, default=2, help="images a step (%(default)s)")
    parser.add_argument("--objects", type=int, default=7, help="objects an image; COCO has 7 (%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=5, help="timed steps of each, after two that are not (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for all models")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Seconds, parts, counts and losses of every timed step, by implementation."""
    flags = ["--device", args.device, "--batch_size", str(args.batch_size), *args.model_flags]
    # The first warm-up step counts operators, the second a GPU's kernels: counting is slow and stays out of the times.
    order = {"size": args.size, "objects": args.objects, "threads": args.threads, "count": True}
    workers = {
        name: Child("step_worker.py", one.checkout, order | {"flags": [*flags, *one.flags]})
        for name, one in implementations(args).items()
    }
    return alternate(workers, args.steps, warm_up=2, describe=lambda a: f"{a['seconds']:.3f} s, loss {a['loss']:.4f}")


def describe(rows: list[dict[str, Any]]) -> str:
    """Describe a step in one line: ms by part, reads, kernels, memory, operations and their rate."""
    parts = {part: 1000 * statistics.median(row["parts"][part] for row in rows) for part in rows[0]["parts"]}
    times = ", ".join(f"{part} {ms:.0f}" for part, ms in parts.items())
    # The best of all measurements: a busy machine only ever shows a lower rate.
    last, rate = rows[-1], max(row["rate"] for row in rows)
    # FLOPs were counted in the first warm-up step; with fixed shapes they are the same in every step.
    share = last["flops"] / statistics.median(row["seconds"] for row in rows) / rate
    kernels = f"; {last['kernels']} kernels" if "kernels" in last else ""
    kernel = statistics.median(row["kernel_s"] for row in rows)
    faults = statistics.median(row["page_faults"] for row in rows)
    return (
        f"ms: {times}; {1e3 * kernel:.0f} ms of the processor in the kernel, {faults:,.0f} page faults; "
        f"reads of the device {last['reads']}{kernels}; peak {last['peak_mb']:.0f} MB; "
        f"{last['flops'] / 1e9:.0f} GFLOP, {share:.0%} of what this machine multiplies at best "
        f"({rate / 1e9:.0f} GFLOP/s)"
    )


def main() -> None:
    """Measure, print medians and ratios, and write the JSON."""
    args = parse_args()
    runs = measure(args)
    medians = {"step": medians_of(runs)}
    print_medians(medians, "s")
    for name, rows in runs.items():
        print(f"{name}: {args.batch_size / medians['step'][name]:.2f} images a second; {describe(rows)}")
    variant = "" if args.device == "cpu" else args.device
    write_report("train_step", args, medians=medians, unit="s a step", variant=variant, runs=runs)


if __name__ == "__main__":
    main()
