"""Train or evaluate a DETR detector.

    python main.py --dataset_file shapes --backbone resnet18 --backbone_weights none ...   no data needed
    python main.py --coco_path DIR --output_dir runs/coco                                  COCO's layout
    python main.py --coco_path DIR --eval --resume runs/coco/best.pth                      evaluate
    torchrun --nproc_per_node=8 main.py --coco_path DIR --output_dir runs/coco             eight GPUs

`python main.py --help` lists the flags; names and defaults are those of the original DETR.
"""

import argparse
import datetime
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Before torch starts its threads: waiting ones sleep instead of spinning. Spinning costs nothing on an idle machine, but
# where a loader's worker or another program shares the cores, a step on the CPU becomes many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import datasets
from datasets.coco_eval import CocoEvaluator
from datasets.loader import make_loader, set_epoch
from engine import evaluate, train_one_epoch
from models import build_model
from util.checkpoint import find_resume, init_from, load_checkpoint, load_model
from util.device import pick_device, seed_everything
from util.distributed import Launch, init_distributed, is_main_process, print_once, shutdown
from util.errors import UserError
from util.flags import FlagParser
from util.launch import let_rank_0_speak
from util.metrics import Progress
from util.plain import to_plain
from util.run_folder import RunFolder, restore_training, write_predictions
from util.run_info import write_run_info
from util.schedule import SCHEDULES, build_lr_scheduler
from util.visualize import draw_evaluation


def get_args_parser() -> argparse.ArgumentParser:
    """All flags, in groups, without `--help`: to be used as a parent of a parser that adds it."""
    parser = FlagParser("DETR", add_help=False)
    _add_training_flags(parser.add_argument_group("training"))
    _add_model_flags(parser.add_argument_group("model"))
    _add_loss_flags(parser.add_argument_group("matcher and loss"))
    _add_data_flags(parser.add_argument_group("data"))
    _add_run_flags(parser.add_argument_group("run"))
    return parser


def _add_training_flags(group) -> None:
    group.add_argument("--lr", default=1e-4, type=float,
                       help="learning rate of everything but the backbone (%(default)s)")  # fmt: skip
    group.add_argument("--lr_backbone", default=1e-5, type=float,
                       help="learning rate of the backbone; 0 freezes it (%(default)s)")  # fmt: skip
    group.add_argument("--batch_size", default=2, type=int, help="pictures per process and step (%(default)s)")
    group.add_argument("--weight_decay", default=1e-4, type=float, help="AdamW's, on every parameter (%(default)s)")
    group.add_argument("--epochs", default=300, type=int, help="passes over the training pictures (%(default)s)")
    group.add_argument("--max_steps", default=0, type=int,
                       help="stop after this many steps, save and evaluate; 0: no limit")  # fmt: skip
    group.add_argument("--lr_schedule", default="step", choices=SCHEDULES,
                       help="how the learning rate falls (%(default)s)")  # fmt: skip
    group.add_argument("--lr_drop", default=200, type=int,
                       help="schedule 'step': a tenth after every so many epochs (%(default)s)")  # fmt: skip
    group.add_argument("--warmup_steps", default=0, type=int,
                       help="steps in which the learning rate rises (0; onecycle: 30 %% of all)")  # fmt: skip
    group.add_argument("--clip_max_norm", default=0.1, type=float,
                       help="largest norm of the gradient; 0: no limit (%(default)s)")  # fmt: skip


