"""Damaged files for the loaders, and what they may do with them: read them, or refuse them in one line.

`make soak` gives them 100,000 files (benchmarks/mutated_files.py), `make test` five hundred
(tests/test_mutated_files.py).
"""

import argparse
import contextlib
import gzip
import io
import json
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rooflines import RoofError
from rooflines.read.csv import read_ncu_csvs
from rooflines.read.inputs import load_runs
from torch.optim.lr_scheduler import StepLR

from datasets.annotations import read_annotations
from datasets.annotations.panoptic import read_panoptic_file
from datasets.convert.labelme import read_labelme
from datasets.convert.voc import read_voc
from datasets.convert.yolo import read_yolo
from models.checkpoint_config import image_size_of
from tests.datasets.convert.test_labelme import SQUARE, shape
from tests.datasets.convert.test_voc import annotation, thing
from tests.datasets.panoptic_folder import panoptic_data
from tests.datasets.test_coco_file_faults import VALID
from tests.mutations import changed, changed_in_zip, mutate
from tests.roofline.ncu_files import CONV, Kernel, long_rows, wide_rows
from tests.roofline.nsys_files import Timeline, write
from tests.roofline.read.test_nsys import RANGES, TRACE, step
from tests.roofline.read.test_torch_trace_reader import BACKWARD, FORWARD
from util.errors import UserError
from util.plot_precision import read_evaluation
from util.plot_utils import read_log
from util.runs.bad_step import read_bad_step
from util.runs.checkpoint import find_resume, load_checkpoint
from util.runs.class_names import known_names, label_order, trained_classes
from util.runs.other_run import refuse_other_run
from util.runs.plan import steps_done
from util.runs.resume import repair_files, restore_optimizer
from util.runs.run_folder import RunFolder

SETS = {"train": "train", "val": "val"}


@dataclass(frozen=True)
class Subject:
    """A kind of file, the ways to change it, and who reads it.

    Attributes:
        loaders: whose promise it is about.
        file: its name in a folder.
        make: a changed file's bytes.
        read: reads the file at a path.
        beside: puts files into the folder that the reader wants to find.
        share: how many of 100,000 files.
    """

    loaders: str
    file: str
    make: Callable[[random.Random], bytes]
    read: Callable[[Path], object]
    beside: Callable[[Path], object] = lambda folder: None
    share: int = 5000


def outcome(subject: Subject, path: Path, content: bytes) -> str:
    """Give a file to its reader; return "read", "refused", or what is wrong with how it took it."""
    path.write_bytes(content)
    try:
        subject.read(path)
    except (UserError, RoofError) as error:
        line = error.line()
        named = any(str(place) in line for place in (path.name, *path.parents[:3], "--resume"))
        fine = named and "\n" not in line and len(line) < 1500
        return "refused" if fine else f"a line that says too little or too much: {line[:300]}"
    except Exception as error:  # all that a user would see as a traceback
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "read"


def as_json(valid: Any) -> Callable[[random.Random], bytes]:
    """Values changed, or bytes of the text."""
    text = json.dumps(valid).encode()
    return lambda dice: changed(text, dice) if dice.random() < 0.4 else json.dumps(mutate(valid, dice)).encode()


def as_bytes(content: bytes) -> Callable[[random.Random], bytes]:
    return lambda dice: changed(content, dice)


def with_sizes() -> dict[str, Any]:
    """The valid file with a size for each image, which masks need."""
    return VALID | {"images": [image | {"height": 9, "width": 12} for image in VALID["images"]]}


