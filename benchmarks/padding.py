"""AP at batch 1 and N, with and without --padding_invariant, of a trained `shapes` model on images of mixed sizes.

    python benchmarks/padding.py --resume runs/shapes/best.pth --batch_size 8

The images are those of the split `test`, which no run trains or selects on, each scaled and cropped to a size of its
own. The model is the checkpoint's, built by the flags in it, once with and once without the flag. Beside AP stands the
largest distance of a detection from its place at batch 1. Prints a table and writes a dated JSON.
"""

import argparse
import sys
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import benchmark_parser, write_report
from datasets.annotations import index_coco
from datasets.coco_eval import CocoEvaluator
from datasets.shapes.dataset import ShapesDataset
from datasets.transforms import IMAGENET_MEAN, IMAGENET_STD, Compose, Normalize, ToTensor, crop, resize
from flags import get_args_parser
from models import build_model
from models.postprocess import PostProcess
from util.dist.device import pick_device
from util.errors import CheckpointError, UserError
from util.nested_tensor import nested_tensor_from_tensor_list
from util.runs.checkpoint import load_checkpoint, load_model

#: Sides of the scaled image, as a part of --image_size, and the part of each that the crop keeps.
SCALES, KEPT = (0.9, 1.1), (0.9, 1.0)

Detections = dict[int, dict[str, Tensor]]


class MixedSizes(Dataset):
    """The images of a ShapesDataset, each with a size and shape that depend on its index alone."""

    def __init__(self, shapes: ShapesDataset) -> None:
        self.shapes = shapes
        self.normalize = Compose([ToTensor(), Normalize(IMAGENET_MEAN, IMAGENET_STD)])

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return (image (3, H, W), target), with H and W the original's size as far as evaluation goes."""
        return self.normalize(*self.load(index))

    def load(self, index: int) -> tuple:
        """Return the PIL image and its target, boxes xyxy in pixels; objects cut away are gone."""
        # By index, not in turn: an image is the same in every order, batch and call, and so is its truth in `coco`.
        rng = np.random.default_rng([self.shapes.seed, index])
        # Boxes are still xyxy in pixels here; `normalize` makes them cxcywh in [0, 1].
        image, target = self.shapes.load(index)
        side = round(rng.uniform(*SCALES) * self.shapes.image_size)
        # Two parts: sides shrink apart from each other, so the batch has padding on the right and at the bottom.
        height, width = (max(1, round(side * part)) for part in rng.uniform(*KEPT, size=2))
        top, left = rng.integers(side - height + 1), rng.integers(side - width + 1)
        image, target = crop(*resize(image, target, (side, side)), (int(top), int(left), height, width))
        # Detections are scaled to `orig_size`: the truth below is that of the crop, not of the whole image.
        return image, {**target, "orig_size": target["size"]}

    @cached_property
    def coco(self) -> COCO:
        """The ground truth of all images."""
        images: list[dict] = []
        annotations: list[dict] = []
        for index in range(len(self)):
            target = self.load(index)[1]
            height, width = target["size"].tolist()
            images.append({"id": index, "height": height, "width": width})
            # COCO's boxes are xywh, ours are corners.
            for (x0, y0, x1, y1), label, area in zip(*(target[k].tolist() for k in ("boxes", "labels", "area"))):
                box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": 0, "category_id": label}
                annotations.append({"id": len(annotations) + 1, "image_id": index, **box})
        categories = [{"id": id_, "name": name} for id_, name in self.shapes.class_names.items()]
        return index_coco({"images": images, "annotations": annotations, "categories": categories})


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Flags of the benchmark. Raises UserError for counts that measure nothing."""
    parser = benchmark_parser("padding", __doc__, original=False, threads=False)
    parser.add_argument(
        "--resume", required=True, metavar="FILE", help="checkpoint of a run with --dataset_file shapes"
    )
    parser.add_argument("--images", type=int, default=200, help="how many (%(default)s)")
    parser.add_argument("--batch_size", type=int, default=8, help="N, compared with 1 (%(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (%(default)s)")
    args = parser.parse_args(argv)
    for name, least in (("images", 1), ("batch_size", 2)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least {least}")
    return args


def flags_of(checkpoint: dict, path: str) -> argparse.Namespace:
    """Return the flags that a checkpoint was trained with. Raises CheckpointError where it is not of a `shapes` run."""
    flags = checkpoint.get("args", {})
    if flags.get("dataset_file") != "shapes":
        raise CheckpointError(
            f"--resume {path}: its flags say --dataset_file {flags.get('dataset_file')}, this needs shapes"
        )
    # Today's defaults first: the checkpoint may be older than a flag. No weights are read, the checkpoint has them all.
    return argparse.Namespace(**vars(get_args_parser().parse_args([])) | flags | {"backbone_weights": "none"})


def build(checkpoint: dict, flags: argparse.Namespace, path: str, *, padding_invariant: bool) -> nn.Module:
    """The checkpoint's model, for evaluation, with or without the flag."""
    # The flag has no weights of its own: one checkpoint fits both.
    flags = argparse.Namespace(**vars(flags) | {"padding_invariant": padding_invariant})
    model = build_model(flags)[0]
    load_model(model, checkpoint, path)
    return model.eval()


