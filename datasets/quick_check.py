"""The look at the data before training: are all pictures there, can a handful be decoded, do the splits agree on the classes?

The annotations were read, and repaired or refused, when the datasets were built. `datasets.check` looks at every picture.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset, Subset

from datasets.class_names import note_class_names
from datasets.findings import Action, Findings
from datasets.picture_check import EXIF, NOT_RGB, Listed, inspect, note_pictures
from util.errors import PictureError

HANDFUL = 8
#: What the whole check reports and nobody needs to read before every training.
HARMLESS = (EXIF.name, NOT_RGB.name)


def check_before_training(splits: Mapping[str, Dataset]) -> list[str]:
    """Look at the datasets of the splits, by name, for seconds; returns a line for each thing that is odd.

    A dataset without files (`shapes`) has nothing to look at. Raises PictureError, which one process may raise alone,
    for what would stop training or make it worthless.
    """
    findings = Findings()
    for name, dataset in splits.items():
        indices, whole = _indices(dataset)
        if hasattr(whole, "picture_path"):
            _check_files(name, whole, indices)
            _look_at_some(whole, indices, findings)
    whole = {name: _indices(dataset)[1] for name, dataset in splits.items()}
    note_class_names([(name, dataset.class_names) for name, dataset in whole.items()], findings)
    for finding in findings:
        if finding.action is Action.REFUSED:
            raise PictureError(f"{finding.example}: {finding.kind} ({finding.remedy}); --no_check trains all the same")
    return [f"check of a handful of pictures: {f.line()}" for f in findings if f.kind not in HARMLESS]


def _indices(dataset: Dataset) -> tuple[np.ndarray, Dataset]:
    """The pictures that are used of the dataset under any number of Subsets."""
    indices = np.arange(len(dataset))
    while isinstance(dataset, Subset):
        indices, dataset = np.asarray(dataset.indices)[indices], dataset.dataset
    return indices, dataset


def _check_files(name: str, dataset: Dataset, indices: np.ndarray) -> None:
    for what, path_of in (("pictures", dataset.picture_path), ("PNGs", getattr(dataset, "segments_path", None))):
        missing = [] if path_of is None else [index for index in indices.tolist() if not path_of(index).is_file()]
        if missing:
            raise PictureError(
                f"{path_of(missing[0])}: no such file (image id {dataset.image_id(missing[0])} of {dataset.ann_file}); "
                f"{len(missing)} of the {len(indices)} {what} of the {name} split are not there"
            )


def _look_at_some(dataset: Dataset, indices: np.ndarray, findings: Findings) -> None:
    """Decode a handful of pictures, spread evenly, and compare them with the annotations."""
    places = sorted({round(k) for k in np.linspace(0, len(indices) - 1, num=min(HANDFUL, len(indices)))})
    listed = [_listed(dataset, int(indices[place])) for place in places]
    note_pictures(listed, [inspect(picture.path) for picture in listed], Path(dataset.ann_file), findings)


def _listed(dataset: Dataset, index: int) -> Listed:
    path = dataset.picture_path(index)
    return Listed(dataset.image_id(index), path.name, dataset.get_height_and_width(index), path)
