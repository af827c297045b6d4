"""Run every benchmark, one after the other, for `make bench`.

    make bench BENCH="--original ../facebookresearch-detr --data_path coco"        everything, beside the original
    make bench BENCH="--device cuda --original ../facebookresearch-detr --data_path coco"
    make bench BENCH=--quick                                 all of them, so small that they only show that they work

What lacks its data (`--data_path`) or its package is left out, in one line. A benchmark that fails does not keep the
others from running; the exit code is then 1. Each prints its seconds at the end. Dated JSONs lie beside the scripts;
with --quick none is kept. Not among them: what trains for hours (`convergence.py`, `small_data.py`, `reliability.py`),
and `padding.py`, which needs a trained model.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.inference import RUNTIMES, TO_EXPORT

HERE = Path(__file__).resolve().parent
TINY_MODEL = "-- --backbone resnet18 --enc_layers 1 --dec_layers 1 --hidden_dim 128 --dim_feedforward 64".split()
TINY_MODEL += ["--num_queries", "20"]
#: Flags that make each benchmark small, by name.
QUICK = {
    "train_step": ["--size", "96", "128", "--steps", "1", *TINY_MODEL],
    "inference": ["--size", "96", "128", "--rounds", "1", "--batch_sizes", "1", "2", *TINY_MODEL],
    "evaluation": ["--images", "20", "--rounds", "1"],
    "evaluation-segm": ["--images", "5", "--rounds", "1"],
    "masks": "--size 96 128 -- --enc_layers 1 --dec_layers 1".split(),  # the original's heads fit ResNet-50
    "scaling": ["--side", "64", "--rounds", "1", "--sweeps", "queries", "--values", "5", "10", *TINY_MODEL],
    "scaling_model": "--check --cases R18 --rounds 1 --most_off 100".split(),  # one round says nothing
    "loader": ["--passes", "1"],
    "matcher": ["--cases", "COCO", "--batch_sizes", "1", "--rounds", "1"],
    "convolutions": ["--size", "64", "96", "--rounds", "1", "--types", "float32", *TINY_MODEL],
    "variants": "--model small --only plain --size 64 96 --steps 1".split(),
    "sparse_attention": "--rounds 1 --shapes 2x8x16".split(),
    "cost_card": ["--only", "r50 small", "--rounds", "1", *TINY_MODEL, "--image_size", "64"],
    "kernels": ["--gpus", "h200", "--batch_sizes", "2", *TINY_MODEL],
    "checkpoint": ["--size", "64", "96", "--rounds", "1", "--flags", f"--device cpu {' '.join(TINY_MODEL[1:])}"],
    "end_to_end": ["--rounds", "1", "--epochs", "1", "--images", "4", "--", "--enc_layers", "1", "--dec_layers", "1"],
    "panoptic": ["--rounds", "1"],
    "annotations": ["--images", "50", "--boxes", "300", "--runs", "1", "--workers", "1"],
    "large_annotations": "--fraction 0.0001 --only first later".split(),
    "roofline": ["--kernels", "200", "--names", "20"],
}
#: Flags of whole measurements that are not a benchmark's default.
WHOLE = {
    "evaluation-segm": ["--images", "200"],  # a COCO-sized set of masks does not fit into memory
    "scaling_model": ["--check"],
    "large_annotations": ["--fraction", "0.25"],  # the whole would take 7 GB of disk
}
#: Flags that are passed on, by the benchmarks that know them.
KNOW_DEVICE = ("train_step", "inference", "scaling", "variants")
KNOW_ORIGINAL = ("train_step", "inference", "evaluation", "masks", "scaling", "loader", "matcher", "end_to_end")
#: Switches to measure on a GPU beside float32, where a step may be short enough for a compiler to matter.
ALSO_ON_GPU = ["--also=--amp bf16", "--also=--amp bf16 --compile"]
KNOW_ALSO = ("train_step", "inference")
#: The flag that names the data, and what of --data_path it is.
NEED_DATA = {
    "loader": ("--data", ""),
    "end_to_end": ("--data_path", ""),
    "panoptic": ("--annotations", "annotations/panoptic_val2017.json"),
}
NEED_PACKAGE = {"sparse_attention": "entmax"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--original", type=Path, help="a checkout of facebookresearch/detr to compare with")
    parser.add_argument("--data_path", type=Path, help="a folder in COCO's layout")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for what knows both (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=QUICK, default=list(QUICK), metavar="NAME", help="(%(default)s)")
    parser.add_argument("--skip", nargs="+", choices=QUICK, default=[], metavar="NAME", help="leave these out")
    parser.add_argument("--quick", action="store_true", help="see that all work; figures mean nothing and are not kept")
    return parser.parse_args(argv)


def lacking(name: str, args: argparse.Namespace) -> str | None:
    """Return what a benchmark needs and does not have, None if it can run."""
    if name in NEED_DATA and args.data_path is None:
        return "--data_path"
    if name in NEED_DATA and not (path := args.data_path / NEED_DATA[name][1]).exists():
        return str(path)
    package = NEED_PACKAGE.get(name)
    return f"pip install {package}" if package and find_spec(package) is None else None


def runtimes() -> list[str]:
    """Return the installed programs that can run our model beside us."""
    return [name for name in RUNTIMES if all(find_spec(package) for package in (name, *TO_EXPORT))]


def command_of(name: str, args: argparse.Namespace, output: Path | None) -> list[str]:
    """Return a benchmark's command. `output` is a JSON file other than its own."""
    script, _, variant = name.partition("-")
    flags = ["--iou_type", variant] if variant else []
    if name in NEED_DATA:
        flag, part = NEED_DATA[name]
        flags += [flag, str(args.data_path / part)]
    if args.original and name in KNOW_ORIGINAL:
        flags += ["--original", str(args.original)]
    if args.device != "cpu" and name in KNOW_DEVICE:
        flags += ["--device", args.device, *(ALSO_ON_GPU if name in KNOW_ALSO else [])]
    if args.device == "cpu" and name == "inference" and (found := runtimes()):
        flags += ["--runtimes", *found]
    if output is not None:
        flags += ["--output", str(output)]
    flags += QUICK[name] if args.quick else WHOLE.get(name, [])
    # Behind `--`, where the flags of main.py stand, and so after all others.
    if args.device != "cpu" and name == "end_to_end":
        flags += [*([] if "--" in flags else ["--"]), "--device", args.device]
    return [sys.executable, str(HERE / f"{script}.py"), *flags]


def run(name: str, args: argparse.Namespace) -> int:
    """Run a benchmark; return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        command = command_of(name, args, Path(folder) / f"{name}.json" if args.quick else None)
        return subprocess.run(command).returncode


def summary(seconds: dict[str, float], failed: Sequence[str]) -> str:
    """Return a line for each benchmark that ran, and one for all."""
    lines = [f"{name:>18} {took:7.0f} s{'  FAILED' if name in failed else ''}" for name, took in seconds.items()]
    return "\n".join([*lines, f"{'together':>18} {sum(seconds.values()):7.0f} s"])


def main(argv: list[str] | None = None) -> int:
    """Run them; 1 where one failed."""
    args = parse_args(argv)
    seconds: dict[str, float] = {}
    failed = []
    for name in [name for name in args.only if name not in args.skip]:
        if need := lacking(name, args):
            print(f"== {name}: left out, it needs {need}", flush=True)
            continue
        print(f"== {name}", flush=True)
        began = time.monotonic()
        if run(name, args):
            failed.append(name)
        seconds[name] = time.monotonic() - began
    print(summary(seconds, failed))
    print(f"failed: {', '.join(failed)}" if failed else "all ran")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
