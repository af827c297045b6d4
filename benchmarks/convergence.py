"""Train with each research switch on the same images, several seeds each, and draw AP over steps and over minutes.

    python benchmarks/convergence.py shapes --folder runs/convergence            generated images, nothing else
    python benchmarks/convergence.py shapes --folder runs/convergence --only plain encoder    some of the switches
    python benchmarks/convergence.py folder --data_path DIR --backbone_weights FILE --folder runs/convergence_mine

Runs lie in FOLDER/NAME/SEED. Whole ones are not made again: the command goes on where it was stopped. It writes
FOLDER/convergence.png, the mean of the seeds and the range between them, FOLDER/convergence.md, the last scores, and
FOLDER/convergence.csv, every evaluation. Such a file of other runs with the same flags adds its seeds:

    python benchmarks/convergence.py shapes --folder runs/convergence --known results/convergence/shapes.csv

trains what that file lacks and draws both. Minutes are those of training alone. On a machine that does other work they
mean little:

    python benchmarks/convergence.py shapes --folder runs/convergence --time    on an idle machine, after the runs

times short runs of all variants in turn; from then on, minutes are steps times the median of those.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from matplotlib.figure import Figure

from benchmarks.small_data import curve_of

ROOT = Path(__file__).resolve().parents[1]
#: Flags of each variant, beside those of all; c4 and c5 are compared by `plain` and `plain c4`.
VARIANTS = {
    "plain": "",
    "plain c4": "--feature_map c4",
    "focal": "--feature_map c4 --focal",
    "local": "--feature_map c4 --local_attention",
    "dab": "--feature_map c4 --queries dab --focal",
    "dab local": "--feature_map c4 --queries dab --focal --local_attention",
    "encoder": "--feature_map c4 --queries encoder --focal",
    "encoder local": "--feature_map c4 --queries encoder --focal --local_attention",
    "encoder local denoising": "--feature_map c4 --queries encoder --focal --local_attention --denoising 3",
    "encoder local groups": "--feature_map c4 --queries encoder --focal --local_attention --groups 3",
}
#: A small model and a short run on images of each kind; 50 steps an epoch on shapes.
SMALL = "--hidden_dim 128 --enc_layers 2 --dec_layers 2 --dim_feedforward 512 --dropout 0 --num_workers 0 --device cpu"
COMMON = {
    "shapes": f"--dataset_file shapes --image_size 128 --train_size 400 --val_size 200 --batch_size 8 --epochs 8 "
    f"--backbone resnet18 --backbone_weights none --backbone_norm batch --num_queries 10 --lr 8e-4 --lr_backbone 8e-4 "
    f"--lr_schedule onecycle --warmup_steps 50 --bbox_loss_coef 2 --giou_loss_coef 1 --clip_max_norm 0.5 {SMALL}",
    "folder": f"--dataset_file custom --image_size 384 --max_size 512 --train_scales 384 --batch_size 4 --epochs 10 "
    f"--backbone mobilenet_v2 --num_queries 60 --lr 5e-4 --lr_backbone 2e-4 --lr_schedule onecycle "
    f"--warmup_steps 50 --clip_max_norm 0.5 --nheads 4 {SMALL}",
}


#: One evaluation of a run, by column.
Point = Mapping[str, float]
COLUMNS = ("steps", "minutes", "AP", "AP50")
#: Short runs of each variant that `--time` makes, and the steps of one.
TIMED_RUNS, TIMED_STEPS = 3, 20


def parse_args(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the flags of the benchmark; `main_flags` are those after `--`."""
    words = list(sys.argv[1:] if words is None else words)
    # Taken apart here: argparse gives a second list of positional words nothing once flags stand between the two.
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", choices=sorted(COMMON), help="shapes: generated images; folder: those of --data_path")
    parser.add_argument("--folder", type=Path, required=True, help="of the runs, the picture and the table")
    parser.add_argument("--data_path", metavar="DIR", help="folder: as main.py's")
    parser.add_argument("--backbone_weights", metavar="FILE", default="imagenet", help="folder: as main.py's")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="variants (all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], help="(%(default)s)")
    parser.add_argument("--known", type=Path, metavar="CSV", help="a convergence.csv of runs that need not be made")
    parser.add_argument("--draw", action="store_true", help="train nothing: draw the runs that are whole")
    parser.add_argument("--time", action="store_true", help="measure the time of a step, for AP over minutes")
    parser.usage = parser.format_usage().removeprefix("usage: ").rstrip() + " [-- flags of main.py for all runs]"
    args = parser.parse_args(words[:end], argparse.Namespace(main_flags=words[end + 1 :]))
    if args.data == "folder" and not args.data_path:
        parser.error("folder needs --data_path DIR")
    return args