def _add_model_flags(group) -> None:
    group.add_argument("--backbone", default="resnet50",
                       help="torchvision ResNet or ResNeXt, or mobilenet_v2 (%(default)s)")  # fmt: skip
    group.add_argument("--backbone_weights", default="imagenet", metavar="imagenet|none|FILE",
                       help="what the backbone starts from; never read when a whole checkpoint is given (%(default)s)")  # fmt: skip
    group.add_argument("--backbone_norm", default="frozen", choices=("frozen", "batch"),
                       help="frozen batch norms and first stages as in DETR, or all trainable, to train from scratch (%(default)s)")  # fmt: skip
    group.add_argument("--dilation", action="store_true", help="dilate the last stage instead of its stride (DC5)")
    group.add_argument("--position_embedding", default="sine", choices=("sine", "learned"),
                       help="position encoding (%(default)s)")  # fmt: skip
    group.add_argument("--enc_layers", default=6, type=int, help="encoder layers (%(default)s)")
    group.add_argument("--dec_layers", default=6, type=int, help="decoder layers (%(default)s)")
    group.add_argument("--dim_feedforward", default=2048, type=int,
                       help="width inside the feed-forward networks (%(default)s)")  # fmt: skip
    group.add_argument("--hidden_dim", default=256, type=int, help="width of the transformer (%(default)s)")
    group.add_argument("--dropout", default=0.1, type=float, help="dropout in the transformer (%(default)s)")
    group.add_argument("--nheads", default=8, type=int, help="heads of every attention (%(default)s)")
    group.add_argument("--num_queries", default=100, type=int,
                       help="object queries: the most objects a picture can have (%(default)s)")  # fmt: skip
    group.add_argument("--pre_norm", action="store_true", help="layer norms before each block instead of after it")
    group.add_argument("--num_classes", default=None, type=int,
                       help="classes (default: the annotations' largest category id + 1)")  # fmt: skip
    group.add_argument("--masks", action="store_true",
                       help="train the mask head (refused: this version detects boxes only)")  # fmt: skip
    group.add_argument("--frozen_weights", default=None,
                       help="detector under a mask head (refused: this version detects boxes only)")  # fmt: skip


def _add_loss_flags(group) -> None:
    group.add_argument("--no_aux_loss", dest="aux_loss", action="store_false",
                       help="no losses on the earlier decoder layers")  # fmt: skip
    group.add_argument("--set_cost_class", default=1, type=float,
                       help="matcher: weight of the class probability (%(default)s)")  # fmt: skip
    group.add_argument("--set_cost_bbox", default=5, type=float,
                       help="matcher: weight of the boxes' L1 distance (%(default)s)")  # fmt: skip
    group.add_argument("--set_cost_giou", default=2, type=float,
                       help="matcher: weight of the boxes' GIoU (%(default)s)")  # fmt: skip
    group.add_argument("--mask_loss_coef", default=1, type=float,
                       help="loss: weight of the masks' focal loss (%(default)s)")  # fmt: skip
    group.add_argument("--dice_loss_coef", default=1, type=float,
                       help="loss: weight of the masks' dice loss (%(default)s)")  # fmt: skip
    group.add_argument("--bbox_loss_coef", default=5, type=float,
                       help="loss: weight of the boxes' L1 distance (%(default)s)")  # fmt: skip
    group.add_argument("--giou_loss_coef", default=2, type=float, help="loss: weight of the boxes' GIoU (%(default)s)")
    group.add_argument("--eos_coef", default=0.1, type=float,
                       help="loss: weight of the class 'no object' (%(default)s)")  # fmt: skip


def _add_data_flags(group) -> None:
    group.add_argument("--dataset_file", default="coco", help="coco, or shapes: drawn on the fly (%(default)s)")
    group.add_argument("--coco_path", default=None, help="folder with train2017, val2017 and annotations")
    group.add_argument("--coco_panoptic_path", default=None,
                       help="folder of the panoptic annotations (refused: boxes only)")  # fmt: skip
    group.add_argument("--remove_difficult", action="store_true",
                       help="accepted for old scripts; COCO has no difficult objects")  # fmt: skip
    group.add_argument("--image_size", default=800, type=int,
                       help="short side in evaluation, and the largest in training (%(default)s)")  # fmt: skip
    group.add_argument("--max_size", default=None, type=int,
                       help="long side at most (1333, in proportion to --image_size)")  # fmt: skip
    group.add_argument("--train_scales", default=None, type=int, nargs="+",
                       help="short sides in training (480 512 ... 800, in proportion)")  # fmt: skip
    group.add_argument("--crop_resize", default=None, type=int, nargs="+",
                       help="short sides before a random crop (400 500 600, in proportion)")  # fmt: skip
    group.add_argument("--crop_size", default=None, type=int, nargs=2, metavar=("MIN", "MAX"),
                       help="sides of the crop (384 600, in proportion)")  # fmt: skip
    group.add_argument("--train_size", default=4000, type=int, help="shapes: training pictures (%(default)s)")
    group.add_argument("--val_size", default=200, type=int, help="shapes: held-out pictures (%(default)s)")
    group.add_argument("--fast_dev_run", default=1.0, type=float, metavar="FRACTION",
                       help="use this random part of the pictures (1.0: all)")  # fmt: skip
    group.add_argument("--num_workers", default=2, type=int, help="processes that load pictures (%(default)s)")


