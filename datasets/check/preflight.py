"""Quick look at the data before a run: all images are there, a handful can be decoded, classes agree.

The annotations were read, and repaired or refused, when the datasets were built. `datasets.check` looks at every image.
"""

import os
from collections.abc import Mapping
from os.path import isfile
from pathlib import Path
from typing import cast

import numpy as np
from torch.utils.data import Subset

from util.dist.distributed import all_gather, is_main_process
from util.errors import DatasetError

from ..annotations.findings import Action, Findings
from ..annotations.kinds import DOUBTFUL
from ..coco import CocoDetection
from ..coco_panoptic import CocoPanoptic
from ..image_files import by_base_name, by_file_name, hint_for_missing
from ..interface import DatasetOrSubset, DetectionDataset
from .across import note_class_names
from .images import EXIF, NOT_RGB, ListedImage, inspect, note_images
from .panoptic import explain_no_segment, inspect_segments
from .seen import SeenFolders

HANDFUL = 8
#: So many image files are looked up in lists of their folders.
MANY = 10_000
#: What the whole check reports and nobody needs to read before every training.
HARMLESS = (EXIF.name, NOT_RGB.name)


def check_before_training(splits: Mapping[str, DatasetOrSubset]) -> list[str]:
    """Look at the datasets of the splits, by name, for seconds; returns a line for each thing that is odd.

    Rank 0 looks, every process gets the same answer. A dataset without files (`shapes`) has nothing to look at. Raises
    DatasetError for what would stop training or make it worthless.
    """
    # One process reads the disk; the others would ask a shared file system for the same images.
    answer = all_gather(_look(splits) if is_main_process() else None)[0]
    assert answer is not None  # rank 0's
    lines, error = answer
    if error is not None:
        raise DatasetError(error)
    return lines


def _look(splits: Mapping[str, DatasetOrSubset]) -> tuple[list[str], str | None]:
    """Return the lines, and the first thing that is refused, if any."""
    findings = Findings()
    for name, dataset in splits.items():
        indices, whole = _indices(dataset)
        # Generated images have no files that could be wrong.
        if whole.ann_file is not None:
            error = _missing_files(name, whole, indices)
            if error is not None:
                return [], error
            _add_doubts(whole, findings)
            _look_at_some(whole, indices, findings)
            error = _no_segments(whole, indices)
            if error is not None:
                return [], error
    # Over all splits at once: their names are compared with each other.
    note_class_names([(name, dict(_indices(dataset)[1].class_names)) for name, dataset in splits.items()], findings)
    for finding in findings:
        if finding.action is Action.REFUSED:
            return [], f"{finding.example}: {finding.kind} ({finding.remedy}); --no_check goes on all the same"
    return [f"check of a handful of images: {f.line()}" for f in findings if f.kind not in HARMLESS], None


def _indices(dataset: DatasetOrSubset) -> tuple[np.ndarray, DetectionDataset]:
    """Return the images that are used of the dataset under any number of Subsets."""
    indices = np.arange(len(dataset))
    while isinstance(dataset, Subset):
        # Subsets of subsets: positions are looked up from the outside in.
        indices, dataset = np.asarray(dataset.indices)[indices], cast(DatasetOrSubset, dataset.dataset)
    return indices, dataset


def _missing_files(name: str, dataset: DetectionDataset, indices: np.ndarray) -> str | None:
    """Describe the images that are not there, None where all are."""
    kinds = [("images", dataset.image_path, _not_listed(dataset, indices))]
    if dataset.ann_folder is not None:
        kinds.append(("PNGs", dataset.segments_path, indices))
    for files, path_of, asked in kinds:
        paths = ((index, path_of(index)) for index in asked.tolist())
        # All of them, not a handful: asking for a file costs microseconds, and one missing image ends a run hours
        # later.
        missing = [(index, path) for index, path in paths if path is not None and not isfile(path)]
        if missing:
            index, path = missing[0]
            return (
                f"{path}: no such file (image id {dataset.image_id(index)} of {dataset.ann_file}); "
                f"{len(missing)} of the {len(indices)} {files} of the {name} split are not there{_hint(dataset, index)}"
            )
    return None


