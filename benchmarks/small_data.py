"""Train torchvision's detectors on few images as long as ours, and set the average precisions side by side.

    python benchmarks/small_data.py --detector faster_rcnn --lr 5e-4 --backbone_weights FILE -- --data_path DIR
    python benchmarks/small_data.py --table runs/bccd/log.txt benchmarks/small_data-*.json

The first trains and writes its curve; the second prints a line for each run, by quarters of its time. Flags after `--`
are those of `main.py`: data, image size and augmentation go through the same code as in our runs, so both see the same
pictures. AdamW with weight decay 1e-4, batches of 4, a warm-up of 50 steps, then the learning rate falls in a line to
5 % with the time. Time is that of this process on its cores, in training alone: evaluations and other programs do not
count. Give as many `--threads` as our run had.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import run_data
from benchmarks.report import benchmark_parser, write_report
from benchmarks.rivals import RIVALS, read_weights, trainable
from datasets.coco_eval import CocoEvaluator
from datasets.loader import set_epoch
from flags import get_args_parser
from flags.given import with_defaults
from util.box_ops import box_cxcywh_to_xyxy
from util.dist.device import seed_everything
from util.dist.distributed import Launch
from util.flags import FlagParser
from util.nested_tensor import NestedTensor
from util.targets import Target

#: The numbers that are compared.
SCORES = ("AP", "AP50", "AR100")
WARM_UP = 50
#: Evaluations of a run, at equal times.
EVALUATIONS = 8
QUARTERS = (0.25, 0.5, 0.75, 1.0)


def parse_args() -> argparse.Namespace:
    """Flags of the benchmark; `main_flags` are those after `--`."""
    parser = benchmark_parser("small_data", __doc__, original=False)
    parser.add_argument("--detector", choices=sorted(RIVALS), help="the one to train (%(choices)s)")
    parser.add_argument("--lr", type=float, default=5e-4, help="learning rate of all parameters (%(default)s)")
    parser.add_argument("--minutes", type=float, default=20, help="CPU minutes of training alone (%(default)s)")
    parser.add_argument("--backbone_weights", metavar="FILE", help="ImageNet weights of a MobileNetV2")
    parser.add_argument(
        "--table", nargs="+", type=Path, metavar="FILE", help="print log.txt and JSON files side by side"
    )
    parser.add_argument("main_flags", nargs="*", help="after --: flags of main.py")
    args = parser.parse_args()
    if not args.table and not (args.detector and args.backbone_weights):
        parser.error("give --detector and --backbone_weights FILE to train, or --table FILES to compare")
    return args


def to_rival(samples: NestedTensor, targets: Sequence[Target]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return images (3, h, w) in 0..1 without padding, and boxes in pixels, as torchvision's detectors take them."""
    images, objects = [], []
    for image, target in zip(samples.tensors, targets):
        h, w = target["size"].tolist()
        # Without DETR's padding and as 0..1: torchvision's detectors normalise and pad themselves.
        images.append(image[:, :h, :w] / 255)
        # Relative centre and size to corners in pixels.
        boxes = box_cxcywh_to_xyxy(target["boxes"]) * torch.tensor([w, h, w, h])
        whole = (boxes[:, 2:] > boxes[:, :2]).all(1)  # torchvision refuses boxes without a side
        objects.append({"boxes": boxes[whole], "labels": target["labels"][whole]})
    return images, objects


@torch.no_grad()
def evaluate(model: nn.Module, data: run_data.Data, loader: DataLoader) -> dict[str, Any]:
    """Return COCO's numbers on the validation images, and AP50 of each class: one that is not found shows there."""
    model.eval()
    evaluator = CocoEvaluator(data.truth, ("bbox",))
    for samples, targets in loader:
        images, _ = to_rival(samples, targets)
        for image, target, found in zip(images, targets, model(images)):
            # From pixels of the model's input to those of the file.
            scale = target["orig_size"].flip(0).repeat(2) / torch.tensor(image.shape[-2:]).flip(0).repeat(2)
            evaluator.update({int(target["image_id"]): found | {"boxes": found["boxes"] * scale}})
    evaluator.accumulate()
    model.train()
    classes = {row["name"]: row["AP50"] for row in evaluator.per_class("bbox")}
    return {name: evaluator.stats("bbox")[name] for name in SCORES} | {"AP50 of classes": classes}


