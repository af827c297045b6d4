"""Results of each batch for the evaluators, and the numbers that they give in the end, under DETR's names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from util.batches import ids_of
from util.targets import Target

from .coco_eval import CocoEvaluator
from .coco_panoptic import CocoPanoptic
from .interface import DetectionDataset
from .panoptic_eval import PanopticEvaluator


def add_results(
    evaluator: CocoEvaluator,
    panoptic: PanopticEvaluator | None,
    postprocessors: dict[str, nn.Module],
    outputs: dict[str, Any],
    targets: Sequence[Target],
    device: torch.device,
) -> None:
    """Give the evaluators what was found in a batch, in pixels of the original images, as COCO's annotations are."""
    image_ids = ids_of(targets)
    originals = _sizes(targets, "orig_size")
    # xyxy in pixels of the file's size: predictions are relative, so the resized size does not matter.
    results = postprocessors["bbox"](outputs, originals.to(device))
    if "segm" in postprocessors:
        results = postprocessors["segm"](results, outputs, originals, _sizes(targets, "size"))
    evaluator.update(dict(zip(image_ids, results)))
    if panoptic is not None:
        # The size without padding first, to cut the canvas; then the original's, to which COCO's PNGs belong.
        images = postprocessors["panoptic"](outputs, _sizes(targets, "size"), originals)
        panoptic.update(image | {"image_id": i} for i, image in zip(image_ids, images))


def _sizes(targets: Sequence[Target], name: str) -> Tensor:
    """Heights and widths (B, 2) of a batch, on the host."""
    return torch.stack([t[name] for t in targets])


def coco_stats(evaluator: CocoEvaluator) -> dict[str, list[float]]:
    """Bring the processes' detections together, print the tables; COCO's 12 numbers under DETR's names."""
    evaluator.synchronize_between_processes()
    evaluator.accumulate()
    evaluator.summarize()
    names = {"bbox": "coco_eval_bbox", "segm": "coco_eval_masks"}
    return {names[kind]: list(evaluator.stats(kind).values()) for kind in evaluator.iou_types}


def panoptic_evaluator(dataset: DetectionDataset, output_dir: str | Path) -> PanopticEvaluator:
    """Return the evaluator of a panoptic dataset; with a folder, it writes its images to `panoptic_eval` there."""
    assert dataset.ann_file is not None and dataset.ann_folder is not None  # of a panoptic dataset they are there
    folder = Path(output_dir) / "panoptic_eval" if output_dir else None
    # A file of 118,000 images takes seconds to parse, at every evaluation.
    data = dataset.listed if isinstance(dataset, CocoPanoptic) else None
    return PanopticEvaluator(dataset.ann_file, dataset.ann_folder, folder, data=data)


def panoptic_stats(evaluator: PanopticEvaluator) -> dict[str, dict[str, float]]:
    """Bring the processes' panoptic images together, print the table; panoptic quality under DETR's names."""
    evaluator.synchronize_between_processes()
    quality = evaluator.summarize()
    return {"PQ_all": quality["All"], "PQ_th": quality["Things"], "PQ_st": quality["Stuff"]}
