"""The check of one panoptic split: the images, and whether every PNG holds the segments that are listed for it."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from util.errors import DatasetError, ImageError
from util.progress import with_progress

from ..annotations.findings import Action, Findings
from ..annotations.kinds import CROWDED, NEGATIVES, UNUSED_CATEGORIES, Kind
from ..annotations.masks import Size
from ..coco_panoptic import CocoPanoptic, open_split, read_segments
from ..layout import Split
from .images import ImageFacts, ListedImage, inspect_all, note_images, note_repeats
from .report import SplitReport
from .split import SplitCheck

BAD_PNG = Kind(
    "panoptic PNGs that are not there or cannot be decoded", Action.REFUSED, "training would stop at the first"
)
OTHER_SIZE = Kind("panoptic PNGs of another size than their image", Action.REFUSED, "training would stop at the first")
NO_PIXELS = Kind("segments without a pixel in their PNG", Action.REPAIRED, "dropped")
STRAY_PIXELS = Kind("PNGs with pixels of segments that are not listed", Action.KEPT, "the pixels belong to nothing")
NO_SEGMENT = Kind(
    "splits in whose PNGs not one listed segment is found", Action.REFUSED, "there is nothing to learn from them"
)
NO_THINGS = Kind("classes without a single thing", Action.KEPT, "PQ of things is not defined")
NO_STUFF = Kind("classes without any stuff", Action.KEPT, "PQ of stuff is not defined")


@dataclass(frozen=True)
class SegmentFacts:
    """The content of a panoptic PNG: its size, segments listed without a pixel, segments (not 0) that are not listed.

    `error` says why it cannot be read.
    """

    size: Size = (0, 0)
    lacking: tuple[int, ...] = ()
    stray: tuple[int, ...] = ()
    error: str | None = None
    #: How many of the segments are there when the PNG's channels are read in the order blue, green, red.
    found_in_bgr: int = 0


def check_panoptic_split(name: str, split: Split, num_queries: int, num_classes: int | None) -> SplitCheck:
    """Read a split's panoptic annotations and decode all its images and PNGs; there is nothing to repair in a file."""
    report = SplitReport(name, split)
    try:
        dataset = open_split(img_folder=split.images, ann_file=split.annotations, num_classes=num_classes)
    except DatasetError as error:
        report.error = str(error)
        return SplitCheck(report, [], [])
    indices = range(len(dataset))
    listed = [
        ListedImage(
            dataset.image_id(k),
            dataset.images[k]["file_name"],
            dataset.get_height_and_width(k),
            dataset.image_path(k),
        )
        for k in indices
    ]
    # Decodes every image: a file that is cut would otherwise end the training in the middle of an epoch.
    facts = inspect_all(listed, label=f"{name} images")
    note_images(listed, facts, split.annotations, report.findings)
    note_repeats(listed, facts, split.annotations, report.findings)
    _note_segments(dataset, listed, facts, report.findings, label=f"{name} PNGs")
    _measure(dataset, report)
    _note_counts(dataset, report, num_queries)
    return SplitCheck(report, listed, facts)


def inspect_segments(path: Path, ids: Sequence[int]) -> SegmentFacts:
    """Decode the panoptic PNG at `path` and compare it with the segments `ids` that are listed for it."""
    try:
        owners = read_segments(path, described="the segments")
    except ImageError as error:
        return SegmentFacts(error=str(error))
    # (H, W) ids of segments, 0 where there is none.
    # The ids of an image, found once: one comparison of all pixels for each listed id would be slow.
    seen = torch.unique(owners).tolist()
    lacking = tuple(id_ for id_ in ids if id_ not in seen)
    # PNGs written by OpenCV, which takes colours for blue, green, red: the ids are mirrored, and no segment is found.
    swapped = {swap_red_and_blue(id_) for id_ in seen}
    return SegmentFacts(
        (owners.shape[0], owners.shape[1]),
        lacking,
        # 0 is the unlabelled part of an image, and right.
        tuple(id_ for id_ in seen if id_ and id_ not in ids),
        found_in_bgr=len(swapped.intersection(ids)),
    )


