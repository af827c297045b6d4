"""Open an annotation file of Objects365's size: seconds and memory, the first time, later, and to a first step.

    python benchmarks/large_annotations.py                     1.7 million images, 25 million boxes: 5 GB, 7 GB of disk
    python benchmarks/large_annotations.py --fraction 0.01     a quick look

Each row is a process of its own, whose peak memory the system tells: `read`, every byte and nothing else; `parse`, the
entries are made and thrown away, the least that JSON costs here; `first`, with nothing kept; `later`, from what
is kept; `import`, torch and torchvision alone; `step`, main.py from its start to the end of its first training step,
all its checks included, with a small model on small images; `few`, the same with an annotation file of two images, so
that the difference is what the large file costs; `ranks first` and `ranks later`, that of `step` by torchrun in two
processes. Image files are hard links to a photo. Annotations are in no order, the dearest case. `cpu_seconds` depend
less on what else runs. Writes a dated JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import ROOT, Medians, benchmark_parser, write_report

IMAGES, BOXES, CLASSES, FOLDERS = 1_742_289, 25_407_598, 365, 51
HEIGHT, WIDTH = 512, 683
#: Rows that are put into text at a time.
ROWS = 100_000
ROWS_OF_TABLE = ("read", "parse", "first", "later", "import", "few", "step", "ranks first", "ranks later")
#: A model and images that take next to no time, on the CPU.
TINY = (
    "--dataset_file custom --device cpu --backbone resnet18 --backbone_weights none --hidden_dim 32 --nheads 2 "
    "--dim_feedforward 32 --enc_layers 1 --dec_layers 1 --num_queries 100 --image_size 64 --max_size 96 --batch_size 2 "
    "--num_workers 2 --max_steps 1 --train_only --print_freq 1"
)
#: Beginnings of main.py's lines: the annotations have been read; then the files looked for and the model built.
LINES = {"to_data": "custom: ", "to_model": "number of params", "to_first_step": "Epoch: [0]"}
OPEN = """
import sys, time
from datasets.annotations.cache import ReadOptions
from datasets.coco import CocoDetection
began, cpu = time.perf_counter(), time.process_time()
dataset = CocoDetection(sys.argv[1], sys.argv[2], options=ReadOptions(cached=True))
print("seconds", time.perf_counter() - began)
print("cpu_seconds", time.process_time() - cpu)
"""
PARSE = """
import gc, sys, time
from functools import partial
from datasets.annotations import lists
gc.disable()
began, cpu = time.perf_counter(), time.process_time()
with open(sys.argv[2], "rb") as file:
    for _ in lists.JsonStream(iter(partial(file.read, lists.PART_BYTES), b"")).lists(lists.make_parsers()):
        pass
print("seconds", time.perf_counter() - began)
print("cpu_seconds", time.process_time() - cpu)
"""
READ = """
import sys, time
began, cpu = time.perf_counter(), time.process_time()
with open(sys.argv[2], "rb") as file:
    while file.read(1 << 24):
        pass
print("seconds", time.perf_counter() - began)
print("cpu_seconds", time.process_time() - cpu)
"""


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark."""
    parser = benchmark_parser("large_annotations", __doc__, original=False, threads=False)
    parser.add_argument("--fraction", type=float, default=1.0, help="of Objects365's images and boxes (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the data lies, made where it is absent (default: temporary)")
    parser.add_argument("--only", nargs="+", choices=ROWS_OF_TABLE, default=ROWS_OF_TABLE, help="rows (all)")
    parser.add_argument("--make_only", action="store_true", help="make --folder and end")
    return parser.parse_args()


def make_data(folder: Path, *, images: int, boxes: int) -> None:
    """Make images/, train.json and val.json in `folder`, a part of the text at a time."""
    (folder / "images").mkdir(parents=True)
    photo = folder / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(photo)
    for number in range(FOLDERS):
        (folder / "images" / f"patch{number}").mkdir()
        # A file has 65,000 names at most.
        shutil.copy(photo, folder / f"photo{number}.jpg")
    for number in range(images):
        os.link(folder / f"photo{number % FOLDERS}.jpg", folder / "images" / file_name(number))
    write_file(folder / "val.json", images=2, boxes=4)
    write_file(folder / "unfinished.json", images=images, boxes=boxes)
    (folder / "unfinished.json").rename(folder / "train.json")


