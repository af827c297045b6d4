"""Time inference, model and postprocessor: ours and, given `--original DIR`, the original's in alternation.

    python benchmarks/inference.py --original ../facebookresearch-detr                 batch 1 and 16, R50, 800 x 1066
    python benchmarks/inference.py --original ../facebookresearch-detr --device cuda
    python benchmarks/inference.py --runtimes onnxruntime openvino                     the same model in other programs
    python benchmarks/inference.py --batch_sizes 1 --size 200 300 -- --backbone resnet18

Each implementation runs in a process of its own on the same inputs, from padded images on the device to boxes in
pixels on the host. Ours is timed in bfloat16, too (`--also`). Batches of each implementation alternate. The runtimes
get our weights as `export.py` writes them; that they compute the same is checked. Prints medians and writes a dated
JSON. Flags after `--` go to all models.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import Child, alternate, medians_of
from benchmarks.report import REFERENCES, ROOT, benchmark_parser, implementations, print_medians, write_report

#: What --runtimes measures: for each package the names of its rows and the types that it is asked to compute in.
RUNTIMES = {"onnxruntime": {"onnxruntime": ""}, "openvino": {"openvino f32": "f32", "openvino bf16": "bf16"}}
#: Packages that write the file for all of them.
TO_EXPORT = ("onnx", "onnxscript", "onnxruntime")
#: Largest difference of a score, or of a box as a part of the image, in float32: that of `export.py`.
TOLERANCE = 1e-3


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
    parser.add_argument(
        "--runtimes", nargs="+", choices=RUNTIMES, default=(), help="time our model in these programs, too, on the CPU"
    )
    parser.add_argument("model_flags", nargs="*", help="after --: flags for all models")
    args = parser.parse_args()
    _check_runtimes(parser, args)
    return args


def _check_runtimes(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not args.runtimes:
        return
    if args.device != "cpu":
        parser.error(f"--runtimes are measured on the CPU: leave out --device {args.device}, or --runtimes")
    missing = [name for name in dict.fromkeys((*args.runtimes, *TO_EXPORT)) if importlib.util.find_spec(name) is None]
    if missing:
        parser.error(f"--runtimes {' '.join(args.runtimes)} needs packages: pip install {' '.join(missing)}")


def measure(args: argparse.Namespace, batch_size: int, folder: Path) -> dict[str, list[dict]]:
    """Time batches: seconds and a checksum of the scores of every timed batch, by implementation.

    Their scores and boxes are left in `folder`.
    """
    flags = ["--device", args.device, "--batch_size", str(batch_size), *args.model_flags]
    order = {"size": args.size, "threads": args.threads, "batch_size": batch_size}
    workers = {
        name: Child(
            "inference_worker.py",
            one.checkout,
            order | {"flags": [*flags, *one.flags], "results": str(_results_of(name, folder))},
        )
        for name, one in implementations(args).items()
    }
    for package in args.runtimes:
        for name, precision in RUNTIMES[package].items():
            own = {"runtime": package, "precision": precision, "file": str(_file_of_ours(args, folder))}
            results = {"results": str(_results_of(name, folder))}
            workers[name] = Child("runtime_worker.py", ROOT, order | own | results)
    return alternate(
        # Two that do not count: libraries choose their kernels, and --compile compiles.
        workers,
        args.rounds,
        warm_up=2,
        describe=lambda a: f"{a['seconds']:.3f} s, mean score {a['score']:.6f}",
    )


def _results_of(name: str, folder: Path) -> Path:
    return folder / f"{name}.pt"


def _file_of_ours(args: argparse.Namespace, folder: Path) -> Path:
    """Return our model's ONNX file; write it where it is not there yet."""
    path = folder / "ours.onnx"
    if not path.exists():
        from benchmarks.runtime_worker import write_ours

        write_ours(["--device", "cpu", *args.model_flags], tuple(args.size), path)
    return path


def differences(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Compare what the runtimes and our other rows found in a batch with ours in float32.

    Returns:
        by row the largest difference of a score, and that of a box's side as a part of the image.

    Raises:
        SystemExit: a runtime computes something else in float32.
    """
    import torch

    ours = torch.load(_results_of("ours", folder))
    height, width = args.size
    # Boxes are xyxy in pixels; as a part of the image's sides they are comparable.
    sides = torch.tensor([width, height, width, height])
    found = {}
    rows = [name for name in implementations(args) if name not in ("ours", *REFERENCES)]
    for name in [*rows, *(name for package in args.runtimes for name in RUNTIMES[package])]:
        theirs = torch.load(_results_of(name, folder))
        score = (theirs["scores"] - ours["scores"]).abs().max().item()
        box = ((theirs["boxes"] - ours["boxes"]) / sides).abs().max().item()
        found[name] = {"score": score, "box": box}
        print(f"{name:>24}: scores within {score:.1e} of ours, boxes within {box:.1e} of the image's sides")
        # Rows in float32 must agree; what half precision loses is a result, and no fault.
        if name in ("onnxruntime", "openvino f32") and not max(score, box) <= TOLERANCE:
            raise SystemExit(f"{name} computes something else than our model: {TOLERANCE} is allowed")
    return found


def main() -> None:
    """Measure, print medians and ratios, and write the JSON."""
    args = parse_args()
    runs, compared = {}, {}
    for size in args.batch_sizes:
        with tempfile.TemporaryDirectory(prefix="inference-") as folder:
            runs[f"batch {size}"] = measure(args, size, Path(folder))
            compared[f"batch {size}"] = differences(args, Path(folder))
    medians = {row: medians_of(answers) for row, answers in runs.items()}
    runtimes = [name for package in args.runtimes for name in RUNTIMES[package]]
    print_medians(medians, "s", against=(*REFERENCES, *runtimes))
    variant = "" if args.device == "cpu" else args.device
    parts = {"differences": compared, "runs": runs}
    write_report("inference", args, medians=medians, unit="s a batch", variant=variant, **parts)


if __name__ == "__main__":
    main()