def _not_listed(dataset: DetectionDataset, indices: np.ndarray) -> np.ndarray:
    """Return the images whose file is not in the list of its folder: those have to be asked for one by one.

    A list of the folders is a few questions to the file system instead of a million. Few images are not worth a list of
    what may be a large folder.
    """
    if len(indices) < MANY or not isinstance(dataset, CocoDetection):
        return indices
    if dataset.files.find not in (by_file_name, by_base_name):
        return indices
    seen = SeenFolders(dataset, indices)
    if seen.unchanged():
        return indices[:0]
    names = dataset.annotations.file_names()
    known: set[str] = set()
    # Whole names, not a set for each folder: an image then costs a single look.
    there: set[str] = set()
    rest, linked = [], False
    for index in indices.tolist():
        name = names[index]
        if name in there:
            continue
        parent, slash, _ = name.rpartition("/")
        if parent not in known:
            known.add(parent)
            seen.add(parent)
            files, links = _files_in(os.path.join(dataset.files.folder, parent))
            there.update(parent + slash + file for file in files + links)
            # What a link leads to may go without a trace in the folder.
            linked |= bool(links)
        if name not in there:
            rest.append(index)
    if not rest and not linked:
        seen.keep()
    return np.array(rest, dtype=np.int64)


def _files_in(folder: str) -> tuple[list[str], list[str]]:
    """List the names of the files in a folder, and those of links to files."""
    files, links = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.is_file():
                    links.append(entry.name)
    except (OSError, ValueError):  # no such folder, or a name that none can have
        return [], []
    return files, links


def _hint(dataset: DetectionDataset, index: int) -> str:
    if not isinstance(dataset, CocoDetection) or dataset.files.find is by_base_name:
        return ""
    return hint_for_missing(dataset.files.folder, dataset.annotations.file_name(index))


def _look_at_some(dataset: DetectionDataset, indices: np.ndarray, findings: Findings) -> None:
    """Decode a handful of images, spread evenly, and compare them with the annotations."""
    listed = [_listed(dataset, index) for index in _spread(indices)]
    note_images(listed, [inspect(image.path, image.size) for image in listed], Path(str(dataset.ann_file)), findings)


def _add_doubts(dataset: DetectionDataset, findings: Findings) -> None:
    """Add what reading the annotations found likely to be wrong, and went on."""
    for finding in dataset.findings if isinstance(dataset, CocoDetection) else ():
        if finding.kind in DOUBTFUL:
            findings.add(
                finding.kind, finding.action, remedy=finding.remedy, example=finding.example, count=finding.count
            )


def _no_segments(dataset: DetectionDataset, indices: np.ndarray) -> str | None:
    """Describe panoptic PNGs in which not one of the segments of a handful of images is found."""
    if not isinstance(dataset, CocoPanoptic):
        return None
    some = _spread(indices)
    ids = [[segment["id"] for segment in dataset.annotations[index]["segments_info"]] for index in some]
    found = [inspect_segments(dataset.segments_path(index), own) for index, own in zip(some, ids)]
    cause = explain_no_segment(sum(len(own) for own, one in zip(ids, found) if one.error is None), found)
    if cause is None:
        return None
    return f"{dataset.segments_path(some[0])}: not one listed segment is found in {len(some)} PNGs: {cause}"


def _spread(indices: np.ndarray) -> list[int]:
    """Choose a handful of images, spread evenly."""
    places = sorted({round(k) for k in np.linspace(0, len(indices) - 1, num=min(HANDFUL, len(indices)))})
    return [int(indices[place]) for place in places]


def _listed(dataset: DetectionDataset, index: int) -> ListedImage:
    path = dataset.image_path(index)
    assert path is not None  # a dataset with an annotation file has image files
    return ListedImage(dataset.image_id(index), path.name, dataset.get_height_and_width(index), path)
