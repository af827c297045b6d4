"""The proof that an exported file computes what the model does: outputs of batches, and average precision."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from datasets.coco_eval import CocoEvaluator
from datasets.interface import DetectionDataset
from models.variants.encoder_queries import NOTHING
from util.errors import UserError
from util.nested_tensor import NestedTensor, nested_tensor_from_tensor_list
from util.progress import with_progress

from ..detector import Detector
from ..exported import on_canvas
from ..loading import LoadedModel
from .wrapper import Canvas

#: Largest difference of a probability or a side of the image, and of average precision.
TOLERANCE = 1e-3
AP_TOLERANCE = 1e-3

#: A batch to its outputs.
Model = Callable[[NestedTensor], dict[str, Any]]


class ExportError(UserError):
    """An exported file that does not compute what the model does; it is not kept."""

    exit_code = 1


@dataclass(frozen=True)
class Difference:
    """The largest difference of an output between file and model, and where it is."""

    output: str
    value: float
    place: str


def check_outputs(model: Model, exported: Model, canvas: Canvas, *, image_size: int) -> list[Difference]:
    """Run both on 1, 2 and 5 noisy images of other sizes each; return the largest difference of each output.

    Class and mask outputs are compared as probabilities, boxes in 0..1 of the image; of queries that lie on padding
    (`--queries encoder` with fewer cells than queries) only that both say so. Raises ExportError, which says where, for
    a difference of more than `TOLERANCE`.
    """
    worst: dict[str, Difference] = {}
    for images in _batches(canvas, image_size):
        batch = on_canvas(nested_tensor_from_tensor_list(images), canvas, "the model")
        with torch.no_grad():
            outputs = model(batch)
            ours, theirs = _probabilities(outputs), _probabilities(exported(batch))
        # Cells on padding have equal scores, so which of them fill up the queries, in which order, is anybody's choice.
        hidden = outputs["pred_logits"].amax(-1) <= NOTHING / 2  # (B, Q)
        for name, expected in ours.items():
            found = _compare(name, expected, theirs[name], images, ignored=None if name == "pred_logits" else hidden)
            if name not in worst or found.value > worst[name].value:
                worst[name] = found
    for difference in worst.values():
        if not difference.value <= TOLERANCE:  # NaN is no equality either
            raise ExportError(
                f"{difference.output} of {difference.place} differs from the model's by {difference.value:.2g}; "
                f"{TOLERANCE:g} is allowed, so no file was kept"
            )
    return list(worst.values())


def on_canvas_of(model: Model, canvas: Canvas) -> Model:
    """Return a model that sees batches as an exported one does: on a fixed canvas, where it has one."""
    return lambda batch, **_: model(on_canvas(batch, canvas, "the model"))


def check_average_precision(
    model: LoadedModel, exported: LoadedModel, dataset: DetectionDataset, indices: Sequence[int]
) -> dict[str, tuple[float, float]]:
    """Evaluate both on images of a dataset; return AP of model and file by kind, `bbox` and with masks `segm`.

    Args:
        indices: numbers of the images.

    Raises ExportError for a difference of more than `AP_TOLERANCE`.
    """
    precision = [
        _average_precision(side, dataset, indices, label) for side, label in ((model, "model"), (exported, "file"))
    ]
    both = {kind: (precision[0][kind], precision[1][kind]) for kind in precision[0]}
    for kind, (ours, theirs) in both.items():
        # Written so that NaN fails.
        if not abs(ours - theirs) <= AP_TOLERANCE:
            raise ExportError(
                f"AP ({kind}) of the file is {theirs:.4f} on the validation images, the model's {ours:.4f}; "
                f"{AP_TOLERANCE:g} is allowed, so no file was kept"
            )
    return both


def _average_precision(
    loaded: LoadedModel, dataset: DetectionDataset, indices: Sequence[int], label: str
) -> dict[str, float]:
    kept = {kind: part for kind, part in loaded.postprocessors.items() if kind != "panoptic"}
    detector = Detector(replace(loaded, postprocessors=kept), device=loaded.device, threshold=0)
    kinds = ["bbox", *(["segm"] if "segm" in loaded.postprocessors else [])]
    evaluator = CocoEvaluator(dataset.coco, kinds)
    for index in with_progress(indices, f"AP of the {label}", unit="image"):
        found = detector(dataset.load(index)[0])
        # All queries, for the threshold is 0: average precision counts weak ones too.
        result = {"scores": found.scores, "labels": found.labels, "boxes": found.boxes}
        if found.masks is not None:
            result["masks"] = found.masks[:, None].astype("uint8")
        evaluator.update({dataset.image_id(index): {name: torch.from_numpy(array) for name, array in result.items()}})
    evaluator.accumulate()
    return {kind: evaluator.stats(kind)["AP"] for kind in kinds}


def _batches(canvas: Canvas, image_size: int) -> Iterator[list[Tensor]]:
    """Noise as the model sees it: one image, two, and five, no two of them of one size where sizes are free."""
    generator = torch.Generator().manual_seed(0)
    side = min(max(image_size, 2 * canvas.least), canvas.most or image_size * 2)
    height, width = canvas.fixed or (side, side * 4 // 3)
    if canvas.most is not None:
        width = min(width, canvas.most)
    for count in (1, 2, 5):
        part = 1 if count == 1 else 0.8 if count == 2 else 0.5
        # One image grows where the other shrinks: every one has padding on one side at least, in odd numbers of pixels.
        sizes = [(int(height * part) - 3 * k, int(width * part) - 5 * (count - k)) for k in range(count)]
        yield [torch.randn(3, max(h, canvas.least), max(w, canvas.least), generator=generator) for h, w in sizes]


def _probabilities(outputs: dict[str, Any]) -> dict[str, Tensor]:
    """Outputs on scales where 0.001 means the same: scores, boxes and masks by the names of the outputs."""
    result = {"pred_logits": outputs["pred_logits"].softmax(-1), "pred_boxes": outputs["pred_boxes"]}
    return result | ({"pred_masks": outputs["pred_masks"].sigmoid()} if "pred_masks" in outputs else {})


def _compare(
    name: str, expected: Tensor, found: Tensor, images: Sequence[Tensor], *, ignored: Tensor | None
) -> Difference:
    if expected.shape != found.shape:
        raise ExportError(
            f"{name} of a batch of {len(images)} images is {tuple(found.shape)}, the model's {tuple(expected.shape)}; "
            "no file was kept"
        )
    difference = (found - expected).abs()  # (B, Q, ...)
    # The worst number of each query (B, Q): NaN counts as worst, or argmax could pass over it.
    difference = difference.nan_to_num(nan=torch.inf).flatten(2).amax(-1)
    if ignored is not None:
        difference = difference.masked_fill(ignored, 0)
    image, query = divmod(int(difference.argmax()), difference.shape[1])
    height, width = images[image].shape[-2:]
    place = f"query {query} of image {image + 1} of {len(images)} ({height} x {width} pixels)"
    return Difference(name, float(difference.max()), place)