def _add_run_flags(group) -> None:
    group.add_argument("--output_dir", default="",
                       help="folder for checkpoints, logs and pictures; none: nothing is saved")  # fmt: skip
    group.add_argument("--device", default="cuda", help="cuda or cpu (%(default)s; cpu where there is no GPU)")
    group.add_argument("--seed", default=42, type=int, help="of everything random (%(default)s)")
    group.add_argument("--resume", default="",
                       help="go on from a checkpoint: a file, an https address, or auto: the newest in --output_dir")  # fmt: skip
    group.add_argument("--init_from", default="", help="start a new run from what fits of a checkpoint's weights")
    group.add_argument("--start_epoch", default=0, type=int, help="first epoch; --resume sets it")
    group.add_argument("--eval", action="store_true", help="evaluate once and stop; writes predictions.json")
    group.add_argument("--print_freq", default=10, type=int, help="steps between two lines of the log (%(default)s)")
    group.add_argument("--world_size", default=1, type=int,
                       help="accepted for old scripts; the launcher says how many processes")  # fmt: skip
    group.add_argument("--dist_url", default="env://", help="where processes meet (%(default)s)")


def check_flags(args: argparse.Namespace) -> None:
    """Refuse values that cannot work, before anything is built. Raises UserError."""
    at_least = dict(epochs=0, max_steps=0, warmup_steps=0, num_workers=0, batch_size=1, lr_drop=1, print_freq=1, enc_layers=0,
                    dec_layers=1, hidden_dim=1, dim_feedforward=1, nheads=1, num_queries=1, image_size=1, train_size=1, val_size=1)  # fmt: skip
    for name, least in at_least.items():
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least {least}")
    if args.hidden_dim % args.nheads or args.hidden_dim % 4:
        raise UserError(f"--hidden_dim {args.hidden_dim}: must be a multiple of 4 and of --nheads {args.nheads}")
    if args.set_cost_class == args.set_cost_bbox == args.set_cost_giou == 0:
        raise UserError("--set_cost_class, --set_cost_bbox and --set_cost_giou cannot all be 0")
    if args.dataset_file == "coco_panoptic" or args.coco_panoptic_path:
        raise UserError("--dataset_file coco_panoptic: this version detects boxes only; use coco")
    if args.resume and args.init_from:
        raise UserError("--resume goes on with a run and --init_from starts a new one: give one of them")
    if args.resume == "auto" and not args.output_dir:
        raise UserError("--resume auto looks in --output_dir: give that too")