@torch.no_grad()
def detect(model: nn.Module, dataset: MixedSizes, *, batch_size: int, device: str, label: str) -> Detections:
    """Scores, labels and boxes of every image by its index, in batches of neighbours."""
    found: Detections = {}
    with tqdm(total=len(dataset), desc=label, disable=None, leave=False) as bar:
        for first in range(0, len(dataset), batch_size):
            indices = range(first, min(first + batch_size, len(dataset)))
            images, targets = zip(*(dataset[i] for i in indices))
            # Neighbours are padded to the largest height and width among them: here a batch begins to matter.
            outputs = model(nested_tensor_from_tensor_list(images).to(device))
            sizes = torch.stack([t["orig_size"] for t in targets]).to(device)
            found |= zip(indices, PostProcess()(outputs, sizes))
            bar.update(len(indices))
    return {index: {name: value.cpu() for name, value in d.items()} for index, d in found.items()}


def average_precision(dataset: MixedSizes, detections: Detections) -> dict[str, float]:
    """COCO's numbers."""
    evaluator = CocoEvaluator(dataset.coco, ("bbox",))
    evaluator.update(detections)
    evaluator.accumulate()
    return evaluator.stats("bbox")


def largest_move(detections: Detections, alone: Detections) -> dict[str, float]:
    """Largest difference of a query's score, and of its box in pixels, from those at batch 1."""
    return {
        # Query by query: the postprocessor keeps their order, so row q is the same query in both.
        name: max((detections[i][key] - alone[i][key]).abs().max().item() for i in alone)
        for name, key in (("score_moves", "scores"), ("box_moves", "boxes"))
    }


def measure(args: argparse.Namespace) -> list[dict]:
    """Measure a row for each of the flag off and on, batch 1 and N."""
    checkpoint = load_checkpoint(args.resume)
    flags = flags_of(checkpoint, args.resume)
    flags.device = args.device = str(pick_device(args.device))
    shapes = ShapesDataset(image_set="test", size=args.images, image_size=flags.image_size, seed=flags.seed)
    dataset = MixedSizes(shapes)
    rows: list[dict] = []
    alone: Detections = {}
    for padding_invariant in (False, True):
        model = build(checkpoint, flags, args.resume, padding_invariant=padding_invariant)
        for batch_size in (1, args.batch_size):
            label = f"flag {'on' if padding_invariant else 'off'}, batch {batch_size}"
            found = detect(model, dataset, batch_size=batch_size, device=args.device, label=label)
            # The reference is of the same flag: what moves is moved by the batch alone, and batch 1 itself shows 0.
            alone = found if batch_size == 1 else alone
            row = {"padding_invariant": padding_invariant, "batch_size": batch_size}
            rows.append(row | largest_move(found, alone) | average_precision(dataset, found))
    return rows


def table(rows: list[dict]) -> str:
    """The rows in Markdown."""
    lines = ["| --padding_invariant | batch | AP | AP50 | AP75 | a score moves by up to | a box by up to |"]
    lines.append("|---|---|---|---|---|---|---|")
    for r in rows:
        precisions = " | ".join(f"{r[name]:.3f}" for name in ("AP", "AP50", "AP75"))
        moves = f"{r['score_moves']:.2g} | {r['box_moves']:.2g} px"
        lines.append(f"| {'on' if r['padding_invariant'] else 'off'} | {r['batch_size']} | {precisions} | {moves} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, and write the JSON; 2 and one line for what the user can mend."""
    try:
        args = parse_args(argv)
        rows = measure(args)
    except UserError as error:
        print(f"padding.py: error: {error.line()}", file=sys.stderr)
        return error.exit_code
    print(table(rows))
    medians = {
        f"batch {row['batch_size']}, --padding_invariant {'on' if row['padding_invariant'] else 'off'}": {
            "AP": row["AP"]
        }
        for row in rows
    }
    write_report("padding", args, medians=medians, unit="AP", better="higher", rows=rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
