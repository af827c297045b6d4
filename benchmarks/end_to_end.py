"""Time whole runs of `python main.py`: start, data, training, evaluation, checkpoints; ours beside the original's.

    python benchmarks/end_to_end.py --data_path coco --original ../facebookresearch-detr
    python benchmarks/end_to_end.py --data_path coco --epochs 1 --rounds 1 -- --device cuda --batch_size 8

`--data_path` is a folder in COCO's layout. By default the runs train a ResNet-18 without pretrained weights, 2 + 2
layers of width 128, batch 4, two epochs, on the CPU. Each run is a process of its own with a fresh output folder;
runs alternate. Ours is run in bfloat16, too (`--also`). The original is kept from downloading weights; nothing else
about it changes (`original_main.py`). Prints medians and writes a dated JSON. `--images N` takes the first N images
with objects of each split: the original has no flag for less. Flags after `--` go to all and override.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.child import medians_of
from benchmarks.report import benchmark_parser, implementations, print_medians, write_report

MODEL = "--backbone resnet18 --enc_layers 2 --dec_layers 2 --hidden_dim 128 --batch_size 4 --device cpu".split()


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `run_flags` are those after `--`."""
    parser = benchmark_parser("end_to_end", __doc__, also=["--amp bf16"])
    parser.add_argument("--data_path", type=Path, required=True, help="a folder in COCO's layout")
    parser.add_argument("--epochs", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (%(default)s)")
    parser.add_argument("--images", type=int, default=None, metavar="N", help="of each split (all)")
    parser.add_argument("run_flags", nargs="*", help="after --: flags for all runs")
    return parser.parse_args()


def first_images(source: Path, folder: Path, count: int) -> Path:
    """Write annotations of the first `count` images with objects of each split to `folder`, and return that.

    The images themselves stay in `source`, a folder in COCO's layout.
    """
    (folder / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        name = Path("annotations", f"instances_{split}.json")
        data = json.loads((source / name).read_text())
        # Images without objects would leave a small set little to learn from.
        labelled = {annotation["image_id"] for annotation in data["annotations"]}
        data["images"] = [image for image in data["images"] if image["id"] in labelled][:count]
        kept = {image["id"] for image in data["images"]}
        data["annotations"] = [annotation for annotation in data["annotations"] if annotation["image_id"] in kept]
        (folder / name).write_text(json.dumps(data))
        # Only the annotations are cut: files that these do not name are never opened.
        (folder / split).symlink_to((source / split).resolve(), target_is_directory=True)
    return folder


def commands(args: argparse.Namespace, data_path: Path) -> dict[str, tuple[list[str], Path]]:
    """Command and folder to run it in, by implementation, on data in COCO's layout."""
    flags = [*MODEL, "--epochs", str(args.epochs), "--coco_path", str(data_path.resolve()), *args.run_flags]
    original = str(Path(__file__).with_name("original_main.py"))
    runs = {}
    for name, one in implementations(args).items():
        script = [original] if name == "original" else ["main.py", "--backbone_weights", "none"]
        runs[name] = ([sys.executable, *script, *flags, *one.flags], one.checkout)
    return runs


def run_once(command: list[str], folder: Path, threads: int) -> dict:
    """Return the seconds of a run, and its last epoch's training loss and AP. Raises SystemExit when it fails."""
    # By the environment: the original has no flag for threads.
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    # A fresh one for each run: ours would refuse to mix with another run, and the original's log would go on growing.
    with tempfile.TemporaryDirectory() as output:
        start = time.perf_counter()
        done = subprocess.run(
            [*command, "--output_dir", output], cwd=folder, env=environment, capture_output=True, text=True
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
        # The last epoch's: it shows that both trained the same, beside how long it took.
        row = json.loads((Path(output) / "log.txt").read_text().splitlines()[-1])
    return {"seconds": seconds, "train_loss": row["train_loss"], "AP": row["test_coco_eval_bbox"][0]}


def measure(args: argparse.Namespace, todo: dict[str, tuple[list[str], Path]]) -> dict[str, list[dict]]:
    """Run each command in every round, there and back; return what `run_once` does by implementation."""
    runs: dict[str, list[dict]] = {}
    for number in range(args.rounds):
        # There and back: a machine that slows down slows all alike.
        for name in list(todo)[:: 1 if number % 2 == 0 else -1]:
            answer = run_once(*todo[name], args.threads)
            runs.setdefault(name, []).append(answer)
            print(f"{number} {name:>12}: {answer['seconds']:.1f} s, loss {answer['train_loss']:.3f}", flush=True)
    return runs


def main() -> None:
    """Measure, print medians and ratios, and write the JSON."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = (
            args.data_path if args.images is None else first_images(args.data_path, Path(folder, "data"), args.images)
        )
        runs = measure(args, commands(args, data))
    medians = {"whole run": medians_of(runs)}
    print_medians(medians, "s")
    write_report("end_to_end", args, medians=medians, unit="s", runs=runs)


if __name__ == "__main__":
    main()
