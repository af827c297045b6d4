"""Run every benchmark, one after the other, for `make bench`.

    make bench BENCH="--original ../facebookresearch-detr --data_path coco"        everything, beside the original
    make bench BENCH="--device cuda --original ../facebookresearch-detr --data_path coco"
    make bench BENCH=--quick                                 all of them, so small that they only show that they work

Those that need data (`loader.py`, `end_to_end.py`) are left out, in one line, without `--data_path`. A benchmark that
fails does not keep the others from running; the exit code is then 1. Dated JSONs lie beside the scripts; with --quick
none is kept.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

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
    "loader": ["--passes", "1"],
    "matcher": ["--cases", "COCO", "--batch_sizes", "1", "--rounds", "1"],
    "end_to_end": ["--rounds", "1", "--epochs", "1", "--images", "4", "--", "--enc_layers", "1", "--dec_layers", "1"],
    "annotations": ["--images", "50", "--boxes", "300", "--runs", "1", "--workers", "1"],
    "roofline": ["--kernels", "200", "--names", "20"],
}
#: Flags that are passed on, by the benchmarks that know them.
KNOW_DEVICE = ("train_step", "inference", "scaling")
KNOW_ORIGINAL = ("train_step", "inference", "evaluation", "masks", "scaling", "loader", "matcher", "end_to_end")
#: Switches to measure on a GPU beside float32, where a step may be short enough for a compiler to matter.
ALSO_ON_GPU = ["--also=--amp bf16", "--also=--amp bf16 --compile"]
NEED_DATA = {"loader": "--data", "end_to_end": "--data_path"}


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


def command_of(name: str, args: argparse.Namespace, output: Path | None) -> list[str] | None:
    """Return a benchmark's command, None where it lacks its data. `output` is a JSON file other than its own."""
    script, _, variant = name.partition("-")
    if name in NEED_DATA and args.data_path is None:
        return None
    flags = ["--iou_type", variant] if variant else []
    if name in NEED_DATA:
        flags += [NEED_DATA[name], str(args.data_path)]
    if args.original and name in KNOW_ORIGINAL:
        flags += ["--original", str(args.original)]
    if args.device != "cpu" and name in KNOW_DEVICE:
        flags += ["--device", args.device, *(ALSO_ON_GPU if name != "scaling" else [])]
    if output is not None:
        flags += ["--output", str(output)]
    if args.quick:
        flags += QUICK[name]
    elif name == "evaluation-segm":  # a COCO-sized set of masks does not fit into memory
        flags += ["--images", "200"]
    if args.device != "cpu" and name == "end_to_end":
        flags += [*([] if "--" in flags else ["--"]), "--device", args.device]
    return [sys.executable, str(HERE / f"{script}.py"), *flags]


def main() -> int:
    """Run them; 1 where one failed."""
    args = parse_args()
    failed = []
    for name in [name for name in args.only if name not in args.skip]:
        with tempfile.TemporaryDirectory() as folder:
            command = command_of(name, args, Path(folder) / f"{name}.json" if args.quick else None)
            if command is None:
                print(f"== {name}: left out, it needs --data_path", flush=True)
                continue
            print(f"== {name}", flush=True)
            if subprocess.run(command).returncode:
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all ran")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