def image_at(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(folder / name)

    return write


def yolo_folder(folder: Path) -> None:
    image_at("images/train/a.jpg")(folder)
    (folder / "labels/train").mkdir(parents=True, exist_ok=True)
    (folder / "data.yaml").write_text("train: images/train\nnames: [cup, pot]\n")


def training_state() -> dict[str, Any]:
    """The state of a small training: a layer, its optimizer after a step, and the fields around them."""
    layer, optimizer = small_training()
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = StepLR(optimizer, 3)
    return {
        "model": {"class_embed.weight": torch.ones(3, 2), **layer.state_dict()},
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "args": {"image_size": 64, "max_size": None, "lr": 1e-4, "backbone": "resnet18", "classes": "cup"},
        **{"epoch": 1, "step": 7, "steps_per_epoch": 4, "ap": 0.2, "best_ap": 0.3},
        **{"class_names": {0: "cup", 1: "pot"}, "category_ids": {0: 3, 1: 5}},
    }


def small_training() -> tuple[torch.nn.Linear, torch.optim.Optimizer]:
    layer = torch.nn.Linear(2, 1)
    return layer, torch.optim.AdamW(layer.parameters(), lr=1e-4)


def saved(content: Any, **more: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **more)
    return file.getvalue()


def odd_fields(dice: random.Random) -> bytes:
    """A checkpoint that PyTorch reads, with other values in it."""
    return saved(mutate(training_state(), dice))


def resume(path: Path) -> None:
    """Read a checkpoint as a run that goes on from it does."""
    checkpoint = load_checkpoint(find_resume(str(path.parent), path.parent) or path)
    known_names(checkpoint), label_order(checkpoint), trained_classes(checkpoint), image_size_of(checkpoint)
    restore_optimizer(small_training()[1], checkpoint, flags={"lr": 1e-4, "lr_backbone": 0, "weight_decay": 0})
    repair_files(None, checkpoint, str(path))
    steps_done(checkpoint, start_epoch=0, steps_per_epoch=4)


def go_on(path: Path) -> None:
    """Read and mend the log as a run that goes on does."""
    read_log(path)
    path.with_name("log.old.txt").unlink(missing_ok=True)
    RunFolder(path.parent, first_epoch=1)


def refuse_other(path: Path) -> None:
    """Ask as a new run does if the folder is another's."""
    off = dict.fromkeys(("eval", "overfit", "section", "torch_profile", "count_costs", "overwrite"), False)
    refuse_other_run(path.parent, argparse.Namespace(**off, lr=1e-4, data_path="x"), resumed=None)


def profile(path: Path) -> None:
    load_runs([path])


def trace(**zipped: bool) -> Callable[[random.Random], bytes]:
    make = as_json({"schemaVersion": 1, "traceEvents": [{"ph": "M", "name": "process_name"}, *FORWARD, *BACKWARD]})
    return (lambda dice: gzip.compress(make(dice), 1)) if zipped else make


def timeline() -> bytes:
    """A timeline of Nsight Systems, of one step."""
    line = Timeline()
    step(line)
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "timeline.sqlite", [line]).read_bytes()