def main(args: argparse.Namespace) -> None:
    """Build everything the flags ask for, then evaluate or train. Raises UserError for what the user can mend."""
    check_flags(args)
    args.device = str(pick_device(args.device))
    launch = init_distributed(device=args.device, dist_url=args.dist_url, world_size=args.world_size)
    seed_everything(args.seed, rank=launch.rank)

    dataset_train = None if args.eval else build_split("train", args)
    if dataset_train is not None:  # the class count is the training set's, and the held-out set is checked against it
        args.num_classes = args.num_classes or datasets.unwrap(dataset_train).num_classes
    dataset_val = build_split("val", args)
    info = datasets.unwrap(dataset_val if args.eval else dataset_train)
    args.num_classes = args.num_classes or info.num_classes
    describe_data(dataset_train, dataset_val, info, args)

    checkpoint_path = find_resume(args.resume, args.output_dir) or args.init_from
    checkpoint = load_checkpoint(checkpoint_path) if checkpoint_path else None
    if checkpoint is not None or launch.rank > 0:
        args.backbone_weights = "none"  # a checkpoint brings them; other ranks get those of rank 0
    model, criterion, postprocessors = build_model(args)
    print_once(f"number of params: {count_trainable(model)}")
    if args.init_from:
        print_once(describe_init(*init_from(model, checkpoint), path=args.init_from))
        checkpoint = None
    elif checkpoint is not None:
        load_model(model, checkpoint, checkpoint_path)

    if args.output_dir and not args.eval and is_main_process():
        write_run_info(args.output_dir, args)
    model = wrap_model(model, launch)
    loader_val = build_loader(dataset_val, args, launch, train=False)
    base_ds = datasets.get_coco_api_from_dataset(dataset_val)

    def evaluate_now() -> tuple[dict, CocoEvaluator]:
        return evaluate(model, criterion, postprocessors, loader_val, base_ds, torch.device(args.device),
                        args.output_dir, print_freq=args.print_freq)  # fmt: skip

    if args.eval:
        if checkpoint is None:
            print_once("note: --eval without --resume measures a model that has not been trained")
        evaluator = evaluate_now()[1]
        if args.output_dir and is_main_process():
            print(f"wrote {write_predictions(args.output_dir, evaluator.results('bbox'))}")
    else:
        loader_train = build_loader(dataset_train, args, launch, train=True)
        evaluator = train(args, launch, model, criterion, loader_train, evaluate_now, checkpoint, info.class_names)
    if evaluator is not None and args.output_dir and is_main_process():
        draw_evaluation(Path(args.output_dir) / "detections.png", dataset_val, evaluator)


def train(
    args: argparse.Namespace,
    launch: Launch,
    model: nn.Module,
    criterion: nn.Module,
    loader: DataLoader,
    evaluate_now: Callable[[], tuple[dict, CocoEvaluator]],
    checkpoint: dict | None,
    class_names: dict[int, str],
) -> CocoEvaluator | None:
    """The epoch loop: train, evaluate, log, save. Returns the last evaluation, None when nothing was left to do."""
    optimizer = build_optimizer(model, lr=args.lr, lr_backbone=args.lr_backbone, weight_decay=args.weight_decay)
    start = restore_training(checkpoint, optimizer, args, steps_per_epoch=len(loader))
    total_steps = min(args.epochs * len(loader), args.max_steps or sys.maxsize)
    if start.step >= total_steps:
        print_once(f"nothing to do: step {start.step} of {total_steps} is done; raise --epochs or --max_steps to go on")
        return None
    lr_scheduler = build_lr_scheduler(
        optimizer, done_steps=start.step, schedule=args.lr_schedule, total_steps=total_steps,
        steps_per_epoch=len(loader), lr_drop=args.lr_drop, warmup_steps=args.warmup_steps,
    )  # fmt: skip
    store = RunFolder(args.output_dir, first_epoch=start.epoch) if args.output_dir and is_main_process() else None
    progress = Progress(total=total_steps, done=start.step)
    step, best_ap, began = start.step, start.best_ap, time.monotonic()
    for epoch in range(start.epoch, args.epochs):
        set_epoch(loader, epoch)
        seed_everything(args.seed, rank=launch.rank, epoch=epoch)
        steps = min(len(loader), total_steps - step)
        train_stats = train_one_epoch(
            model, criterion, loader, optimizer, torch.device(args.device), epoch, args.clip_max_norm,
            lr_scheduler=lr_scheduler, steps=steps, print_freq=args.print_freq, progress=progress,
        )  # fmt: skip
        step += steps
        test_stats, evaluator = evaluate_now()
        is_best = test_stats["coco_eval_bbox"][0] > best_ap
        best_ap = max(best_ap, test_stats["coco_eval_bbox"][0])
        if store is not None:
            store.log(log_row(train_stats, test_stats, epoch, count_trainable(model)))
            store.save(
                {
                    "model": without_wrapper(model).state_dict(), "optimizer": optimizer.state_dict(),
                    "lr_scheduler": lr_scheduler.state_dict(), "epoch": epoch, "args": to_plain(vars(args)),
                    "step": step, "steps_per_epoch": len(loader), "best_ap": best_ap, "class_names": class_names,
                },
                is_best=is_best,
                keep=(epoch + 1) % args.lr_drop == 0 or (epoch + 1) % 100 == 0,
            )  # fmt: skip
        if step >= total_steps:
            break
    progress.close()
    print_once(f"Training time {datetime.timedelta(seconds=int(time.monotonic() - began))}")
    return evaluator