def write_file(path: Path, *, images: int, boxes: int) -> None:
    """Write an annotation file with the fields that Objects365 has."""
    rng = np.random.default_rng(0)
    categories = [{"id": id_, "name": f"class {id_}"} for id_ in range(1, CLASSES + 1)]
    with open(path, "w") as file:
        file.write('{"categories": ' + json.dumps(categories) + ', "images": [')
        for first in range(0, images, ROWS):
            rows = range(first, min(first + ROWS, images))
            file.write(", " * (first > 0) + ", ".join(map(image_text, rows)))
        file.write('], "annotations": [')
        for first in range(0, boxes, ROWS):
            count = min(ROWS, boxes - first)
            # (k, 2) width, height; a place (k, 2) where all of the box lies in the image.
            sides = rng.uniform(4, 400, (count, 2))
            corners = rng.random((count, 2)) * ((WIDTH, HEIGHT) - sides)
            columns = (rng.integers(0, images, count), rng.integers(1, CLASSES + 1, count), *corners.T, *sides.T)
            rows = zip(range(first + 1, first + 1 + count), *(column.tolist() for column in columns))
            file.write(", " * (first > 0) + ", ".join(object_text(*row) for row in rows))
        file.write("]}")


def file_name(number: int) -> str:
    """The name of an image, in one of FOLDERS folders."""
    return f"patch{number % FOLDERS}/objects365_v1_{number:08d}.jpg"


def image_text(number: int) -> str:
    """The entry of an image."""
    name = file_name(number)
    return f'{{"height": {HEIGHT}, "id": {number}, "license": 5, "width": {WIDTH}, "file_name": "{name}", "url": ""}}'


def object_text(id_: int, image: int, label: int, x: float, y: float, width: float, height: float) -> str:
    """The entry of an object."""
    return (
        f'{{"id": {id_}, "iscrowd": 0, "isfake": 0, "area": {width * height:.4f}, "isreflected": 0, '
        f'"bbox": [{x:.4f}, {y:.4f}, {width:.4f}, {height:.4f}], "image_id": {image}, "category_id": {label}}}'
    )


def measure(name: str, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of the process of a row."""
    data = [str(folder / "images"), str(folder / "train.json")]
    if name.endswith("first"):
        for kept in (*folder.glob(".*.columns"), *folder.glob(".*.seen")):
            kept.unlink()
    scripts = {"read": READ, "parse": PARSE, "first": OPEN, "later": OPEN, "import": "import torch, torchvision"}
    if name in scripts:
        return run([sys.executable, "-c", scripts[name], *data])
    few = str(folder / "val.json")
    val = ["--val_images", data[0], "--val_annotations", few]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2"] if name.startswith("ranks") else []
    flags = [*TINY.split(), "--train_images", data[0], "--train_annotations", few if name == "few" else data[1], *val]
    return run([sys.executable, *launch, str(ROOT / "main.py"), *flags])


def run(command: list[str]) -> dict[str, float]:
    """Run a command; the seconds to each line that matters, and the peak memory of its largest process in MB."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found: dict[str, float] = {}
    lines = []
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT) as process:
        peaks: dict[str, float] = {}
        watcher = threading.Thread(target=watch, args=(process, peaks), daemon=True)
        watcher.start()
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith(("seconds ", "cpu_seconds ")):
                key, seconds = line.split()
                found[key] = float(seconds)
            for key, start in LINES.items():
                if line.startswith(start):
                    found.setdefault(key, time.perf_counter() - began)
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command[:4])} ... ended with exit code {process.returncode}\n{''.join(lines[-20:])}")
    found |= {"process_seconds": time.perf_counter() - began, "peak_mb": max(peaks.values(), default=0.0)}
    return {key: round(value, 2) for key, value in found.items()}


def watch(process: subprocess.Popen, peaks: dict[str, float]) -> None:
    """Note the peak memory in MB of a process and of those that it starts, by process id, until it ends.

    The system keeps the peak itself: what is missed is only what a process takes in its last moment.
    """
    while process.poll() is None:
        waiting = [str(process.pid)]
        while waiting:
            pid = waiting.pop()
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                peaks[pid] = float(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1e3
                waiting += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        time.sleep(0.05)


def main() -> None:
    """Make the data, measure each row, print and write the JSON."""
    args = parse_args()
    images, boxes = round(IMAGES * args.fraction), round(BOXES * args.fraction)
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.folder or Path(temporary) / "data").resolve()
        if not (folder / "train.json").exists():
            print(f"making {images} images and {boxes} boxes ...", flush=True)
            make_data(folder, images=images, boxes=boxes)
        megabytes = (folder / "train.json").stat().st_size / 1e6
        print(f"{megabytes:.0f} MB", flush=True)
        if args.make_only:
            return
        rows: Medians = {}
        for name in args.only:
            rows[name] = measure(name, folder)
            print(f"{name:>12}: {rows[name]}", flush=True)
    counts = {"images": images, "boxes": boxes, "file_mb": round(megabytes)}
    write_report("large_annotations", args, medians=rows, unit="as each column says", counts=counts)


if __name__ == "__main__":
    main()
