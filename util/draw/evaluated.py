"""Every image of an evaluation with its detections, a file each."""

from pathlib import Path

from torch.utils.data import Subset

from ..progress import with_progress
from ..runs.atomic import atomic_file
from .boxes import draw_detections
from .sheets import DetectionResults, DrawableDataset, detections_by_image, objects_of


def save_evaluated(
    folder: Path, dataset: DrawableDataset | Subset, evaluator: DetectionResults, *, threshold: float
) -> int:
    """Write the images of a dataset, or of a Subset of it, as `IMAGE_ID.jpg`; return how many.

    Detections that score less than `threshold` are left out.
    """
    places, source = list(range(len(dataset))), dataset
    while isinstance(source, Subset):
        # Numbers in the Subset become numbers in the dataset itself, level by level.
        places, source = [source.indices[k] for k in places], source.dataset  # type: ignore[assignment]
    folder.mkdir(parents=True, exist_ok=True)
    found = detections_by_image(evaluator, [source.image_id(k) for k in places], min_score=threshold)
    for k in with_progress(places, "--save_images", unit="image"):
        objects = objects_of(found[source.image_id(k)])
        picture = draw_detections(
            source.load(k)[0],
            objects.boxes,
            objects.labels,
            scores=objects.scores,
            masks=objects.masks,
            class_names=source.class_names,
        )
        with atomic_file(folder / f"{source.image_id(k)}.jpg", sync=False) as file:
            picture.save(file, format="JPEG", quality=92)
    return len(places)