def swap_red_and_blue(id_: int) -> int:
    """Return the id of a segment's colour with its first and last channel exchanged."""
    red, green, blue = id_ % 256, id_ // 256 % 256, id_ // 256**2
    return blue + 256 * green + 256**2 * red


def explain_no_segment(listed: int, found: Sequence[SegmentFacts]) -> str | None:
    """Say why none of the `listed` segments is found in the PNGs that can be read; None where one is."""
    read = [segments for segments in found if segments.error is None]
    lacking = sum(len(segments.lacking) for segments in read)
    # One segment that is found shows that the colours are meant as they are.
    if not read or not listed or lacking < listed:
        return None
    in_bgr = sum(segments.found_in_bgr for segments in read)
    # Some ids are palindromes of colours, and found either way: half of them is no accident.
    if in_bgr > listed / 2:
        return "their channels are in the order blue, green, red: an id is red + 256 green + 65536 blue"
    return "none of their colours is a segment's id (red + 256 green + 65536 blue)"


def _note_segments(
    dataset: CocoPanoptic, listed: Sequence[ListedImage], facts: Sequence[ImageFacts], findings: Findings, *, label: str
) -> None:
    paths = [dataset.segments_path(index) for index in range(len(dataset))]
    ids = [[segment["id"] for segment in annotation["segments_info"]] for annotation in dataset.annotations]
    # Threads suffice: Pillow decodes without holding Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        work = pool.map(inspect_segments, paths, ids)
        found = list(with_progress(work, label, unit="PNG", total=len(paths)))
    cause = explain_no_segment(sum(len(own) for own, one in zip(ids, found) if one.error is None), found)
    if cause is not None:
        _add(findings, NO_SEGMENT, f"{dataset.ann_file}: {paths[0]}: {cause}")
    for image, fact, path, segments in zip(listed, facts, paths, found, strict=True):
        source = f"{dataset.ann_file}: image {image.image_id}: {path}"
        if segments.error is not None:
            _add(findings, BAD_PNG, f"{dataset.ann_file}: image {image.image_id}: {segments.error}")
            continue
        if fact.error is None and fact.size != segments.size:
            _add(findings, OTHER_SIZE, f"{source}: {segments.size} where the image has {fact.size} (height, width)")
        if segments.lacking:
            _add(findings, NO_PIXELS, f"{source}: segment {segments.lacking[0]}", len(segments.lacking))
        if segments.stray:
            _add(findings, STRAY_PIXELS, f"{source}: segment {segments.stray[0]}")


def _measure(dataset: CocoPanoptic, report: SplitReport) -> None:
    segments = [segment for annotation in dataset.annotations for segment in annotation["segments_info"]]
    report.images = len(dataset)
    report.class_names = dict(dataset.class_names)
    report.counts = dataset.object_counts()
    report.labels = np.array([segment["category_id"] for segment in segments], dtype=np.int64)
    # Of the area, not of a box: the side of a square with as many pixels.
    report.sides = np.sqrt([max(0.0, segment["area"]) for segment in segments])


def _note_counts(dataset: CocoPanoptic, report: SplitReport, num_queries: int) -> None:
    findings, source = report.findings, dataset.ann_file
    for kind, odd in ((NEGATIVES, report.counts == 0), (CROWDED, report.counts > num_queries)):
        for index in np.flatnonzero(odd).tolist():
            _add(findings, kind, f"{source}: image {dataset.image_id(index)}: segments {report.counts[index]}")
    for id_, count in report.class_counts().items():
        if not count:
            _add(findings, UNUSED_CATEGORIES, f"{source}: category {id_}: name {dataset.class_names[id_]!r}")
    for kind, wanted in ((NO_THINGS, True), (NO_STUFF, False)):
        if wanted not in dataset.is_thing.values():
            _add(findings, kind, f"{source}: isthing is {int(not wanted)} in all categories")


def _add(findings: Findings, kind: Kind, example: str, count: int = 1) -> None:
    findings.add(kind.name, kind.action, remedy=kind.remedy, example=example, count=count)
