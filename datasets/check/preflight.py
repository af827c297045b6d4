"""The look at the data before training: are all images there, can a handful be decoded, do the splits agree on the classes?

The annotations were read, and repaired or refused, when the datasets were built. `datasets.check` looks at every image.
"""

from collections.abc import Mapping
from os.path import isfile
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset, Subset

from util.dist.distributed import all_gather, is_main_process
from util.errors import DatasetError

from ..annotations.class_names import note_class_names
from ..annotations.findings import Action, Findings
from .images import EXIF, NOT_RGB, Listed, inspect, note_images

HANDFUL = 8
#: What the whole check reports and nobody needs to read before every training.
HARMLESS = (EXIF.name, NOT_RGB.name)


def check_before_training(splits: Mapping[str, Dataset]) -> list[str]:
    """Look at the datasets of the splits, by name, for seconds; returns a line for each thing that is odd.

    Rank 0 looks, every process gets the same answer. A dataset without files (`shapes`) has nothing to look at. Raises
    DatasetError for what would stop training or make it worthless.
    """
    lines, error = all_gather(_look(splits) if is_main_process() else None)[0]
    if error is not None:
        raise DatasetError(error)
    return lines


def _look(splits: Mapping[str, Dataset]) -> tuple[list[str], str | None]:
    """The lines, and the first thing that is refused, if any."""
    findings = Findings()
    for name, dataset in splits.items():
        indices, whole = _indices(dataset)
        if hasattr(whole, "image_path"):
            error = _missing_files(name, whole, indices)
            if error is not None:
                return [], error
            _look_at_some(whole, indices, findings)
    whole = {name: _indices(dataset)[1] for name, dataset in splits.items()}
    note_class_names([(name, dataset.class_names) for name, dataset in whole.items()], findings)
    for finding in findings:
        if finding.action is Action.REFUSED:
            return [], f"{finding.example}: {finding.kind} ({finding.remedy}); --no_check trains all the same"
    return [f"check of a handful of images: {f.line()}" for f in findings if f.kind not in HARMLESS], None


def _indices(dataset: Dataset) -> tuple[np.ndarray, Dataset]:
    """The images that are used of the dataset under any number of Subsets."""
    indices = np.arange(len(dataset))
    while isinstance(dataset, Subset):
        indices, dataset = np.asarray(dataset.indices)[indices], dataset.dataset
    return indices, dataset


def _missing_files(name: str, dataset: Dataset, indices: np.ndarray) -> str | None:
    """What is said of images that are not there, None where all are."""
    for what, path_of in (("images", dataset.image_path), ("PNGs", getattr(dataset, "segments_path", None))):
        missing = [] if path_of is None else [index for index in indices.tolist() if not isfile(path_of(index))]
        if missing:
            return (
                f"{path_of(missing[0])}: no such file (image id {dataset.image_id(missing[0])} of {dataset.ann_file}); "
                f"{len(missing)} of the {len(indices)} {what} of the {name} split are not there"
            )
    return None


def _look_at_some(dataset: Dataset, indices: np.ndarray, findings: Findings) -> None:
    """Decode a handful of images, spread evenly, and compare them with the annotations."""
    places = sorted({round(k) for k in np.linspace(0, len(indices) - 1, num=min(HANDFUL, len(indices)))})
    listed = [_listed(dataset, int(indices[place])) for place in places]
    note_images(listed, [inspect(image.path) for image in listed], Path(dataset.ann_file), findings)


def _listed(dataset: Dataset, index: int) -> Listed:
    path = dataset.image_path(index)
    return Listed(dataset.image_id(index), path.name, dataset.get_height_and_width(index), path)
