"""Time COCO's evaluation of a COCO-sized set: ours, pycocotools and, given `--original DIR`, the original's evaluator.

    python benchmarks/evaluation.py                                       5,000 images, 100 detections each, 80 classes
    python benchmarks/evaluation.py --iou_type segm --images 1000       masks
    python benchmarks/evaluation.py --original ../facebookresearch-detr

Objects and detections are generated, the same for all, with crowds, score ties and empty images. Each implementation
runs in a process of its own and starts from tensors on the host in batches of two, as a model leaves them; runs
alternate. "whole" is everything up to the printed table, "numbers" what remains when the last batch has been handed
over. The twelve numbers must be equal to the last bit, or the script ends with exit code 1. Writes a dated JSON.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.report import ROOT, Implementation, benchmark_parser, implementations, print_medians, write_report


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark."""
    parser = benchmark_parser("evaluation", __doc__)
    parser.add_argument("--images", type=int, default=5000, help="as COCO val2017 has (%(default)s)")
    parser.add_argument("--detections", type=int, default=100, help="an image (%(default)s)")
    parser.add_argument("--objects", type=int, default=7, help="an image on average (%(default)s)")
    parser.add_argument("--classes", type=int, default=80, help="(%(default)s)")
    parser.add_argument("--iou_type", default="bbox", choices=("bbox", "segm"), help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each, after one that is not (%(default)s)")
    return parser.parse_args()


def main() -> int:
    """Measure, compare the numbers, print medians and write the JSON."""
    args = parse_args()
    order = {name: getattr(args, name) for name in ("images", "detections", "objects", "classes", "iou_type")}
    order["threads"] = args.threads
    # Always there: it is the definition of COCO's numbers.
    evaluators = implementations(args) | {"pycocotools": Implementation(ROOT)}
    workers = {
        name: Child("evaluation_worker.py", one.checkout, order | {"evaluator": name})
        for name, one in evaluators.items()
    }
    runs = alternate(workers, args.rounds, describe=lambda a: f"{a['whole']:.3f} s, numbers {a['numbers']:.3f} s")
    medians = {part: medians_of(runs, part) for part in ("whole", "numbers")}
    print_medians(medians, "s", against=["pycocotools"])
    # JSON keeps a float64 to the last bit, so == compares all of it.
    stats = {name: rows[0]["stats"] for name, rows in runs.items()}
    equal = all(row["stats"] == stats["pycocotools"] for rows in runs.values() for row in rows)
    print(f"the twelve numbers are {'equal to the last bit' if equal else f'NOT equal: {stats}'}")
    variant = "" if args.iou_type == "bbox" else args.iou_type
    write_report(
        "evaluation", args, medians=medians, unit="s", variant=variant, numbers_equal=equal, stats=stats, runs=runs
    )
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