def folder_of(args: argparse.Namespace, variant: str, seed: int) -> Path:
    """Return the folder of a run."""
    return args.folder / variant.replace(" ", "_") / str(seed)


def is_whole(folder: Path) -> bool:
    """Return True if the run in a folder has ended."""
    return (folder / "detections.png").is_file()  # written last; curves are drawn after every epoch


def run(args: argparse.Namespace, variant: str, seed: int) -> Path:
    """Train one variant with one seed, unless that was done; return the run's log."""
    folder = folder_of(args, variant, seed)
    if not is_whole(folder):
        print(f"{variant}, seed {seed}", flush=True)
        train(args, variant, folder, "--seed", str(seed), "--resume", "auto")
    return folder / "log.txt"


def train(args: argparse.Namespace, variant: str, folder: Path, *flags: str) -> None:
    """Train one variant in a process of its own; what it prints goes to a file in its folder."""
    command = f"{COMMON[args.data]} {VARIANTS[variant]} --print_freq 50".split()
    if args.data == "folder":
        command += ["--data_path", args.data_path, "--backbone_weights", args.backbone_weights]
    run_main(folder, [*command, *args.main_flags, *flags])


def run_main(folder: Path, flags: Sequence[str]) -> None:
    """Run main.py with a folder to write to; what it prints goes there, too. Raises CalledProcessError."""
    command = [sys.executable, "main.py", *flags, "--output_dir", str(folder.resolve())]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "printed.txt").open("w") as printed:
        subprocess.run(command, cwd=ROOT, stdout=printed, stderr=printed, check=True)


def measure_step_times(args: argparse.Namespace) -> dict[str, float]:
    """Return seconds of a training step of each variant: the median of short runs, in turn so that all see the same."""
    seconds: dict[str, list[float]] = {variant: [] for variant in args.only}
    for _ in range(TIMED_RUNS):
        for variant in args.only:
            with tempfile.TemporaryDirectory() as folder:
                train(args, variant, Path(folder), "--max_steps", str(TIMED_STEPS), "--val_size", "1")
                row = json.loads((Path(folder) / "log.txt").read_text().splitlines()[-1])
                seconds[variant].append(row["train_step_time"])
    return {variant: statistics.median(times) for variant, times in seconds.items()}


def read_known(path: Path | None) -> dict[tuple[str, int], list[Point]]:
    """Return the evaluations in a convergence.csv by variant and seed. Ends the program if it is no such file."""
    runs: dict[tuple[str, int], list[Point]] = {}
    if path is None:
        return runs
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                runs.setdefault((row["variant"], int(row["seed"])), []).append({c: float(row[c]) for c in COLUMNS})
    except OSError as error:
        raise SystemExit(f"--known {path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise SystemExit(
            f"--known {path}: not a convergence.csv with columns variant, seed, {', '.join(COLUMNS)} ({error})"
        ) from None
    return runs


