"""Train with each normaliser of the cross-attention on generated images, several seeds each; AP over steps, and maps.

    python benchmarks/sparse_training.py --folder runs/sparse                   trains what is missing, then measures
    python benchmarks/sparse_training.py --folder runs/sparse --measure_only    of the runs that are whole

Runs lie in FOLDER/NAME/SEED. Whole ones are not made again: the command goes on where it was stopped. It writes
FOLDER/curves.png, the mean of the seeds and the range between them, and FOLDER/tables.md: the last scores, and what
`--attention_stats` finds in the maps of the last weights.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.convergence import COMMON, curves_by_variant, draw, is_whole, run_main, table

NORMALISERS = ("softmax", "alpha_entmax", "entmax15", "sparsemax")
#: 36 cells, 240 steps: two minutes of one idle core a run. Queries of the encoder learn enough in so few steps.
FLAGS = (
    f"{COMMON['shapes']} --image_size 96 --train_size 960 --val_size 100 --batch_size 16 --epochs 4 --feature_map c4 "
)
FLAGS += "--queries encoder --focal --print_freq 20"


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `main_flags` are those after `--`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="of the runs, the picture and the tables")
    parser.add_argument("--only", nargs="+", choices=NORMALISERS, default=NORMALISERS, help="normalisers (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], help="(%(default)s)")
    parser.add_argument("--measure_only", action="store_true", help="train nothing: of the runs that are whole")
    parser.add_argument("main_flags", nargs="*", help="after --: flags for all runs")
    return parser.parse_args()


def statistics_of(folder: Path) -> dict[str, Any]:
    """Measure the attention of a run's last weights, unless that was done; return what was found."""
    file = folder / "stats" / "attention_stats.json"
    if not file.is_file():
        weights = str((folder / "checkpoint.pth").resolve())
        data = "--dataset_file shapes --image_size 96 --val_size 100 --batch_size 16 --num_workers 0 --device cpu"
        run_main(folder / "stats", [*data.split(), "--eval", "--attention_stats", "--resume", weights])
    return json.loads(file.read_text())


def statistics_table(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return zeros, Gini and the share inside boxes of each decoder layer, means of heads and seeds, in Markdown."""
    lines = ["| normaliser | seeds | layer | zeros | Gini | inside small boxes | inside medium boxes |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name, of_seeds in found.items():
        # (seeds, layers, heads): the mean over seeds and heads leaves a number for each layer.
        inside = [np.mean([one["inside_box"][size] for one in of_seeds], (0, 2)) for size in ("small", "medium")]
        columns = [*(np.mean([one[key] for one in of_seeds], (0, 2)) for key in ("zeros", "gini")), *inside]
        for layer, (zeros, gini, small, medium) in enumerate(zip(*columns), start=1):
            numbers = f"{zeros:.1%} | {gini:.3f} | {small:.1%} | {medium:.1%}"
            lines.append(f"| {name} | {len(of_seeds)} | {layer} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, then draw and tabulate all."""
    args = parse_args()
    logs: dict[str, list[Path]] = {}
    # Seed by seed: stopped early, the picture still has every normaliser.
    for seed in args.seeds:
        for name in args.only:
            folder = args.folder / name / str(seed)
            if not args.measure_only and not is_whole(folder):
                print(f"{name}, seed {seed}", flush=True)
                flags = f"{FLAGS} --cross_attention {name} --seed {seed} --resume auto".split()
                run_main(folder, [*flags, *args.main_flags])
            if is_whole(folder):
                logs.setdefault(name, []).append(folder / "log.txt")
    curves = curves_by_variant(logs, {})
    draw(curves, args.folder / "curves.png")
    found = {name: [statistics_of(log.parent) for log in of_seeds] for name, of_seeds in logs.items()}
    tables = f"{table(curves)}\n{statistics_table(found)}"
    (args.folder / "tables.md").write_text(tables)
    print(tables, end="")


if __name__ == "__main__":
    main()
