"""Time inference, model and postprocessor: ours and, given `--original DIR`, the original's in alternation.

    python benchmarks/inference.py --original ../facebookresearch-detr                 batch 1 and 16, R50, 800 x 1066
    python benchmarks/inference.py --original ../facebookresearch-detr --device cuda
    python benchmarks/inference.py --batch_sizes 1 --size 200 300 -- --backbone resnet18

Each implementation runs in a process of its own on the same inputs, from padded images on the device to boxes in
pixels on the host. Ours is timed in bfloat16, too (`--also`). Batches of each implementation alternate. Prints
medians and writes a dated JSON. Flags after `--` go to all models.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.report import benchmark_parser, implementations, print_medians, write_report


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `model_flags` are those after `--`."""
    parser = benchmark_parser("inference", __doc__, also=["--amp bf16"])
    parser.add_argument(
        "--size", type=int, nargs=2, default=(800, 1066), metavar=("H", "W"), help="images (%(default)s)"
    )
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=(1, 16), help="images at once (%(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=7, help="timed batches of each, after two that are not (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for all models")
    return parser.parse_args()


def measure(args: argparse.Namespace, batch_size: int) -> dict[str, list[dict]]:
    """Time batches: seconds and a checksum of the scores of every timed batch, by implementation."""
    flags = ["--device", args.device, "--batch_size", str(batch_size), *args.model_flags]
    order = {"size": args.size, "threads": args.threads}
    workers = {
        name: Child("inference_worker.py", one.checkout, order | {"flags": [*flags, *one.flags]})
        for name, one in implementations(args).items()
    }
    return alternate(
        # Two that do not count: libraries choose their kernels, and --compile compiles.
        workers,
        args.rounds,
        warm_up=2,
        describe=lambda a: f"{a['seconds']:.3f} s, mean score {a['score']:.6f}",
    )


def main() -> None:
    """Measure, print medians and ratios, and write the JSON."""
    args = parse_args()
    runs = {f"batch {size}": measure(args, size) for size in args.batch_sizes}
    medians = {row: medians_of(answers) for row, answers in runs.items()}
    print_medians(medians, "s")
    variant = "" if args.device == "cpu" else args.device
    write_report("inference", args, medians=medians, unit="s a batch", variant=variant, runs=runs)


if __name__ == "__main__":
    main()
