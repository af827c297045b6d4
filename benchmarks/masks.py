"""Memory and time of a training step with masks, ours and, given `--original DIR`, the original's, on the same inputs.

    python benchmarks/masks.py                                       ours alone
    python benchmarks/masks.py --original ../facebookresearch-detr   the ratio

One implementation after the other, each in a process of its own, with its own engine: the most memory the process had
(resident, libraries and weights included). Writes a dated JSON. Flags after `--` go to all models, those of `--also` to
ours: `--also='--mask_chunk 8' -- --backbone resnet18`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, medians_of
from benchmarks.report import benchmark_parser, implementations, write_report


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `model_flags` are those after `--`."""
    parser = benchmark_parser("masks", __doc__, also=[])
    parser.add_argument(
        "--size", type=int, nargs=2, default=(800, 1066), metavar=("H", "W"), help="images (%(default)s)"
    )
    parser.add_argument("--batch_size", type=int, default=2, help="images a step (%(default)s)")
    parser.add_argument("--objects", type=int, default=7, help="objects an image; COCO has 7 (%(default)s)")
    parser.add_argument("--steps", type=int, default=1, help="steps of each (%(default)s)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for all models")
    args = parser.parse_args()
    args.device = "cpu"
    return args


def measure(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Memory, seconds and losses of every step, by implementation."""
    # Without dropout, which the implementations draw in another order, losses can be compared.
    flags = ["--device", "cpu", "--masks", "--batch_size", str(args.batch_size), "--dropout", "0", *args.model_flags]
    order = {"size": args.size, "objects": args.objects, "threads": args.threads}
    results: dict[str, list[dict]] = {}
    for name, one in implementations(args).items():
        worker = Child("step_worker.py", one.checkout, order | {"flags": [*flags, *one.flags]})
        # One after the other, unlike the other benchmarks: two models at once would share the memory that is measured.
        results[name] = []
        for _ in range(args.steps):
            results[name].append(answer := worker.work())
            print(
                f"{name:>8}: {answer['peak_mb']:.0f} MB at most, {answer['before_mb']:.0f} before the step; "
                f"{answer['seconds']:.1f} s, loss {answer['loss']:.4f}",
                flush=True,
            )
        worker.close()
    return results


def main() -> None:
    """Measure, print the ratio, and write the JSON."""
    args = parse_args()
    runs = measure(args)
    # A process's largest memory never falls: the last row has it.
    peaks = {name: rows[-1]["peak_mb"] for name, rows in runs.items()}
    for name in peaks if "original" in peaks else ():
        print(f"{name} needs {peaks[name] / peaks['original']:.2f} of the original's memory")
    medians = {"peak, MB": peaks, "step, s": medians_of(runs)}
    variant = "" if args.objects == 7 else f"{args.objects}-objects"
    write_report("masks", args, medians=medians, unit="as each row says", variant=variant, runs=runs)


if __name__ == "__main__":
    main()
