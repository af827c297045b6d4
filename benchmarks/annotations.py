"""Open a COCO-sized annotation file and share it with loader workers, ours and pycocotools in alternation.

    python benchmarks/annotations.py      118,287 images, 860,001 boxes with polygons; takes 15 GB of memory
    python benchmarks/annotations.py --images 2000 --boxes 15000 --runs 1      a quick look

Each run is a process of its own: it opens the file (timed), then starts loader workers, each of which reads every
record; when all have, each tells what memory it holds (Linux: /proc/PID/smaps_rollup). Prints medians and writes a
dated JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import Medians, benchmark_parser, write_report

KINDS = ("ours", "pycocotools", "nothing")
#: The quantities compared; the runs also hold a count of the numbers read, the same for all.
KEYS = ("open_seconds", "process_mb", "workers_pss_mb", "workers_uss_mb", "all_pss_mb")
CLASSES = 80


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark."""
    parser = benchmark_parser("annotations", __doc__, original=False, threads=False)
    parser.add_argument("--images", type=int, default=118_287, help="as COCO train2017 has (%(default)s)")
    parser.add_argument("--boxes", type=int, default=860_001, help="as COCO train2017 has (%(default)s)")
    parser.add_argument("--workers", type=int, default=4, help="loader workers (%(default)s)")
    parser.add_argument("--runs", type=int, default=5, help="runs of each (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated file (%(default)s)")
    parser.add_argument("--file", type=Path, help="the annotation file; made where it is absent (default: temporary)")
    return parser.parse_args()


def make_file(path: Path, *, images: int, boxes: int, seed: int) -> None:
    """Write a file in COCO's format: outlines of 8 to 60 points with two decimals, 1 % crowds as run lengths."""
    rng = np.random.default_rng(seed)
    # (boxes,) image of each object; sorted, so that an image's objects lie together, as in COCO's files.
    owners = np.sort(rng.integers(0, images, boxes))
    with open(path, "w") as file:
        categories = [{"id": id_, "name": f"class {id_}", "supercategory": "thing"} for id_ in range(1, CLASSES + 1)]
        file.write('{"info": {}, "licenses": [], "categories": ' + json.dumps(categories) + ', "images": [')
        for id_ in range(images):
            image = {
                "license": 1,
                "file_name": f"{id_:012d}.jpg",
                "coco_url": f"http://localhost/train2017/{id_:012d}.jpg",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 17:02:52",
                "id": id_,
            }
            # Entry by entry: as one object the file would need the memory that is to be measured.
            file.write((", " if id_ else "") + json.dumps(image))
        file.write('], "annotations": [')
        for number, owner in enumerate(owners.tolist()):
            file.write((", " if number else "") + json.dumps(make_object(rng, number + 1, owner)))
        file.write("]}")


def make_object(rng: np.random.Generator, id_: int, image_id: int) -> dict:
    """An object of an image of 640 x 480: an ellipse's uneven outline and its box."""
    (width, height), place = rng.uniform(10, 240, 2), rng.random(2)
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(8, 61)))
    radii = rng.uniform(0.7, 1, len(angles)) / 2
    # (points, 2) x and y; radii of at most 0.5 keep it inside its width x height.
    outline = np.stack([(0.5 + radii * np.cos(angles)) * width, (0.5 + radii * np.sin(angles)) * height], axis=1)
    # Moved to a place where all of it lies in the image.
    outline = (outline + place * (640 - width, 480 - height)).round(2)
    low, high = outline.min(0), outline.max(0)
    crowd = bool(rng.random() < 0.01)
    # Down the columns; 640 runs of 480 pixels are alternately empty and full columns.
    runs = {"size": [480, 640], "counts": np.full(640, 480).tolist()}
    return {
        "segmentation": runs if crowd else [outline.ravel().tolist()],
        "area": round(float((high - low).prod()) / 2, 4),
        "iscrowd": int(crowd),
        "image_id": image_id,
        "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
        "category_id": int(rng.integers(1, CLASSES + 1)),
        "id": id_,
    }


def measure(args: argparse.Namespace, path: Path) -> dict[str, list[dict]]:
    """Seconds and bytes of every run, by kind."""
    runs: dict[str, list[dict]] = {kind: [] for kind in KINDS}
    for number in range(args.runs):
        # There and back: a machine that grows slower over time slows each alike.
        for kind in KINDS if number % 2 == 0 else KINDS[::-1]:
            command = [sys.executable, str(Path(__file__).with_name("annotations_worker.py")), kind, str(path)]
            done = subprocess.run([*command, str(args.workers)], stdout=subprocess.PIPE, text=True, check=True)
            runs[kind].append(json.loads(done.stdout))
            print(f"run {number} {kind:>12}: {done.stdout.strip()}", flush=True)
    return runs


def summarize(runs: dict[str, list[dict]]) -> Medians:
    """Medians of each quantity by kind."""
    return {key: {kind: statistics.median(run[key] for run in rows) for kind, rows in runs.items()} for key in KEYS}


def print_table(medians: Medians, workers: int) -> None:
    """Print medians side by side, and our share of pycocotools' time and memory."""
    print(" " * 12 + "".join(f"{key:>16}" for key in KEYS))
    for kind in KINDS:
        print(f"{kind:>12}" + "".join(f"{medians[key][kind]:16.2f}" for key in KEYS))
    shares = {key: medians[key]["ours"] / medians[key]["pycocotools"] for key in KEYS}
    print(f"opening takes {shares['open_seconds']:.2f} of pycocotools' time")
    for key in ("workers_pss_mb", "workers_uss_mb"):
        print(f"{workers} workers together, {key}: {shares[key]:.3f} of what pycocotools' workers hold")
    # Less what Python and its imports hold.
    one = medians["process_mb"]["pycocotools"] - medians["process_mb"]["nothing"]
    share = medians["workers_pss_mb"]["ours"] / one
    print(f"{workers} workers together, pss: {share:.3f} of one pycocotools index ({one:.0f} MB)")


def main() -> None:
    """Make the file, measure, print the medians and write the JSON."""
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "instances.json"
        if not path.exists():
            print(f"making {path} ...", flush=True)
            make_file(path, images=args.images, boxes=args.boxes, seed=args.seed)
        megabytes = path.stat().st_size / 1e6
        print(f"{megabytes:.0f} MB", flush=True)
        runs = measure(args, path)
    medians = summarize(runs)
    print_table(medians, args.workers)
    write_report("annotations", args, medians=medians, unit="as each row says", file_mb=megabytes, runs=runs)


if __name__ == "__main__":
    main()
