"""Facts that a preset is chosen from: about the training images, and about the machine."""

import argparse
import os
from dataclasses import dataclass

import numpy as np
import torch

import datasets
from datasets.coco import CocoDetection
from datasets.interface import DetectionDataset
from run_data import build_split
from util.dist.accelerator import accelerator

#: Images at most whose boxes and sizes are looked at, spread evenly: a part tells as much.
SAMPLE = 2000


@dataclass(frozen=True)
class DataFacts:
    """Facts about the training images.

    Attributes:
        images, classes: how many there are; of images those that are trained on.
        height, width: of the images' files, in pixels: each the median.
        objects, most_objects: in an image: the median and the largest count.
        small_side: shorter side of an object as a part of the image's shorter side: a tenth of the objects have less.
        generated: drawn at the size that is asked for (`shapes`), and not resized.
    """

    images: int
    classes: int
    height: int
    width: int
    objects: int
    most_objects: int
    small_side: float
    generated: bool = False

    def describe(self) -> str:
        """Return the facts in a line."""
        return (
            f"{self.images:,} training images, the middle one {self.width} x {self.height}; {self.classes} classes; "
            f"{self.objects} objects in the middle image and {self.most_objects} at most, a tenth of them with a side "
            f"under {100 * self.small_side:.0f} % of the image's"
        )


@dataclass(frozen=True)
class MachineFacts:
    """Facts about the machine: cores this process may use, memory in GiB, and the GPU's name and memory, if any."""

    cores: int
    memory: float
    gpu: str | None = None
    gpu_memory: float = 0.0

    def describe(self) -> str:
        """Return the facts in a line."""
        cores = f"{self.cores} cores" if self.cores > 1 else "1 core"
        gpu = f"{self.gpu} with {self.gpu_memory:.0f} GiB" if self.gpu else "no GPU"
        return f"{cores}, {self.memory:.0f} GiB of memory, {gpu}"


def read_data_facts(cfg: argparse.Namespace) -> tuple[DataFacts, DetectionDataset | None]:
    """Read the annotations of the training images; none is opened but those whose size is not listed.

    Returns the facts, and the dataset for the run, which need not read its file again; None of generated images, which
    are cheap and depend on what is chosen. Raises DatasetError as reading the data for the run does.
    """
    split = build_split("train", cfg)
    dataset = datasets.unwrap(split)
    # Evenly over the whole file, not the first ones: files are often sorted by class or by camera.
    chosen = np.linspace(0, len(dataset) - 1, num=min(SAMPLE, len(dataset))).round().astype(int)
    # In pixels, in pixels, and in parts of the image's shorter side.
    heights, widths, small = [], [], []
    for index in chosen.tolist():
        height, width = dataset.get_height_and_width(index) or dataset.load(index)[0].size[::-1]
        heights.append(height)
        widths.append(width)
        # Relative to the shorter side, which resizing sets: the product of both is the object's side in the network's
        # pixels.
        small += [side / min(height, width) for side in _shorter_sides(dataset, index)]
    # Of all images, not of the sample: the largest count decides on the number of queries.
    counts = dataset.object_counts()
    facts = DataFacts(
        images=len(split),
        classes=len(dataset.class_names),
        height=int(np.median(heights)),
        width=int(np.median(widths)),
        objects=int(np.median(counts)),
        most_objects=int(counts.max()),
        # The tenth part and not the least: one speck must not make every image large.
        small_side=float(np.quantile(small, 0.1)) if small else 1.0,
        generated=cfg.dataset_file == "shapes",
    )
    return facts, None if facts.generated else dataset


def _shorter_sides(dataset: DetectionDataset, index: int) -> list[float]:
    """Shorter sides of an image's objects in pixels of its file; crowds left out."""
    if isinstance(dataset, CocoDetection):
        # Not pycocotools' dictionaries of all images: of millions of objects they would fill the memory.
        sides = dataset.annotations.boxes_of(index)[0][:, 2:].min(1)
        return sides[sides > 0].tolist()
    annotations = dataset.coco.imgToAnns.get(dataset.image_id(index), [])
    boxes = [a["bbox"] for a in annotations if not a.get("iscrowd") and len(a.get("bbox", ())) == 4]
    return [min(width, height) for _, _, width, height in boxes if min(width, height) > 0]


def read_machine_facts(device: torch.device) -> MachineFacts:
    """Look at the machine that this process runs on, with the device of the run."""
    # Cores that this process may use: in a job or a container fewer than the machine has.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):  # not Unix: as a small machine
        memory = 8.0
    kind = accelerator(device)
    name, of_gpu = kind.name(device), kind.memory(device)
    return MachineFacts(cores, memory) if of_gpu is None else MachineFacts(cores, memory, name, of_gpu / 2**30)