def changed_timeline(dice: random.Random) -> bytes:
    """Bytes changed, or up to four cells of its tables."""
    if dice.random() < 0.5:
        return changed(TIMELINE, dice)
    base = sqlite3.connect(":memory:")
    base.deserialize(TIMELINE)
    tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for _ in range(dice.randint(1, 4)):
        table = dice.choice(tables)
        column = dice.choice([row[1] for row in base.execute(f"PRAGMA table_info({table})")])
        odd = dice.choice((None, -1, 0, 3, 2**62, -(2**62), 1.5, 1e300, "", "x", "iteration", b"\xff\0", "9" * 5000))
        where = dice.choice(("1", "rowid = 1", "rowid % 2 = 0"))
        with contextlib.suppress(sqlite3.IntegrityError):  # a key must be a whole number
            base.execute(f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {where}", [odd])
    base.commit()
    return base.serialize()


TIMELINE = timeline()
STATE = training_state()
ROWS = "".join(
    json.dumps({"epoch": epoch, "train_loss": 1.5, "test_coco_eval_bbox": [0.1] * 12}) + "\n" for epoch in range(3)
).encode()
KERNELS = [Kernel.counted(CONV, id=0, tensor=2_340_864, dram=8_964_352), Kernel.counted(id=1)]
LONG, WIDE = ("\n".join(make(KERNELS)).encode() for make in (long_rows, wide_rows))
LABELME = {
    "version": "5.4.1",
    "imagePath": "a.png",
    "imageData": None,
    "shapes": [shape(SQUARE), shape([[1, 1], [9, 9]], kind="rectangle")],
}
XML = annotation(thing("dog", (1, 1, 100, 50)), thing("cat", (11, 6, 30, 25), difficult=1)).encode()
PRECISION = {
    "precision": torch.ones(10, 101, 2, 4, 3),
    "recall": torch.ones(10, 2, 4, 3),
    "scores": torch.ones(10, 101, 2, 4, 3),
    "params": {"recThrs": [k / 100 for k in range(101)]},
}
STEP = {"batches": [], "random": [], "model": {}, "losses": {}, "args": {"lr": 1.0}}

SUBJECTS: dict[str, Subject] = {
    "COCO, boxes": Subject(
        "annotations", "instances.json", as_json(VALID), lambda p: read_annotations(p).to_coco(), share=12_000
    ),
    "COCO, masks": Subject(
        "annotations",
        "instances.json",
        as_json(with_sizes()),
        lambda p: read_annotations(p, need_masks=True).to_coco(),
        share=12_000,
    ),
    "COCO, panoptic": Subject("annotations", "panoptic.json", as_json(panoptic_data()), read_panoptic_file, share=8000),
    "Pascal VOC": Subject(
        "annotations",
        "train/a.xml",
        as_bytes(XML),
        lambda p: read_voc(p.parents[1], sets=SETS),
        image_at("train/a.jpg"),
    ),
    "YOLO": Subject(
        "annotations",
        "labels/train/a.txt",
        as_bytes(b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.3 0.1 0.3 0.3\n"),
        lambda p: read_yolo(p.parents[2], sets=SETS),
        yolo_folder,
    ),
    "LabelMe": Subject(
        "annotations",
        "train/a.json",
        as_json(LABELME),
        lambda p: read_labelme(p.parents[1], sets=SETS),
        image_at("train/a.png"),
    ),
    "checkpoint, bytes": Subject("checkpoints", "checkpoint.pth", as_bytes(saved(STATE)), resume, share=8000),
    "checkpoint, bytes inside the zip file": Subject(
        "checkpoints", "checkpoint.pth", lambda dice: changed_in_zip(saved(STATE), dice, "data.pkl"), resume, share=8000
    ),
    "checkpoint, format of before PyTorch 1.6": Subject(
        "checkpoints", "checkpoint.pth", as_bytes(saved(STATE, _use_new_zipfile_serialization=False)), resume
    ),
    "checkpoint, fields": Subject("checkpoints", "checkpoint.pth", odd_fields, resume, share=8000),
    "log.txt": Subject("run folders", "log.txt", as_bytes(ROWS), go_on, share=6000),
    "run.json": Subject(
        "run folders",
        "run.json",
        as_json({"flags": {"lr": 1e-4, "seed": 42, "eval": False, "data_path": "x"}, "date": "x"}),
        refuse_other,
        lambda folder: (folder / "checkpoint.pth").touch(),
        share=6000,
    ),
    "eval.pth": Subject(
        "run folders",
        "eval.pth",
        lambda dice: saved(mutate(PRECISION, dice)),
        read_evaluation,
        share=1000,
    ),
    "bad_step.pt": Subject("run folders", "bad_step.pt", as_bytes(saved(STEP)), read_bad_step, share=3000),
    "Nsight Compute, a row a metric": Subject("Nsight reports", "output.csv", as_bytes(LONG), read_ncu_csvs),
    "Nsight Compute, a row a kernel": Subject("Nsight reports", "output.csv", as_bytes(WIDE), read_ncu_csvs),
    "Nsight Compute, to roofs": Subject(
        "Nsight reports", "output.csv", lambda dice: changed(dice.choice((LONG, WIDE)), dice), profile, share=600
    ),
    "Nsight Systems, a timeline": Subject("Nsight reports", "timeline.sqlite", changed_timeline, profile, share=2000),
    "Nsight Systems, kernels as CSV": Subject(
        "Nsight reports",
        "a_cuda_gpu_trace.csv",
        as_bytes(TRACE.encode()),
        profile,
        lambda folder: (folder / "a_nvtx_gpu_proj_trace.csv").write_text(RANGES),
        share=1000,
    ),
    "trace of torch.profiler": Subject("Nsight reports", "trace_rank0.json", trace(), profile, share=2000),
}


def files(subject: Subject, name: str, count: int, *, seed: int = 0) -> Iterator[bytes]:
    """Changed files, each with dice of its own: number 17 is the same whatever came before."""
    for number in range(count):
        yield subject.make(random.Random(f"{seed} {name} {number}"))
