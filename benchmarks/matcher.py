"""Time the matcher on six decoder layers, ours and, given `--before DIR` or `--original DIR`, others in alternation.

    python benchmarks/matcher.py --before ../before                crowded images, and COCO's usual seven objects
    python benchmarks/matcher.py --batch_sizes 32 --steps 3        and the share of a training step

Random predictions: trained ones are assigned in less time. Each implementation runs in a process of its own. With
`--steps` a training step of R50 on one image of 800 x 1066, with as many queries and objects, is timed beside them; the
step of a batch is taken as so many times that of one image. The pairs must be equal for all. Writes a dated JSON.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.report import ROOT, benchmark_parser, implementations, print_medians, write_report

#: Queries and objects of an image.
CASES = {"crowded": (900, 500), "COCO": (100, 7)}
SIZE = (800, 1066)


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark."""
    parser = benchmark_parser("matcher", __doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="(%(default)s)")
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[1, 4], help="images (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="timed matchings of each (%(default)s)")
    parser.add_argument("--steps", type=int, default=0, help="timed training steps of one image (%(default)s)")
    return parser.parse_args()


def match(args: argparse.Namespace, case: str, batch_size: int) -> dict[str, list[dict[str, Any]]]:
    """Answers of every timed matching by implementation. Raises SystemExit where their pairs differ."""
    queries, objects = CASES[case]
    order = {"threads": args.threads, "batch_size": batch_size, "queries": queries, "objects": objects}
    workers = {name: Child("matcher_worker.py", one.checkout, order) for name, one in implementations(args).items()}
    runs = alternate(workers, args.rounds, describe=lambda a: f"{1e3 * a['seconds']:.1f} ms, {a['peak_mb']:.0f} MB")
    if len({answer["pairs"] for rows in runs.values() for answer in rows}) != 1:
        raise SystemExit(f"{case}, batch {batch_size}: the pairs differ")
    return runs


def step(args: argparse.Namespace, case: str) -> list[dict[str, Any]]:
    """Answers of every timed training step of one image, ours."""
    queries, objects = CASES[case]
    flags = ["--device", "cpu", "--batch_size", "1", "--num_queries", str(queries)]
    order = {"size": SIZE, "objects": objects, "threads": args.threads, "flags": flags}
    workers = {"a step": Child("step_worker.py", ROOT, order)}
    return alternate(workers, args.steps, describe=lambda a: f"{a['seconds']:.3f} s")["a step"]


def main() -> None:
    """Measure, print medians, ratios and shares of a step, and write the JSON."""
    args = parse_args()
    runs = {f"{case}, batch {n}": match(args, case, n) for case in args.cases for n in args.batch_sizes}
    steps = {case: step(args, case) for case in args.cases} if args.steps else {}
    medians = {row: medians_of(answers) for row, answers in runs.items()}
    print_medians(medians, "s")
    for case, answers in steps.items():
        one = medians_of({"step": answers})["step"]
        for batch_size in args.batch_sizes:
            ours = medians[f"{case}, batch {batch_size}"]["ours"]
            print(f"{case}, batch {batch_size}: {ours / (batch_size * one):.2%} of {batch_size} x {one:.2f} s")
    write_report("matcher", args, medians=medians, unit="s a batch", runs=runs, steps_of_one_image=steps)


if __name__ == "__main__":
    main()