def build_split(image_set: str, args: argparse.Namespace) -> Dataset:
    """A split's dataset, or the part of it that --fast_dev_run asks for."""
    return datasets.subset(datasets.build_dataset(image_set, args), args.fast_dev_run, args.seed)


def build_loader(dataset: Dataset, args: argparse.Namespace, launch: Launch, *, train: bool) -> DataLoader:
    """Batches of a split: shuffled and whole in training, in order and complete in evaluation."""
    return make_loader(
        dataset, batch_size=args.batch_size, shuffle=train, drop_last=train, num_workers=args.num_workers,
        seed=args.seed, rank=launch.rank, world_size=launch.world_size,
    )  # fmt: skip


def describe_data(train_set: Dataset | None, val_set: Dataset, info: Dataset, args: argparse.Namespace) -> None:
    """Say what was found: pictures, classes, and pictures with more objects than there are queries."""
    sizes = [
        f"{len(ds)} {name} pictures" for name, ds in (("training", train_set), ("held-out", val_set)) if ds is not None
    ]
    print_once(
        f"{args.dataset_file}: {', '.join(sizes)}; {len(info.class_names)} classes: {', '.join(info.class_names.values())}"
    )
    counts = info.object_counts()
    crowded = int((counts > args.num_queries).sum())
    if crowded:
        print_once(
            f"warning: --num_queries {args.num_queries} is less than the objects of {crowded} of {len(counts)} pictures (up to "
            f"{counts.max()}); the objects beyond it are not learned"
        )


def describe_init(loaded: list[str], left: list[str], *, path: str) -> str:
    """One line on what --init_from took over and what it left as it was."""
    rest = f"; left as initialised: {', '.join(left)}" if left else ""
    return f"--init_from {path}: {len(loaded)} tensors loaded{rest}"


def wrap_model(model: nn.Module, launch: Launch) -> nn.Module:
    """DistributedDataParallel around the model when there are several processes."""
    if not launch.distributed:
        return model
    return DistributedDataParallel(model, device_ids=None if launch.gpu is None else [launch.gpu])


def without_wrapper(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel, or the model itself."""
    return model.module if isinstance(model, DistributedDataParallel) else model


def count_trainable(model: nn.Module) -> int:
    """Parameters that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def build_optimizer(model: nn.Module, *, lr: float, lr_backbone: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over two groups, the backbone with its own learning rate; the order is that of DETR's checkpoints."""
    trainable = [(n, p) for n, p in without_wrapper(model).named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in trainable if "backbone" not in n]},
        {"params": [p for n, p in trainable if "backbone" in n], "lr": lr_backbone},
    ]
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)


def log_row(train_stats: dict, test_stats: dict, epoch: int, n_parameters: int) -> dict:
    """An epoch's line of log.txt with DETR's keys."""
    train_part = {f"train_{name}": value for name, value in train_stats.items()}
    test_part = {f"test_{name}": value for name, value in test_stats.items()}
    return train_part | test_part | {"epoch": epoch, "n_parameters": n_parameters}


def cli(argv: list[str] | None = None) -> int:
    """Run from the command line: 0 when all went well, else one line on stderr and the error's exit code."""
    parser = FlagParser(prog="main.py", description=__doc__.splitlines()[0], parents=[get_args_parser()])
    try:
        main(parser.parse_args(argv))
    except UserError as error:
        if is_main_process() or not error.on_every_rank:
            print(f"main.py: error: {error.line()}", file=sys.stderr, flush=True)
        if error.on_every_rank:
            let_rank_0_speak(os.environ)
        return error.exit_code
    except KeyboardInterrupt:
        print_once("stopped; --resume auto goes on from the last epoch that was saved")
        return 130
    finally:
        shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(cli())
