"""Time a training step with each research switch, in alternation on the same inputs, and count its operators.

    python benchmarks/variants.py --threads 1                   ResNet-50, 2 images of 800 x 1066, stride 32
    python benchmarks/variants.py --threads 1 --model small     the model of recipes/bccd.sh, 4 images, stride 16

The names are those of `convergence.py`. Each variant runs in a process of its own, as in `train_step.py`. Prints the
medians and their ratios to the first variant's, and writes a dated JSON. On a CPU with one thread the ratios are of the
seconds that were computed, which other programs on the machine hardly change. Flags after `--` go to all models.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.convergence import VARIANTS
from benchmarks.report import ROOT, benchmark_parser, write_report

#: Variants by name: those of `convergence.py`, and anchors with DETR's own classes.
ALL = VARIANTS | {"dab local, softmax": "--feature_map c4 --queries dab --local_attention"}
#: For each --model: flags, height and width of its images, and objects in each.
MODELS = {
    "r50": ("--backbone resnet50 --batch_size 2", (800, 1066), 7),
    "small": (
        "--backbone mobilenet_v2 --batch_size 4 --hidden_dim 128 --nheads 4 --enc_layers 2 --dec_layers 3 "
        "--dim_feedforward 512 --num_queries 60 --dropout 0",
        (384, 512),
        14,
    ),
}
#: The stride of both, by --model, unless --feature_map says otherwise: every variant has the same.
MAPS = {"r50": "c5", "small": "c4"}
#: What is compared: seconds of the threads, or of the clock.
UNITS = {"cpu": "CPU s a step", "seconds": "s a step"}


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `model_flags` are those after `--`."""
    parser = benchmark_parser("variants", __doc__, original=False)
    parser.add_argument("--model", choices=MODELS, default="r50", help="(%(default)s)")
    parser.add_argument("--feature_map", choices=("c5", "c4"), help="of all variants (c5 of r50, c4 of small)")
    some = ["plain", "dab local, softmax", "dab local"]
    parser.add_argument("--only", nargs="+", choices=ALL, default=some, metavar="NAME", help="(%(default)s)")
    parser.add_argument(
        "--steps", type=int, default=7, help="timed steps of each, after two that are not (%(default)s)"
    )
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="images (800 1066 of r50)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for all models")
    return parser.parse_args()


def flags_of(variant: str, args: argparse.Namespace) -> list[str]:
    """Return the flags of a variant's model, all at the same stride."""
    model, stride = MODELS[args.model][0].split(), args.feature_map or MAPS[args.model]
    # The stride decides the number of cells, and with it the time: all variants get the same one.
    own = ALL[variant].replace("--feature_map c4", "").split()
    return ["--device", args.device, *model, "--feature_map", stride, *own, *args.model_flags]


def measure(args: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Seconds, parts, counts and losses of every timed step, by variant."""
    _, size, objects = MODELS[args.model]
    order = {"size": args.size or size, "objects": objects, "threads": args.threads, "count": True, "rate": False}
    workers = {name: Child("step_worker.py", ROOT, order | {"flags": flags_of(name, args)}) for name in args.only}
    return alternate(workers, args.steps, warm_up=2, describe=lambda a: f"{a['seconds']:.3f} s, loss {a['loss']:.4f}")


def main() -> None:
    """Measure, print medians, ratios and counts, and write the JSON."""
    args = parse_args()
    runs = measure(args)
    # With several threads CPU time is their sum, waiting loops included.
    key = "cpu" if args.device == "cpu" and args.threads == 1 else "seconds"
    medians = medians_of(runs, key)
    # The first name that was asked for is the measure.
    ratios = {name: value / medians[args.only[0]] for name, value in medians.items()}
    for name, rows in runs.items():
        beside = f", {ratios[name]:.3f} times {args.only[0]}" if name != args.only[0] else ""
        counts = f"{rows[-1]['operators']:,} operators, {rows[-1]['flops'] / 1e9:.1f} GFLOP, {rows[-1]['reads']} reads"
        parts = {part: 1000 * statistics.median(row["parts"][part] for row in rows) for part in rows[0]["parts"]}
        times = ", ".join(f"{part} {ms:.0f}" for part, ms in parts.items())
        print(f"{name:>24}: median {medians[name]:.4g} s{beside}; {counts}; ms: {times}")
    variant = args.model if args.device == "cpu" else f"{args.model}-{args.device}"
    write_report(
        "variants", args, medians={"step": medians}, unit=UNITS[key], variant=variant, ratios=ratios, runs=runs
    )


if __name__ == "__main__":
    main()
