"""The cost card beside the step it predicts: `main.py ... --cost_card`, then the same training with --timing.

    python benchmarks/cost_card.py                        all cases, on this CPU
    python benchmarks/cost_card.py --only r50 shapes      some of them
    python benchmarks/cost_card.py --only r50 -- --amp bf16      with further flags of main.py

Both are commands as a user types them, in turn, each in a process of its own; the card is made anew in every round, so
that its half second of measuring meets the same hour as the steps. Predicted and measured are medians over the rounds,
and of a run the median over its steps. Images are noise, 480 x 640, seven boxes each; the recipes' shapes are drawn.

Every round is kept in a file `cost_card.part` (or that of --output) beside the JSON until that is written: the same
command goes on where it was stopped.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kept_rounds import KeptRounds
from benchmarks.report import ROOT, benchmark_parser, write_report

#: Commands by case, DATA standing for the folder of images; what follows them are flags of main.py.
CASES = {
    "r50": "main.py --dataset_file custom --data_path DATA --batch_size 2 --train_scales 800 "
    "--crop_probability 0 --backbone_weights none --num_workers 0 --device cpu",
    "r50 small": "main.py --dataset_file custom --data_path DATA --batch_size 4 --image_size 320 "
    "--backbone_weights none --num_workers 0 --device cpu",
    "shapes": "recipes/shapes.sh",
    "masks": "recipes/shapes_masks.sh",
    "bccd": "recipes/bccd.sh DATA --num_workers 0",
}
#: Steps that are timed after WARM_UP others, by case: enough for half a minute.
STEPS = {"r50": 6, "r50 small": 16, "shapes": 40, "masks": 30, "bccd": 24}
WARM_UP = 3
#: Units of a step's time on the card, in seconds.
SECONDS = {"ms": 1e-3, "s": 1.0}
IMAGES, OBJECTS = {"train": 128, "val": 2}, 7


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `run_flags` are those after `--`."""
    parser = benchmark_parser("cost_card", __doc__, original=False)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help="(%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="cards and runs of each case (%(default)s)")
    parser.add_argument("run_flags", nargs="*", help="after --: flags for all runs")
    return parser.parse_args()


def write_images(folder: Path) -> Path:
    """Write a small dataset in the layout `custom` and return its folder."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    first = 1
    for split, count in IMAGES.items():
        images = [{"id": i, "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in range(first, first + count)]
        first += count
        boxes = []
        for image in images:
            pixels = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            # Blocks of 10 x 10: noise of single pixels would take longer to decode than photos do.
            Image.fromarray(pixels).resize((640, 480), Image.Resampling.NEAREST).save(
                folder / "images" / image["file_name"]
            )
            for _ in range(OBJECTS):
                box = [*generator.integers(0, 300, 2).tolist(), *generator.integers(30, 180, 2).tolist()]
                facts = {"bbox": box, "area": box[2] * box[3], "iscrowd": 0, "category_id": 1}
                boxes.append(facts | {"id": len(boxes) + 1, "image_id": image["id"]})
        categories = [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (folder / "annotations" / f"{split}.json").write_text(json.dumps(content))
    return folder


def command_of(case: str, data: Path, flags: Sequence[str]) -> list[str]:
    """Return the command of a case."""
    words = [str(data) if word == "DATA" else word for word in CASES[case].split()]
    return [sys.executable if words[0].endswith(".py") else "bash", *words, *flags]


def run(command: Sequence[str], threads: int) -> str:
    """Return what a command prints. Raises SystemExit when it fails."""
    # Recipes call `python`: this one. WEIGHTS: none are downloaded, and the step takes as long with any.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "OMP_NUM_THREADS": str(threads), "WEIGHTS": "none"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def predicted(card: str) -> float:
    """Return the seconds of a step by the printed card."""
    found = re.search(r"prediction +a step ([\d.]+) (ms|s),", card)
    assert found, f"there is no step of seconds in\n{card}"
    return float(found[1]) * SECONDS[found[2]]


def measured(command: Sequence[str], threads: int, steps: int) -> float:
    """Return the median seconds of a training's steps, waiting for data left out."""
    with tempfile.TemporaryDirectory() as output:
        flags = ["--timing", "--profile_warmup", str(WARM_UP), "--max_steps", str(WARM_UP + steps), "--train_only"]
        run([*command, *flags, "--output_dir", output], threads)
        return json.loads(Path(output, "timing.json").read_text())["phases"]["step"]["median_ms"] / 1e3


def measure(case: str, data: Path, args: argparse.Namespace) -> dict[str, float]:
    """Return predicted and measured seconds of a step: a card, and a training after it."""
    command = command_of(case, data, args.run_flags)
    card = predicted(run([*command, "--cost_card"], args.threads))
    return {"predicted": card, "measured": measured(command, args.threads, STEPS[case])}


def measure_all(kept: KeptRounds, args: argparse.Namespace) -> None:
    """Make the rounds that are not kept already."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_images(Path(folder, "data"))
        for case in args.only:
            for number in range(len(kept.of(case)), args.rounds):
                row = measure(case, data, args)
                kept.add(case, row)
                last = ", ".join(f"{name} {value:.3f} s" for name, value in row.items())
                print(f"{number} {case:>10}: {last}", flush=True)


def main() -> None:
    """Measure, print each case's prediction beside its step, and write the JSON."""
    args = parse_args()
    order = {"threads": args.threads, "flags": args.run_flags, "commands": CASES, "steps": STEPS}
    kept = KeptRounds((args.output or Path(__file__)).with_suffix(".part"), order)
    measure_all(kept, args)
    rounds = {case: {name: [row[name] for row in kept.of(case)] for name in kept.of(case)[0]} for case in args.only}
    medians = {
        case: {name: statistics.median(values) for name, values in found.items()} for case, found in rounds.items()
    }
    for case, values in medians.items():
        ratio = values["predicted"] / values["measured"]
        print(f"{case:>12}: predicted {values['predicted']:.3f} s, measured {values['measured']:.3f} s, x{ratio:.2f}")
    write_report("cost_card", args, medians=medians, unit="s", rounds=rounds, commands=CASES)
    kept.finish()


if __name__ == "__main__":
    main()
