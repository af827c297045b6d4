"""The promises of a run, tried long: kills, damaged files, a long run, files with anything in them (`make soak`).

    python benchmarks/reliability.py                 all of it, a part on each core
    python benchmarks/reliability.py --minutes 10    as many kills as fit
    python benchmarks/reliability.py --only long_run one part; the figures of the rest stay

killed_run: a run of a small detector saves after every step and is killed by SIGKILL again and again. After every kill
the newest whole checkpoint must not be behind the last that was saved, best.pth must be there and whole once it was
written, and the rows of log.txt must be whole. When the run has been let to its end, its weights and its log must be
those of a run that was never killed. Then its last checkpoint is cut or has a byte changed: the one before must be
found. long_run: 40 epochs with a loader's worker and an evaluation each must not grow in memory (2 %), open files or
processes. mutated_files: loaders of annotations, checkpoints, run folders and Nsight reports read 100,000 changed
files, or refuse them in one line. tests: those that try a little of it in `make test`, with far more examples.

Each part is a process of its own with one thread, and as many run at a time as there are cores (--jobs). Ends with exit
code 1 where any of it is not so. Writes results/reliability.json, after every part.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT / "roofline-on-nvidia-gpus" / "custom-scripts", ROOT):
    sys.path.insert(0, str(folder))

from benchmarks.killed_run import FLAGS, STEPS_PER_EPOCH, kill_and_damage, let_end
from benchmarks.long_run import faults_of, summarize
from benchmarks.mutated_files import give_files
from benchmarks.report import write_report
from util.runs.run_info import git_state

#: The longest first: the others then fit beside it.
PARTS = ("mutated_files", "killed_run", "long_run", "tests")
#: What write_report makes anew; the rest of the JSON are the parts.
HEAD = {"date", "command", "better", "unit", "medians", "machine", "seconds"}
#: Tests with SOAK examples each: three of annotations, two of checkpoints.
TESTS = ("tests/datasets/test_coco_file_faults.py", "tests/util/runs/test_checksum.py")


def run_long(folder: Path, *, steps: int, evaluations: int = 40) -> dict[str, Any]:
    """Make a run of so many steps with an evaluation after each of its epochs; return what it held meanwhile."""
    # FLAGS have batches of 2.
    looks, images = folder / "looks.txt", 2 * steps // evaluations
    flags = (
        # A worker process, unlike in the killed run: one that is not ended with its epoch would show in `processes`.
        f"{FLAGS} --checkpoint_every 100 --train_size {images} --num_workers 1 --val_size 4 --epochs {evaluations} "
        f"--output_dir {folder}"
    )
    began = time.monotonic()
    folder.mkdir()
    let_end(flags, folder / "output.txt", None, looks)
    figures = summarize(looks)
    return {**figures, "faults": faults_of(figures), "seconds": round(time.monotonic() - began)}


def run_tests(examples: int) -> dict[str, Any]:
    """Run the tests whose examples SOAK counts; return how they ended."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *TESTS],
        env=os.environ | {"SOAK": str(examples)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    print(done.stdout, end="")
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return {
        "examples_each": examples,
        "ended": done.stdout.strip().rpartition("\n")[2],
        # pytest's 1: tests failed, by name above. Any other code names none: no test was found, or pytest itself
        # failed.
        "faults": failed if done.returncode == 1 else [f"exit code {done.returncode}"] * (done.returncode != 0),
        "seconds": round(time.monotonic() - began),
    }


def try_part(name: str, place: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Do one of the parts in a folder; return what was found, by name."""
    if name == "killed_run":
        facts = {"kills": args.kills, "files": args.files, "epochs": args.epochs, "seed": args.seed}
        return kill_and_damage(place, seconds=60 * args.minutes, **facts)
    if name == "long_run":
        return {name: run_long(place / "long", steps=args.steps)}
    if name == "mutated_files":
        return {name: give_files(place, args.mutated, seed=args.seed)}
    return {name: run_tests(args.examples)}


def is_good(report: dict[str, Any]) -> bool:
    """Return True where all that was looked at is as promised."""
    good = not any(part.get("faults") for part in report.values())
    good &= report.get("sigkill", {}).get("same_weights_and_log_as_without_kills", True)
    # With --only the others are not in this report.
    damaged = [report[kind] for kind in ("truncations", "flipped_bytes") if kind in report]
    return good and all(part["recognised_and_previous_found"] == part["files"] for part in damaged)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs (%(default)s)")
    parser.add_argument("--files", type=int, default=100, help="damaged files of each kind (%(default)s)")
    parser.add_argument("--minutes", type=float, default=60, help="no further kill after so long (%(default)s)")
    parser.add_argument(
        "--epochs", type=int, default=40, help=f"of the run, {STEPS_PER_EPOCH} steps each (%(default)s)"
    )
    parser.add_argument("--steps", type=int, default=5000, help="of the long run, with 40 evaluations (%(default)s)")
    parser.add_argument("--mutated", type=int, default=107_600, help="changed files for the loaders (%(default)s)")
    parser.add_argument("--examples", type=int, default=4000, help="of each of the tests (%(default)s)")
    parser.add_argument("--only", choices=PARTS, help="do this part alone, and keep the figures of the others")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="parts at a time (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of moments and places (%(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "reliability.json", help="(%(default)s)")
    return parser.parse_args()


def read_parts(path: Path) -> dict[str, Any]:
    """Return the parts of a report, without its head; none where there is no file."""
    kept = json.loads(path.read_text()) if path.exists() else {}
    return {name: part for name, part in kept.items() if name not in HEAD}


def find_part(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Do one of the parts in this process; return its figures, each with time and commit."""
    place = Path(tempfile.mkdtemp(prefix="reliability-"))
    try:
        found = try_part(name, place, args)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    today = datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes")
    # The parts of one file may be run on different days.
    of = {"ended_at": today, "commit": (git_state(ROOT) or {}).get("sha")}
    return {key: {**of, **part} for key, part in found.items()}


def find_elsewhere(name: str, output: Path) -> dict[str, Any]:
    """Do one of the parts in another process, with the flags of this one; return its figures."""
    # Of a flag that is given twice argparse takes the last. Every process has a line of the terminal for its bars.
    flags = [*sys.argv[1:], "--only", name, "--output", str(output)]
    line = {"TQDM_POSITION": str(PARTS.index(name))}
    code = subprocess.run(
        [sys.executable, __file__, *flags], env=os.environ | line, stdout=subprocess.DEVNULL
    ).returncode
    found = read_parts(output)
    return found if found else {name: {"faults": [f"exit code {code}, and no figures"]}}


def find_together(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do all parts, some at a time; yield the figures of each as soon as it has ended."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as place, ThreadPoolExecutor(args.jobs) as pool:
        waiting = [pool.submit(find_elsewhere, name, Path(place, f"{name}.json")) for name in PARTS]
        for future in as_completed(waiting):
            yield future.result()


def run() -> int:
    """Do all of it and write the report; return the exit code."""
    args = parse()
    torch.set_num_threads(1)
    began = time.monotonic()
    kept, report = read_parts(args.output) if args.only else {}, dict[str, Any]()
    for found in (find_part(args.only, args),) if args.only else find_together(args):
        report |= found
        # After every part: the figures that there are stay if this is stopped.
        whole = {} if args.only else {"seconds": round(time.monotonic() - began)}
        write_report("reliability", args, medians={}, unit="", **kept | report, **whole)
    print(json.dumps(report, indent=2))
    return 0 if is_good(report) else 1


if __name__ == "__main__":
    sys.exit(run())