def batches(loader: DataLoader, seed: int) -> Iterator[Any]:
    """Yield training batches without end, each epoch with an order and crops of its own."""
    epoch = 0
    while True:
        set_epoch(loader, epoch)
        seed_everything(seed, rank=0, epoch=epoch)
        yield from loader
        epoch += 1


def train(args: argparse.Namespace, cfg: argparse.Namespace) -> list[dict[str, Any]]:
    """Train for the time given; return minutes, steps and scores at equal parts of it."""
    seed_everything(cfg.seed, rank=0)
    data = run_data.build_data(cfg)
    loaders = run_data.build_loaders(data, cfg, Launch())
    assert loaders.train is not None
    sides = {"height": cfg.image_size, "width": cfg.max_size or cfg.image_size * 4 // 3}
    model = RIVALS[args.detector](read_weights(args.backbone_weights), data.num_classes, **sides).train()
    optimizer = torch.optim.AdamW(trainable(model), lr=args.lr, weight_decay=1e-4)
    budget, spent, step = args.minutes * 60, 0.0, 0
    curve: list[dict[str, Any]] = []
    stream = batches(loaders.train, cfg.seed)
    while spent < budget:
        began = time.process_time()
        for group in optimizer.param_groups:
            # A linear rise, then down to a twentieth by the time that is spent: how many steps fit in is not known
            # before.
            group["lr"] = args.lr * min((step + 1) / WARM_UP, max(0.05, 1 - spent / budget))
        total = torch.stack(list(model(*to_rival(*next(stream))).values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(trainable(model), 10.0)  # against the first steps alone; later norms are smaller
        optimizer.step()
        spent += time.process_time() - began
        step += 1
        # Evaluations do not count as time: a slow evaluation would cost a detector training.
        if spent >= budget * (len(curve) + 1) / EVALUATIONS:
            curve.append({"minutes": spent / 60, "steps": step, **evaluate(model, data, loaders.val)})
            print(json.dumps(curve[-1]), f"loss {total.item():.3f}", flush=True)
    return curve


def curve_of(path: Path) -> list[dict[str, float]]:
    """Return minutes and scores of a JSON of this benchmark, or of a run's log.txt (training time alone)."""
    if path.suffix == ".json":
        return json.loads(path.read_text())["curve"]
    curve, minutes, step = [], 0.0, 0
    for row in map(json.loads, path.read_text().splitlines()):
        minutes += (row["global_step"] - step) * row["train_step_time"] / 60  # a mean over the epoch's steps
        step = row["global_step"]
        # Of averaged weights where the run has them: --ema is part of how it learns.
        stats = row.get("test_ema_coco_eval_bbox") or row.get("test_coco_eval_bbox")
        if stats:
            curve.append({"minutes": minutes, "AP": stats[0], "AP50": stats[1], "AR100": stats[8], "steps": step})
    return curve


def print_table(paths: Sequence[Path]) -> None:
    """Print AP, AP50 and AR of each run at each quarter of its time: the last evaluation before it."""
    names = {path: path.stem if path.suffix == ".json" else path.parent.name for path in paths}
    width = max(map(len, names.values()))
    print(f"{'AP, AP50, AR after':{width}}  " + "  ".join(f"{f'{share:.0%}':^20}" for share in QUARTERS))
    for path, name in names.items():
        curve = curve_of(path)
        end = curve[-1]["minutes"]
        cells = []
        for share in QUARTERS:
            # A hundredth of room: the last evaluation comes just behind its time.
            seen = [point for point in curve if point["minutes"] <= end * share * 1.01]
            cells.append(" ".join(f"{seen[-1][score]:6.3f}" for score in SCORES) if seen else "")
        print(f"{name:{width}}  " + "  ".join(f"{cell:20}" for cell in cells) + f"  {end:.1f} min")


def main() -> None:
    """Train and write the curve, or print the table."""
    args = parse_args()
    if args.table:
        return print_table(args.table)
    torch.set_num_threads(args.threads)
    parser = FlagParser(parents=[get_args_parser()])
    cfg = with_defaults(parser.parse_args(["--dataset_file", "custom", "--batch_size", "4", *args.main_flags]))
    curve = train(args, cfg)
    medians = {args.detector: {name: curve[-1][name] for name in SCORES}}
    variant = f"{args.detector}-lr{args.lr:g}"
    write_report("small_data", args, medians=medians, unit="", better="higher", variant=variant, curve=curve)


if __name__ == "__main__":
    main()