def write_points(runs: Mapping[tuple[str, int], Sequence[Point]], path: Path) -> None:
    """Write every evaluation of every run as a convergence.csv."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("variant", "seed", *COLUMNS))
        for (variant, seed), points in runs.items():
            for p in points:
                # As many digits as the figures have.
                numbers = (f"{p['steps']:.0f}", f"{p['minutes']:.2f}", f"{p['AP']:.4f}", f"{p['AP50']:.4f}")
                rows.writerow((variant, seed, *numbers))


def with_step_times(
    runs: Mapping[tuple[str, int], Sequence[Point]], step_times: Mapping[str, float]
) -> dict[tuple[str, int], Sequence[Point]]:
    """Return the runs with minutes that are steps times `step_times`, for the variants that are in it.

    Seconds of a step on an idle machine: what the runs themselves took depends on what ran beside them.
    """
    return {
        (name, seed): [{**p, "minutes": p["steps"] * step_times[name] / 60} for p in points]
        if name in step_times
        else points
        for (name, seed), points in runs.items()
    }


def curves_by_variant(runs: Mapping[tuple[str, int], Sequence[Point]]) -> dict[str, np.ndarray]:
    """Return for each variant an array (seeds, evaluations, 4): steps, minutes, AP and AP50."""
    of_variants: dict[str, dict[int, Sequence[Point]]] = {}
    for (variant, seed), points in runs.items():
        of_variants.setdefault(variant, {})[seed] = points
    for variant, seeds in of_variants.items():
        first = next(iter(seeds))
        steps = [p["steps"] for p in seeds[first]]
        for seed, points in seeds.items():
            # Runs of other flags in the folder, such as another batch size, would be averaged without a word.
            if [p["steps"] for p in points] != steps:
                raise SystemExit(
                    f"{variant}, seed {seed} was evaluated after other steps than seed {first}: one of them was made "
                    "with other flags; delete that run's folder (or its rows of --known), and it is made again"
                )
    return {
        variant: np.array([[[p[column] for column in COLUMNS] for p in points] for points in seeds.values()])
        for variant, seeds in of_variants.items()
    }


def draw(curves: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw AP over steps and over minutes: a line for the mean of the seeds, a band from the least to the most."""
    figure = Figure(figsize=(14, 5), layout="constrained")
    for axes, column, label in zip(figure.subplots(1, 2, sharey=True), (0, 1), ("steps", "minutes of training")):
        for name, runs in curves.items():
            # (evaluations,) and (seeds, evaluations).
            x, ap = runs[:, :, column].mean(0), runs[:, :, 2]
            (line,) = axes.plot(x, ap.mean(0), marker="o", markersize=3, label=name)
            axes.fill_between(x, ap.min(0), ap.max(0), color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("AP of the validation images")
    # Beside the axes: inside it would cover curves.
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, title="queries and switches", loc="outside right upper")
    figure.savefig(path, dpi=110)


def table(curves: Mapping[str, np.ndarray]) -> str:
    """Return the last AP and AP50 of each variant, mean and range over its seeds, as a table in Markdown."""
    lines = ["| variant | seeds | steps | minutes | AP | AP50 |", "|---|---|---|---|---|---|"]
    for name, runs in curves.items():
        # (seeds, 4): the last evaluation of each.
        last = runs[:, -1]
        ap, ap50 = (f"{c.mean():.3f} ({c.min():.3f} to {c.max():.3f})" for c in (last[:, 2], last[:, 3]))
        lines.append(f"| {name} | {len(runs)} | {last[0, 0]:.0f} | {last[:, 1].mean():.1f} | {ap} | {ap50} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is missing, or time the steps, then draw and tabulate all."""
    args = parse_args()
    known = read_known(args.known)
    made: dict[tuple[str, int], Sequence[Point]] = {}
    # Seed by seed: stopped early, the picture still has every variant.
    for seed in args.seeds:
        for variant in args.only:
            if (variant, seed) in known:
                made[variant, seed] = known[variant, seed]
            elif not args.draw or is_whole(folder_of(args, variant, seed)):
                made[variant, seed] = curve_of(run(args, variant, seed))
    args.folder.mkdir(parents=True, exist_ok=True)
    times = args.folder / "step_times.json"
    if args.time:
        times.write_text(json.dumps(measure_step_times(args), indent=1) + "\n")
    made = with_step_times(made, json.loads(times.read_text()) if times.is_file() else {})
    # The order of the table and of the colours is that of the variants, not that of the runs.
    runs = {(name, seed): made[name, seed] for name in args.only for seed in args.seeds if (name, seed) in made}
    write_points(runs, args.folder / "convergence.csv")
    curves = curves_by_variant(runs)
    draw(curves, args.folder / "convergence.png")
    (args.folder / "convergence.md").write_text(table(curves))
    print(table(curves), end="")


if __name__ == "__main__":
    main()
