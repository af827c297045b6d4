"""Memory and time of a training step with masks, ours and, given `--original DIR`, the original's, on the same inputs.

    python benchmarks/masks.py                                       ours alone
    python benchmarks/masks.py --original ../facebookresearch-detr   the ratio

One implementation after the other, each in a process of its own, with its own engine: the most memory the process had
(resident, libraries and weights included). Writes a dated JSON beside this file. Flags after `--` go to both
models, `--ours` to ours alone: `--ours=--mask_chunk=8 -- --backbone resnet18`.
"""

import argparse
import datetime
import json
import os
import sys
from pathlib import Path

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
    parser.add_argument("--steps", type=int, default=1, help="steps of each (%(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads (%(default)s)")
    parser.add_argument("--ours", action="append", default=[], metavar="FLAG", help="a flag for our model alone")
    parser.add_argument("--output", type=Path, help="JSON file (default: masks-DATE.json beside this script)")
    parser.add_argument("model_flags", nargs="*", help="after --: flags for both models")
    args = parser.parse_args()
    args.device = "cpu"
    return args


def measure(args: argparse.Namespace) -> dict[str, list[dict]]:
    """Memory, seconds and losses of every step, by implementation."""
    flags = ["--device", "cpu", "--masks", "--batch_size", str(args.batch_size), "--dropout", "0", *args.model_flags]
    order = {"size": args.size, "objects": args.objects, "threads": args.threads}
    checkouts = {"ours": (ROOT, args.ours)} | ({"original": (args.original.resolve(), [])} if args.original else {})
    results = {}
    for name, (checkout, own_flags) in checkouts.items():
        worker = Child("step_worker.py", checkout, order | {"flags": flags + own_flags})
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
    results = measure(args)
    peaks = {name: rows[-1]["peak_mb"] for name, rows in results.items()}
    if "original" in peaks:
        print(f"ours needs {peaks['ours'] / peaks['original']:.2f} of the original's memory")
    date = datetime.date.today().isoformat()
    command = "python " + " ".join(["benchmarks/masks.py", *sys.argv[1:]])
    report = {"date": date, "command": command, "peak_mb": peaks, "steps": results, "machine": run_info(args)}
    if args.original:  # its folder is nobody's business
        report = json.loads(json.dumps(report, default=str).replace(str(args.original), "facebookresearch-detr"))
    output = args.output or Path(__file__).with_name(f"masks-{date}.json")
    output.write_text(json.dumps(report, indent=1, default=str) + "\n")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
